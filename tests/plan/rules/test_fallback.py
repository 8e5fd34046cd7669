from __future__ import annotations

from dataclasses import replace

import pytest

from autovoice.errors import BuildError, ConfigError
from autovoice.graph.wiring import Graph
from autovoice.plan.rules import Step, environment, steps_of
from autovoice.spec import RUNS_HERE, OnnxFile
from tests.builders import FP16, GATE, ORT, component, graph_of, quantized

OTHER = replace(ORT, name="other", types=("float32",), options={"threads": 2})
MODULES = replace(OTHER, from_module=True)


def steps(graph: Graph) -> dict[str, Step]:
    return {s.id: s for s in steps_of(graph)}


def test_a_build_in_float32_beside_held_against_the_reference() -> None:
    guarded = steps(graph_of(component("a", precision=FP16, on_mismatch="other", fallback=OTHER)))
    plain = steps(graph_of(component("a", precision=FP16)))
    assert guarded.keys() - plain.keys() == {"a.lower_fallback", "a.build_fallback", "a.verify_fallback"}
    assert {i: guarded[i] for i in plain} == plain  # the engine itself is the same one
    build, verify = guarded["a.build_fallback"], guarded["a.verify_fallback"]
    assert build.fields["backend"] == {"name": "other", "target": ORT.target, "options": {"threads": 2}}
    assert build.fields["precision"]["type"] == "float32"
    assert build.needs == {"lower": "a.lower_fallback"}
    assert verify.needs["build"] == "a.build_fallback"
    assert verify.fields["gates"] == {"snr_db": GATE.component["snr_db"]["fp32"]}


def test_it_is_the_float32_build_of_that_backend() -> None:
    """Fields alike are keys alike: one that was built is reused."""
    beside = steps(graph_of(component("a", precision=FP16, on_mismatch="other", fallback=OTHER)))
    alone = steps(graph_of(component("a", backend=OTHER)))
    assert beside["a.lower_fallback"].fields == alone["a.lower"].fields
    assert beside["a.build_fallback"].fields == alone["a.build"].fields
    assert beside["a.verify_fallback"].fields == alone["a.verify"].fields


def test_beside_what_is_quantized_and_raced() -> None:
    found = steps(graph_of(quantized("a", only_if_faster=True, on_mismatch="other", fallback=OTHER)))
    assert found["a.verify"].needs["build"] == "a.race"
    assert found["a.verify_fallback"].needs["build"] == "a.build_fallback"
    assert "quantize" not in found["a.build_fallback"].fields


@pytest.mark.parametrize("changes", [{}, {"on_mismatch": "rebuild"}, {"on_mismatch": ORT.name, "fallback": ORT}])
def test_nothing_beside(changes: dict) -> None:
    assert not [i for i in steps(graph_of(component("a", **changes))) if "fallback" in i]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"fallback": MODULES, "model": None, "onnx": OnnxFile("a.onnx")},
            "component.a.on_mismatch: other runs a component's own module, and this one has none\n",
        ),
        (
            {"fallback": replace(OTHER, types=("float16",))},
            "component.a.on_mismatch: other cannot run fp32, which a fallback is built in\n",
        ),
        (
            {"fallback": replace(OTHER, target="my.Backend")},
            "component.a.on_mismatch: backend class my.Backend is not registered, so its engines could not be loaded\n",
        ),
    ],
    ids=["no_module", "no_float32", "no_loader"],
)
def test_what_cannot_stand_in(changes: dict, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        graph_of(component("a", on_mismatch="other", **changes))
    assert str(caught.value).startswith(fault)


def test_a_fallback_that_cannot_be_built_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(backend, precision):
        if backend.name == "other":
            raise BuildError("other is not installed here", "pip install it")

    monkeypatch.setattr(environment, "environment", asked)
    with pytest.raises(ConfigError) as caught:
        steps_of(graph_of(component("a", on_mismatch="other", fallback=OTHER)))
    assert str(caught.value) == "component.a.on_mismatch: other is not installed here\n  pip install it"


def test_engines_for_other_machines_have_a_fallback_that_is_verified_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "environment", lambda b, p: {RUNS_HERE: False} if b.name != "other" else None)
    found = steps(graph_of(component("a", on_mismatch="other", fallback=OTHER)))
    assert "a.verify" not in found
    assert "a.verify_fallback" in found
