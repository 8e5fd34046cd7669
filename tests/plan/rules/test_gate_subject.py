"""What is held against a reference where an engine cannot run here: the graph that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autovoice.backends.loading import session_of
from autovoice.errors import BuildError
from autovoice.plan.rules import Step, steps_of
from autovoice.plan.rules.gate_subject import gate_subject
from autovoice.plan.rules.step import loader
from autovoice.spec import RUNS_HERE, Backend, Component, Implicit
from tests.builders import BF16, FP16, INT8, ORT, component, graph_of, quantized

RUNNER = replace(ORT, types=("float32", "float16", "int8"))
MEASURED = ("verify", "race", "swaps", "latency", "end_to_end")


def elsewhere(backend: Backend, precision: str) -> Mapping[str, Any]:
    return {"tool": "1.0", RUNS_HERE: False}


def elsewhere_by_itself(backend: Backend, precision: str) -> Mapping[str, Any]:
    return {"implicit_int8": True, RUNS_HERE: False}


AWAY = Backend(
    "away",
    "autovoice.backends.torch.backend.Torch",
    ("float32", "float16", "bfloat16", "int8"),
    environment=f"{__name__}.elsewhere",
    passes=("lift_conv1d",),
    profiled=True,
    gated_by=RUNNER,
)


def by_id(*components: Component, **changes: Any) -> dict[str, Step]:
    return {s.id: s for s in steps_of(graph_of(*components, **changes))}


def measured(steps: Mapping[str, Step]) -> set[str]:
    return {i for i, s in steps.items() if s.kind in MEASURED}


def test_the_rewritten_graph_is_run_by_the_backend_that_gates() -> None:
    steps = by_id(component("a", precision=FP16, backend=AWAY), component("b", ("a_out",), precision=FP16))
    assert measured(steps) == {"a.verify", "b.verify", "end_to_end"}
    graph = loader(RUNNER) | {"file": "model.onnx"}
    assert (steps["a.verify"].fields["backend"], steps["a.verify"].needs["build"]) == (graph, "a.passes")
    assert steps["a.verify"].fields["gates"] == {"snr_db": 30}
    assert RUNNER.target in steps["a.verify"].targets
    assert AWAY.target not in steps["a.verify"].targets
    whole = steps["end_to_end"]
    assert (whole.needs["build:a"], whole.needs["build:b"]) == ("a.passes", "b.build")
    assert whole.fields["components"]["a"]["backend"] == graph
    assert "file" not in whole.fields["components"]["b"]["backend"]


def test_without_passes_it_is_the_lowered_graph() -> None:
    assert by_id(component("a", backend=replace(AWAY, passes=())))["a.verify"].needs["build"] == "a.lower"


def test_an_engine_that_runs_here_is_what_is_held() -> None:
    here = component("a", backend=replace(AWAY, environment=None))
    assert gate_subject(here.primary).description == {"of": "engine"}  # type: ignore[union-attr]
    assert by_id(here)["a.verify"].needs["build"] == "a.build"


@pytest.mark.parametrize(
    "c",
    [
        component("a", backend=replace(AWAY, gated_by=None)),
        component("a", precision=BF16, backend=AWAY),
        component("a", backend=replace(AWAY, from_module=True)),
        quantized(
            "a",
            precision=replace(INT8, implicit=Implicit()),
            backend=replace(AWAY, environment=f"{__name__}.elsewhere_by_itself"),
        ),
    ],
    ids=["nobody gates", "another type", "made from a module", "quantized while it is built"],
)
def test_where_no_graph_can_stand_for_the_engine_nothing_is_held(c: Component) -> None:
    assert gate_subject(c.primary) is None


def test_one_component_that_nothing_is_held_of_leaves_the_whole_open() -> None:
    ungated = component("a", backend=replace(AWAY, gated_by=None))
    steps = by_id(ungated, component("b", ("a_out",), backend=AWAY))
    assert measured(steps) == {"b.verify"}


def test_what_is_quantized_is_gated_swapped_and_not_timed() -> None:
    """Nothing is built to be timed against either."""
    steps = by_id(
        quantized("a", precision=INT8, backend=AWAY), quantized("b", ("a_out",), precision=INT8, backend=AWAY)
    )
    assert measured(steps) == {"a.verify", "b.verify", "swaps", "end_to_end"}
    assert not [i for i in steps if "fp32" in i]


def test_a_graph_that_cannot_be_loaded_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    given = loader(RUNNER) | {"file": "model.onnx"}
    with pytest.raises(BuildError) as raised, session_of(given, tmp_path, ["y"]):
        pass
    fact, fix = str(raised.value).split("\n  ")
    assert "model.onnx: is not an ONNX file that can be read: " in fact
    assert fix == "backend.gated_by=null builds engines that nothing holds against a gate"
