"""Several outputs of one component: which is which, by position or by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from autovoice import Pipeline

if TYPE_CHECKING:
    from tests.conftest import Project


def pair(project: Project, *order: str) -> Project:
    """Both ways to return two tensors, their outputs declared in this order."""
    tensor = {"dtype": "float32", "shape": ["n", "length"]}
    components = {
        name: {
            "model": {"_target_": f"chime.split.{target}"},
            "inputs": ["x"],
            "outputs": {f"{name}_{o}": {**tensor, "onnx_name": o} for o in order},
        }
        for name, target in (("placed", "Split"), ("named", "SplitByName"))
    }
    return project.pipeline("pair", components, {"x": tensor})


def answers(project: Project) -> dict[str, float]:
    """What each output gives for zeros."""
    with Pipeline.load(project.outputs / "pair" / "onnxruntime-fp32") as pipeline:
        return {name: float(v[0, 0]) for name, v in pipeline.run({"x": np.zeros((1, 4), np.float32)}).items()}


@pytest.fixture(scope="module")
def built(toy_project: Project) -> Project:
    project = pair(toy_project, "above", "below")
    project.ok()
    return project


def test_a_tuple_is_named_by_position_and_a_dictionary_by_its_keys(built: Project) -> None:
    assert answers(built) == {"placed_above": 1, "placed_below": -1, "named_above": 1, "named_below": -1}


def test_outputs_declared_in_another_order_are_exported_again(built: Project) -> None:
    project = pair(built, "below", "above")
    planned = project.plan()
    assert {planned[f"{name}.{step}"] for name in ("placed", "named") for step in ("export", "reference")} == {
        ("run", "output_order ['above', 'below'] → ['below', 'above']")
    }
    project.ok()
    assert answers(project) == {"placed_below": 1, "placed_above": -1, "named_below": -1, "named_above": 1}
