"""Every YAML of the shipped tree, found by a recursive glob: its first words, its composition, its graph."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import open_dict

from autovoice.config.compose import Composed, compose, conf_dir, plain, start
from autovoice.errors import ConfigError
from tests.builders import graph_from

FILES = sorted(str(p.relative_to(conf_dir()).with_suffix("")) for p in conf_dir().rglob("*.yaml"))
OPTIONS = [f for f in FILES if "/" in f and not f.startswith("hydra/")]

#: options that the shipped backend refuses, each in its own words
REFUSED = {"precision/bf16": r"onnxruntime cannot run bf16 \(bfloat16\)\n  it runs float16, float32: precision=fp32"}


def command(file: str) -> list[str]:
    """The words after `autovoice` in a file's opening comment, which only a package directive may precede."""
    lines = Path(conf_dir(), f"{file}.yaml").read_text().splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert first.startswith("# autovoice"), f"{file}.yaml opens with {first!r}, not with the command that runs it"
    return shlex.split(first.removeprefix("# autovoice"))


def checked(composed: Composed, file: str) -> None:
    """Build the graph, or be refused where that is what should happen."""
    if file in REFUSED:
        with pytest.raises(ConfigError, match=REFUSED[file]):
            graph_from(composed)
    else:
        targets = tuple(composed.data["targets"])
        graph = graph_from(composed)
        assert graph.components[-1].name in (targets or ("vocoder",))


def test_the_glob_finds_every_group() -> None:
    groups = {"audio", "backend", "calibration", "component", "dims", "experiment", "gate", "pipeline", "precision"}
    assert {f.partition("/")[0] for f in OPTIONS} == groups


@pytest.mark.parametrize("file", FILES)
def test_opens_with_a_command_that_takes_it_and_has_a_sound_graph(file: str) -> None:
    overrides = [word for word in command(file) if not word.startswith("-")]
    config = start(None).compose_config("config", overrides, run_mode=RunMode.RUN)
    choices = {k.partition("@")[0]: v for k, v in config.hydra.runtime.choices.items()}
    group, _, option = file.rpartition("/")
    assert file == "config" or choices[group] == option
    with open_dict(config):
        del config["hydra"]
    checked(plain(config, overrides), file)


@pytest.mark.parametrize("file", OPTIONS)
def test_every_option_composes_and_its_graph_is_sound(file: str) -> None:
    group, _, option = file.rpartition("/")
    checked(compose(None, [f"{group}={option}"]), file)
