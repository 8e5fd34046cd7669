"""What the steps of an engine depend on: passes, profiles, and the place it is built in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autovoice.errors import BuildError, ConfigError
from autovoice.onnx_tools.passes import PASSES
from autovoice.plan.code import closure
from autovoice.plan.planner import make_plan
from autovoice.plan.rules import Step, steps_of
from autovoice.spec import RUNS_HERE, Backend, Calibration, Implicit
from autovoice.store.artefacts import Store
from tests.builders import INT8, MODEL, NPZ, ORT, component, graph_of, quantized

ENGINES = replace(ORT, passes=("lift_conv1d", "tests.plan.rules.test_engine.own"), profiled=True)


def own(model: object) -> int:
    return 0


def place(backend: Backend, precision: str) -> Mapping[str, Any]:
    return {"tool": "1.0", "gpu": "A"}


def elsewhere(backend: Backend, precision: str) -> Mapping[str, Any]:
    return {"tool": "1.0", RUNS_HERE: False}


def quantizes_itself(backend: Backend, precision: str) -> Mapping[str, Any]:
    return {"tool": "1.0", "implicit_int8": True}


def refuses(backend: Backend, precision: str) -> Mapping[str, Any]:
    raise BuildError(f"no {precision} here", "another one")


def by_id(*components: Any) -> dict[str, Step]:
    return {s.id: s for s in steps_of(graph_of(*components))}


def test_passes_stand_between_lower_and_build_and_their_code_counts() -> None:
    steps = by_id(component("a", backend=ENGINES))
    assert steps["a.passes"].needs == {"lower": "a.lower"}
    assert steps["a.build"].needs["passes"] == "a.passes"
    assert steps["a.passes"].fields == {"passes": list(ENGINES.passes)}
    code = {m for t in steps["a.passes"].targets for m in closure(t)}
    assert {"autovoice.onnx_tools.passes.lift", "tests.plan.rules.test_engine"} <= code
    assert "autovoice.onnx_tools.passes.flips" not in code


def test_without_passes_and_profiles_a_build_has_neither() -> None:
    steps = by_id(component("a"))
    assert "a.passes" not in steps
    assert steps["a.build"].fields.keys().isdisjoint({"profiles", "environment"})


def test_profiles_are_part_of_a_build_alone() -> None:
    steps = by_id(component("a", backend=ENGINES))
    assert steps["a.build"].fields["profiles"] == [{"x": {"min": [1, 2], "opt": [1, 4], "max": [1, 8]}}]
    assert [s for s in steps.values() if "profiles" in s.fields] == [steps["a.build"]]


def test_the_place_is_part_of_an_engine() -> None:
    backend = replace(ENGINES, environment=f"{__name__}.place")
    build = by_id(component("a", backend=backend))["a.build"]
    assert build.fields["environment"] == {"tool": "1.0", "gpu": "A"}


def test_options_of_a_session_make_no_other_engine() -> None:
    made = [by_id(component("a", backend=replace(ENGINES, session={"graphs": g}))) for g in (True, False)]
    assert made[0]["a.build"] == made[1]["a.build"]
    assert made[0]["a.verify"] != made[1]["a.verify"]


def test_what_cannot_run_here_is_built_and_not_measured() -> None:
    backend = replace(ENGINES, environment=f"{__name__}.elsewhere")
    steps = by_id(component("a", backend=backend), component("b", ("a_out",)))
    assert {i for i, s in steps.items() if s.kind in ("verify", "race", "end_to_end", "swaps", "latency")} == {
        "b.verify"
    }
    assert "a.build" in steps
    assert RUNS_HERE not in steps["a.build"].fields["environment"]


def test_every_component_that_is_refused_is_named_at_once() -> None:
    backend = replace(ENGINES, environment=f"{__name__}.refuses")
    with pytest.raises(ConfigError) as raised:
        by_id(component("a", backend=backend), component("b", ("a_out",), backend=backend))
    assert str(raised.value) == "component.a.backend, component.b.backend: no float32 here\n  another one"


def test_what_is_refused_is_named_in_every_precision() -> None:
    """Also where it would have to say whether it quantizes by itself."""
    precision = replace(INT8, name="own", gates="int8", implicit=Implicit("minmax"))
    backend = replace(ORT, types=("float32", "int8"), environment=f"{__name__}.refuses")
    with pytest.raises(ConfigError, match=r"^component\.a\.backend: no int8 here\n  another one"):
        by_id(quantized("a", precision=precision, backend=backend))


def refuses_an_option(backend: Backend, precision: str) -> Mapping[str, Any]:
    raise BuildError("backend.options.level: 9", "0 to 5")


def test_an_option_is_told_where_it_was_set() -> None:
    backend = replace(ORT, options={"level": 9}, environment=f"{__name__}.refuses_an_option")
    with pytest.raises(ConfigError, match=r"^component\.a\.backend: backend\.options\.level: 9\n  0 to 5$"):
        by_id(component("a", backend=backend))
    own = component("a", backend=backend, options={"onnxruntime": {"level": 9}})
    with pytest.raises(ConfigError, match=r"^component\.a\.options\.onnxruntime\.level: 9\n  0 to 5$"):
        by_id(own)


def test_a_tool_that_quantizes_by_itself_is_fed_samples_and_no_ranges() -> None:
    precision = replace(INT8, name="own", gates="int8", implicit=Implicit("minmax", min_share=0.5))
    backend = replace(ORT, types=("float32", "int8"), environment=f"{__name__}.quantizes_itself")
    steps = by_id(quantized("a", precision=precision, backend=backend))
    assert steps["a.lower"].fields["lowering"]["target"] == "autovoice.onnx_tools.lowering.floating.keep_float32"
    build = steps["a.build"]
    assert build.fields["implicit"] == {"calibrator": "minmax", "min_share": 0.5, "float16": True, "prefer_int8": True}
    assert build.needs["samples"] == "a.samples"
    assert not [i for i in steps if "ranges" in i or "observe" in i]
    assert build.fields["precision"]["type"] == "int8"


def test_elsewhere_the_same_precision_is_explicit() -> None:
    precision = replace(INT8, name="own", gates="int8", implicit=Implicit())
    steps = by_id(quantized("a", precision=precision, calibration=NPZ))
    assert "implicit" not in steps["a.build"].fields
    assert steps["a.lower"].needs["ranges"] == "a.ranges"


@pytest.mark.parametrize("name", PASSES)
def test_the_code_of_every_pass_is_found(name: str) -> None:
    module = PASSES[name].rpartition(".")[0]
    assert module in closure(PASSES[name])


SELF = replace(ORT, types=("float32", "int8"), environment=f"{__name__}.quantizes_itself")
IMPLICIT = replace(INT8, name="own", gates="int8", implicit=Implicit())


def test_a_tool_that_quantizes_by_itself_takes_no_ranges(tmp_path: Path) -> None:
    given = Calibration("mine", ranges=tmp_path)
    with pytest.raises(ConfigError, match=r"own calibrates on samples, 'mine' has ranges alone"):
        by_id(quantized("a", precision=IMPLICIT, backend=SELF, calibration=given))


def test_its_own_cache_stands_in_for_samples(tmp_path: Path) -> None:
    cached = replace(IMPLICIT, implicit=Implicit(cache=tmp_path / "calibration.cache"))
    steps = by_id(quantized("a", precision=cached, backend=SELF, calibration=Calibration("none")))
    build = steps["a.build"]
    assert build.files == {"precision.implicit.cache": tmp_path / "calibration.cache"}
    assert build.needs.keys() == {"lower", "export"}
    assert not [i for i in steps if "samples" in i]


def test_a_missing_cache_is_told_where_the_configuration_names_it(tmp_path: Path) -> None:
    given = Implicit(cache=tmp_path / "gone", cache_place="precision.implicit.cache")
    graph = graph_of(
        quantized(
            "a", precision=replace(IMPLICIT, implicit=given), backend=SELF, calibration=Calibration("none"), model=MODEL
        )
    )
    with pytest.raises(ConfigError) as raised:
        make_plan(graph, Store(tmp_path / "store"))
    assert str(raised.value) == (
        f"precision.implicit.cache: {tmp_path}/gone: No such file or directory\n"
        "  precision.implicit.cache=/path/to/file"
    )


@pytest.mark.parametrize("level", ["component", "pipeline"])
def test_a_missing_calibration_file_is_told_at_its_key(level: str, tmp_path: Path) -> None:
    given = replace(NPZ, level=level, files=(("sub/a.npz", tmp_path / "gone/sub/a.npz"),))
    with pytest.raises(ConfigError) as raised:
        make_plan(graph_of(quantized("a", calibration=given, model=MODEL)), Store(tmp_path / "store"))
    assert str(raised.value) == (
        f"calibration.files: {tmp_path}/gone/sub/a.npz: No such file or directory\n  calibration.files=/path/to/file"
    )


def test_a_cache_is_nothing_to_a_backend_that_cannot_read_it(tmp_path: Path) -> None:
    cached = replace(IMPLICIT, implicit=Implicit(cache=tmp_path / "calibration.cache"))
    with pytest.raises(ConfigError, match="reads no calibration cache, and 'none' has no data"):
        by_id(quantized("a", precision=cached, calibration=Calibration("none")))


def test_what_is_tried_after_a_crash_is_no_part_of_a_builds_key_and_never_what_crashed() -> None:
    ways = ({"level": "all"}, {"level": "extended", "threads": 1}, {"level": "basic"})
    plain = by_id(component("a", backend=ORT))["a.build"]
    asked = replace(ORT, options={**ORT.options, "level": "all"}, after_crash=ways)
    build = by_id(component("a", backend=asked))["a.build"]
    assert plain.after_crash == ()
    assert [way["backend"]["options"] for way in build.after_crash] == [dict(way) for way in ways[1:]]
    assert build.fields["backend"] == {**plain.fields["backend"], "options": asked.options}
    assert all(s.after_crash == () for s in by_id(component("a", backend=asked)).values() if s.kind != "build")
