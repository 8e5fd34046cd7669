from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from autovoice.command.invocation import read_spec
from autovoice.errors import BuildError, ConfigError
from autovoice.graph.wiring import build_graph
from autovoice.spec import RUNS_HERE, Backend, BuildSpec
from tests.config.test_choices import FP16, FP32, GROUPS, INT8, NODE, lookup
from tests.config.test_choices import reader as plain_reader


def backend(name: str, environment: str | None, *types: str) -> dict[str, Any]:
    made = {"name": name, "_target_": f"pkg.{name}", "types": list(types or ("float32", "float16"))}
    return made | ({"environment": f"toy_environment.{environment}"} if environment else {})


BACKENDS = {
    "there": backend("there", "there"),
    "absent": backend("absent", "absent"),
    "elsewhere": backend("elsewhere", "elsewhere"),
    "integers": backend("integers", "there", "float32", "float16", "int8"),
    "wide_gpu_only": backend("wide_gpu_only", "float32_alone"),
    "modules": backend("modules", None) | {"from_module": True},
    "plain": backend("plain", None, "float32", "float16", "int8"),
}


@pytest.fixture(autouse=True)
def _environments(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("toy_environment")

    def there(backend: Backend, precision: str) -> Mapping[str, Any]:
        return {"version": "1", **backend.options}

    def absent(backend: Backend, precision: str) -> Mapping[str, Any]:
        raise BuildError(f"{backend.name} is not installed here", "pip install it")

    def elsewhere(backend: Backend, precision: str) -> Mapping[str, Any]:
        return {RUNS_HERE: bool(backend.options.get("for_this_gpu"))}

    def float32_alone(backend: Backend, precision: str) -> Mapping[str, Any]:
        if precision != "float32":
            raise BuildError(f"{precision} needs another GPU", "buy one")
        return {}

    for function in (there, absent, elsewhere, float32_alone):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, "toy_environment", module)
    monkeypatch.setitem(GROUPS, "backend", {**GROUPS["backend"], **BACKENDS})


def spec_of(order: list[str], components: Mapping[str, Any] | None = None, **changes: Any) -> tuple[BuildSpec, list]:
    """Each component's own keys over a plain module's; what the graph would say is no part of it."""
    auto = {"name": "auto", "auto": {"order": order, "options": changes.pop("options", {})}}
    made = plain_reader(backend=auto, precision=changes.pop("precision", FP32), **changes)
    nodes = {}
    for name, own in (components or {"encoder": {}}).items():
        outputs = {f"{name}_out": {"dtype": "float32", "shape": ["frames"]}}
        nodes[name] = NODE | {"outputs": outputs} | dict(own)
    return read_spec({**made.data, "component": nodes}, lookup)


@pytest.mark.parametrize(
    ("order", "chosen", "note"),
    [
        (["there", "plain"], "there", "backend auto → there"),
        (["absent", "plain"], "plain", "backend auto → plain: absent is not installed here"),
        (
            ["absent", "elsewhere", "plain"],
            "plain",
            "backend auto → plain: absent is not installed here; "
            "elsewhere would build for other machines than this one",
        ),
        (["plain", "there"], "plain", "backend auto → plain"),
    ],
    ids=["first", "not_installed", "for_others", "order_is_data"],
)
def test_the_first_that_fits_and_why_no_better_one(order: list[str], chosen: str, note: str) -> None:
    spec, faults = spec_of(order)
    assert faults == []
    assert [c.backend.name for c in spec.components] == [chosen]
    assert spec.notes == (note,)


@pytest.mark.parametrize(
    ("precision", "order", "note"),
    [
        (INT8, ["there", "integers"], "backend auto → integers: there has no int8"),
        (FP16, ["wide_gpu_only", "plain"], "backend auto → plain: wide_gpu_only: float16 needs another GPU"),
    ],
    ids=["types", "environment"],
)
def test_the_precision_must_fit_too(precision: dict[str, Any], order: list[str], note: str) -> None:
    spec, faults = spec_of(order, precision=precision)
    assert (faults, spec.notes) == ([], (note,))


