from __future__ import annotations

from pathlib import Path

import pytest

from autovoice.calibration.dataset.signature import parameters_of

CODE = """
from functools import cache
from os.path import join

def plain(files, /, inputs, *, samples=8, **more): ...

@cache
def decorated(files): ...

class Made:
    def __init__(self, files, seed=0): ...

class Bare: ...
"""


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("plain", {"files", "inputs", "samples"}),
        ("Made", {"self", "files", "seed"}),
        ("decorated", None),
        ("Bare", None),
        ("join", None),
        ("absent", None),
    ],
)
def test_arguments_are_read_where_the_code_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: set[str] | None
) -> None:
    (tmp_path / "source_to_read.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    assert parameters_of(f"source_to_read.{name}") == arguments


@pytest.mark.parametrize("target", ["no_such_module.source", "os.path.join.nothing", "math.sqrt"])
def test_what_cannot_be_read_is_unknown(target: str) -> None:
    assert parameters_of(target) is None
