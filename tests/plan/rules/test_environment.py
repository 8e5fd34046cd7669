"""What a backend says of this machine: asked once, an error as often as it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from autovoice.errors import BuildError, ConfigError
from autovoice.plan.rules.environment import described, environment
from autovoice.spec import Backend

ASKED: list[tuple[Any, str]] = []
OWN = Backend("own", "", ("float32",), {"level": [1]}, environment=f"{__name__}.answers", describe=f"{__name__}.words")


def answers(backend: Backend, precision: str) -> Mapping[str, Any]:
    ASKED.append((backend.options["level"], precision))
    if backend.options["level"] == "bad":
        raise BuildError("no such level", "another")
    return {"level": backend.options["level"]}


def words(backend: Backend) -> str:
    return f"on level {backend.options['level']}"


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    ASKED.clear()
    monkeypatch.setattr("autovoice.plan.rules.environment._ANSWERS", {})


def test_the_same_question_is_asked_once() -> None:
    same = replace(OWN, options={"level": [1]})
    assert environment(OWN, "float32") is environment(same, "float32")
    assert ASKED == [([1], "float32")]


def test_another_option_or_type_is_another_question() -> None:
    other = replace(OWN, options={"level": [2]})
    assert environment(OWN, "float32") != environment(other, "float32")
    environment(OWN, "float16")
    assert ASKED == [([1], "float32"), ([2], "float32"), ([1], "float16")]


def test_an_error_is_raised_each_time() -> None:
    bad = replace(OWN, options={"level": "bad"})
    for _ in range(2):
        with pytest.raises(BuildError, match="no such level"):
            environment(bad, "float32")
    assert len(ASKED) == 2


def test_words_of_its_own() -> None:
    assert described(OWN) == ("on level [1]",)
    assert described(replace(OWN, describe=None)) == ()
    with pytest.raises(ConfigError, match=r"backend\.describe: 'no\.such' cannot be imported"):
        described(replace(OWN, describe="no.such"))
