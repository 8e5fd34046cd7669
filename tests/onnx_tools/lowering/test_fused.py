"""What members keep and quantize, each in the names of its own graph, as one policy of the graph they became."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from autovoice.errors import LoweringError
from autovoice.onnx_tools.lowering.exclude import kept_nodes
from autovoice.onnx_tools.lowering.fused import in_fused_names
from autovoice.onnx_tools.lowering.policy import chosen_nodes
from autovoice.onnx_tools.ranges import read_ranges, write_ranges
from autovoice.steps import fuse, ranges_fused
from autovoice.steps.context import Context
from autovoice.store.atomic import RANGES
from tests.onnx_models import keep, saved, two_layers

ALL = {"op_types": ["MatMul"], "include": [], "exclude": [], "first": True, "last": True}


@pytest.fixture
def needs(tmp_path: Path) -> dict[str, Path]:
    """The exports of two members that call everything the same, and what they were merged into."""
    found: dict[str, Path] = {}
    for seed, name in enumerate("ab"):
        found[f"export:{name}"] = tmp_path / name
        (tmp_path / name).mkdir()
        saved(two_layers(np.random.default_rng(seed)), tmp_path / name / "model.onnx")
    members = [
        {"name": "a", "inputs": {"x": {"wire": "x"}}, "outputs": {"y": {"wire": "mid"}}},
        {"name": "b", "inputs": {"x": {"wire": "mid"}}, "outputs": {"y": {"wire": "y"}}},
    ]
    out = tmp_path / "ab"
    out.mkdir()
    result = fuse.run(Context({"members": members, "inputs": {"x": {}}, "outputs": {"y": {}}}, found, {}, out))
    assert result == {"nodes": 6}
    return {"export": out, **found}


def resolved(needs: dict[str, Path], a: dict[str, Any], b: dict[str, Any], **fields: Any) -> Any:
    nothing = {"keep": keep(), "own_keep": keep()}
    given = {"members": {"a": nothing | a, "b": nothing | b}, "keep": keep(), **fields}
    return in_fused_names(given, needs)


def kept(needs: dict[str, Path], fields: Any) -> list[str]:
    return kept_nodes(onnx.load(needs["export"] / "model.onnx"), fields["keep"])


def test_other_steps_keep_their_fields() -> None:
    fields = {"keep": keep(nodes=["n"])}
    assert in_fused_names(fields, {}) is fields


def test_nodes_that_one_member_keeps(needs: dict[str, Path]) -> None:
    assert kept(needs, resolved(needs, {"keep": keep(nodes=["n_b"])}, {})) == ["a.n_b"]
    assert kept(needs, resolved(needs, {}, {"keep": keep(op_types=["Tanh"])})) == ["b.n_b"]


def test_types_that_all_keep_stay_types(needs: dict[str, Path]) -> None:
    found = resolved(needs, {"keep": keep(op_types=["Tanh", "MatMul"])}, {"keep": keep(op_types=["Tanh"])})
    assert found["keep"] == {"op_types": ["Tanh"], "nodes": ["a.n_a", "a.n_y"], "inputs": []}


def test_inputs_are_the_members_own(needs: dict[str, Path]) -> None:
    assert kept(needs, resolved(needs, {}, {"keep": keep(inputs=["x"])})) == ["b.n_a", "b.n_b", "b.n_y"]


def test_first_and_last_are_the_members_own(needs: dict[str, Path]) -> None:
    a, b = {"quantize": ALL | {"first": False}}, {"quantize": ALL | {"exclude": ["w2"]}}
    found = resolved(needs, a, b, quantize=ALL | {"first": False})
    model = onnx.load(needs["export"] / "model.onnx")
    assert chosen_nodes(model, found["quantize"], found["keep"]) == ["a.n_y", "b.n_a"]


def test_a_member_that_quantizes_nothing(needs: dict[str, Path]) -> None:
    nothing, model = ALL | {"op_types": []}, onnx.load(needs["export"] / "model.onnx")
    found = resolved(needs, {"quantize": nothing}, {"quantize": ALL}, quantize=ALL)
    assert chosen_nodes(model, found["quantize"], found["keep"]) == ["b.n_a", "b.n_y"]
    found = resolved(needs, {"quantize": nothing}, {"quantize": nothing}, quantize=ALL)
    assert chosen_nodes(model, found["quantize"], found["keep"]) == []


def test_a_pattern_that_matches_nothing_is_told_with_the_member(needs: dict[str, Path]) -> None:
    with pytest.raises(LoweringError, match=r"^b: quantize\.exclude: 'w3' matches no node and no weight"):
        resolved(needs, {"quantize": ALL}, {"quantize": ALL | {"exclude": ["w3"]}}, quantize=ALL)
    own = keep(nodes=["n_c"])
    with pytest.raises(LoweringError, match=r"^a: keep\.nodes: 'n_c' matches nothing"):
        resolved(needs, {"keep": own, "own_keep": own}, {})


def test_what_members_ask_for_is_checked_once(needs: dict[str, Path]) -> None:
    own = keep(inputs=["x"])
    found = resolved(needs, {"keep": own, "own_keep": own}, {}, own_keep=own)
    assert found["own_keep"] == keep()


def test_ranges_have_the_names_of_the_merged_graph(needs: dict[str, Path], tmp_path: Path) -> None:
    for name, high in (("a", 1.0), ("b", 2.0)):
        folder = tmp_path / f"ranges_{name}"
        folder.mkdir()
        tensors = {t: (-high, high) for t in ("x", "a", "b", "y")}
        write_ranges(folder / RANGES, "", 8, "minmax", tensors)
        (folder / "record.json").write_text(json.dumps({"result": {"samples": 8}}))
        needs[f"ranges:{name}"] = folder
    out = tmp_path / "ranges"
    out.mkdir()
    assert ranges_fused.run(Context({}, needs, {}, out)) == {"tensors": 7, "samples": 8}
    assert {t: high for t, (_, high) in read_ranges(out / RANGES).items()} == {
        **{"x": 1, "a.a": 1, "a.b": 1, "mid": 2},  # seen by both: the range of both
        **{"b.a": 2, "b.b": 2, "y": 2},
    }
