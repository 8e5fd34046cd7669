"""The step that asks the module itself: what it refuses, and what it notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autovoice.errors import ExportError
from autovoice.measure.points import POINTS, load_point, save_point
from autovoice.steps.context import Context
from autovoice.steps.reference import run


def referred(name: str, tmp_path: Path) -> dict[str, Any]:
    for i, point in enumerate(POINTS):
        save_point(tmp_path, point, {"x": np.full((i + 1, 5, 8), i + 1, np.float32)})
    tensor = {"dtype": "float32", "shape": ["n", 5, 8]}
    out = tmp_path / "out"
    out.mkdir()
    fields: dict[str, Any] = {
        "model": {"target": f"tests.modules.test_determinism.{name}", "kwargs": {}},
        "checkpoint": None,
        "seed": 0,
        "reads": {"x": {"role": "inputs", "wire": "x"}},
        "inputs": {"x": tensor},
        "outputs": {"y": tensor | {"wire": "out"}},
        "output_order": ["y"],
        "formulas": {},
    }
    return run(Context(fields, {"inputs": tmp_path}, {}, out))


@pytest.mark.parametrize("name", ["Noisy", "Streaming"])
def test_nothing_is_written_of_a_module_that_no_graph_can_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"of {name} (is random|changes buffer)"):
        referred(name, tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_every_point_and_what_is_to_be_said(tmp_path: Path) -> None:
    assert referred("Counts", tmp_path) == {
        "from": "torch",
        "notes": ["forward() changes buffer 'calls', on which no output depends: the engine leaves it"],
    }
    found = [load_point(tmp_path / "out", p)["out"] for p in POINTS]
    assert [f.shape[0] for f in found] == [1, 2, 3, 4]
    assert all((f == 2 * (i + 1)).all() for i, f in enumerate(found))