def test_each_component_by_itself() -> None:
    parts = {"a": {}, "b": {"precision": "int8"}, "c": {}, "d": {"backend": "plain"}}
    spec, faults = spec_of(["there", "integers"], parts)
    assert faults == []
    assert {c.name: c.backend.name for c in spec.components} == dict(a="there", b="integers", c="there", d="plain")
    assert spec.notes == ("backend auto → there (a, c)", "backend auto → integers (b): there has no int8")


def test_a_file_is_not_for_what_runs_modules() -> None:
    spec, faults = spec_of(["modules", "plain"], {"f": {"model": None, "onnx": "f.onnx"}})
    assert faults == []
    assert spec.notes == ("backend auto → plain: modules runs modules, and this is an ONNX file",)


def test_options_over_a_backends_own() -> None:
    spec, faults = spec_of(["elsewhere", "plain"], options={"elsewhere": {"for_this_gpu": True}})
    assert faults == []
    assert [(c.backend.name, c.backend.options) for c in spec.components] == [("elsewhere", {"for_this_gpu": True})]


def test_nothing_fits() -> None:
    _, faults = spec_of(["absent", "there"], precision=INT8)
    assert [str(f) for f in faults] == [
        "component.encoder.backend: none of absent, there can build it in int8: absent has no int8; there has no int8\n"
        "  precision=fp32, which every backend has"
    ]


def test_what_none_can_run_is_said_once() -> None:
    """Not again of the last of them."""
    spec, faults = spec_of(["absent", "there"], precision=INT8)
    with pytest.raises(ConfigError) as raised:
        build_graph(spec, faults)
    told = [f for f in raised.value.faults if "int8" in f.fact and "threshold" not in f.fact]
    assert [f.where for f in told] == ["component.encoder.backend"]


@pytest.mark.parametrize(
    ("order", "options", "fault"),
    [
        ([], {}, "backend.auto.order: names no backend"),
        (["there", "thre"], {}, "backend.auto.order: unknown backend 'thre'"),
        (["there"], {"thre": {}}, "backend.auto.options.thre: unknown backend 'thre'\n  did you mean 'there'?"),
    ],
    ids=["empty", "unknown", "options_of_none"],
)
def test_wrong_orders(order: list[str], options: dict[str, Any], fault: str) -> None:
    _, faults = spec_of(order, options=options)
    assert str(faults[0]).startswith(fault)


def test_where_one_backend_is_to_be_named() -> None:
    made = plain_reader(on_mismatch="auto")
    made.lookup = lambda g, n, w: {"name": "auto", "auto": {"order": ["plain"]}} if n == "auto" else lookup(g, n, w)
    made.build()
    assert str(made.faults[0]) == (
        "backend/auto: chooses among backends, and here one is to be named\n  its order: plain"
    )


# -- on_mismatch -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "general", "policy", "fallback"),
    [
        (None, None, "fail", None),
        (None, "rebuild", "rebuild", None),
        ("fail", "rebuild", "fail", None),
        (None, "plain", "plain", "plain"),
        ("modules", "plain", "modules", "modules"),
        ("rebuild", "plain", "rebuild", None),
    ],
)
def test_policies(own: str | None, general: str | None, policy: str, fallback: str | None) -> None:
    made = plain_reader({"on_mismatch": own}, on_mismatch=general)
    (c,) = made.build().components
    assert made.faults == []
    assert (c.on_mismatch, c.fallback and c.fallback.name) == (policy, fallback)


def test_an_unknown_policy() -> None:
    made = plain_reader(on_mismatch="rebiuld")
    made.build()
    (fault,) = made.faults
    assert str(fault).startswith("on_mismatch: unknown policy 'rebiuld'\n  fail, rebuild, or a backend: ")


def test_what_stands_in_is_float32_as_exported() -> None:
    made = plain_reader(on_mismatch="plain")
    (c,) = made.build().components
    fallback = c.fallback_engine
    assert fallback is not None
    assert (fallback.backend.name, fallback.precision.name, fallback.quantize) == ("plain", "fp32", None)
    assert replace(c, fallback=c.backend).fallback_engine is None  # it is on that backend already
