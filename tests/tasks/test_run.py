"""What a task that runs a pipeline says of it beside its answer."""

from __future__ import annotations

from typing import Any, Self

import pytest

from autovoice.tasks import run


class Noting:
    """A pipeline in which something goes otherwise than configured while it runs."""

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ("synth: torch in place of it",)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_what_went_otherwise_while_it_ran_is_said_in_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "_loaded", lambda _: Noting())
    nothing: Any = None
    with run.loaded(nothing) as pipeline:
        assert capsys.readouterr().out == " synth: torch in place of it\n"
        pipeline.notes = (*pipeline.notes, "synth: no CUDA graph")
    assert capsys.readouterr() == ("", "warning: synth: no CUDA graph\n")
