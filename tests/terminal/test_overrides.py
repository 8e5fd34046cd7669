"""Overrides as they are typed: through a shell, through Hydra, to the very value."""

from __future__ import annotations

import shlex
import subprocess
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from autovoice.terminal.overrides import nameable, override, setting, word, written

TEXTS = (
    *("ckpt/epoch=9-step=10.ckpt", "my models/net (1).pt", "~/net.pt", "é.pt", "a,b", "{a}", "[a].pt", "a:b", "it's"),
    *('a"b', 'a\\"b', "a\\", "a\\\\", '\\"', "C:\\new\\x", "$HOME", "${seed}", "\\${seed}", "`x`", "!x", "#x", "x;y"),
    *("", " ", "true", "NULL", "1.5", ".5", "1e3", "nan", "007", "-", "*", "a b", "😀", "x" * 3000, "./x", "a/../b"),
)
PARSER = OverridesParser.create()


def through_hydra(text: str) -> Any:
    config = OmegaConf.create({"seed": 3, "k": {"x": None}})
    OmegaConf.update(config, "k.x", PARSER.parse_override(text).value())
    found = config.k.x
    return OmegaConf.to_container(found) if OmegaConf.is_config(found) else found


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: t[:20])
def test_any_text_arrives_as_it_is(text: str) -> None:
    (typed,) = shlex.split(setting("k.x", text))
    assert through_hydra(typed) == text


def test_a_shell_reads_it_too() -> None:
    """Control characters among it, which only a shell's own escapes bring onto one line."""
    texts = [*TEXTS, "a\nb", "\t", "a\n'\\\"b"]
    words = [setting("k.x", text) for text in texts]
    assert not any("\n" in w for w in words)
    script = f"printf '%s\\0' {' '.join(words)}"
    out = subprocess.run(["bash", "-c", script], capture_output=True, check=True, text=True).stdout
    assert [through_hydra(o) for o in out.split("\0")[:-1]] == texts


@pytest.mark.parametrize(
    "value",
    [
        3,
        1.5,
        True,
        None,
        [],
        {},
        ["a b", 1],
        {"path": "a=b", "strict": False},
        [["t", 8], {"k": ["é"]}],
        "null",
        [None],
    ],
    ids=str,
)
def test_plain_data_arrive_as_they_are(value: Any) -> None:
    (typed,) = shlex.split(setting("k.x", value))
    assert through_hydra(typed) == value


def test_words_stay_readable() -> None:
    assert setting("targets", ["vocoder"]) == "targets=[vocoder]"
    assert setting("component.c.checkpoint", "ckpt/net.pt") == "component.c.checkpoint=ckpt/net.pt"
    expected = """'component.c.checkpoint="ckpt/epoch=9-step=10.ckpt"'"""
    assert setting("component.c.checkpoint", "ckpt/epoch=9-step=10.ckpt") == expected
    assert written({"min": 1, "opt": 2}) == "{min: 1, opt: 2}"


def test_what_no_override_can_name_is_a_line_of_a_file() -> None:
    assert override("component.c.inputs.a b", "x") == '"a b": x, under component.c.inputs in its file'
    assert override("é", "x") == '"é": x'
    assert override("dims", "{n: 3}") == "dims: {n: 3}, in its file"
    assert override("precision/odd.type", "float32") == "type: float32, in precision/odd.yaml"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("dims.n.max", True),
        ("+component/c", True),
        ("~a.0", True),
        ("a b", False),
        ("é", False),
        ("", False),
        ("a.", False),
    ],
)
def test_what_can_be_named(key: str, expected: bool) -> None:
    assert nameable(key) == expected


def test_a_word_without_anything_odd_is_as_a_shell_quotes_it() -> None:
    assert word("a b") == "'a b'"
    assert word("a'\n") == "$'a\\'\\x0a'"
