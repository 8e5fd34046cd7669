from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autovoice.config.schema import SpecReader
from autovoice.errors import Fault, nearest
from autovoice.plan.rules.step import policy
from autovoice.spec import Calibration, Component, Quantize, Target
from tests.builders import write_tree

KEEP = {"_target_": "pkg.lower.keep"}
FP32 = {"name": "fp32", "type": "float32", "lowering": KEEP}
FP16 = {"name": "fp16", "type": "float16", "lowering": {"_target_": "pkg.lower.half"}, "higher": "fp32"}
INT8: dict[str, Any] = {
    "name": "int8",
    "type": "int8",
    "scope": "heavy",
    "quantize": {"op_types": ["Conv", "MatMul"], "include": ["blocks.*"], "exclude": ["head.*"], "last": False},
    "lowering": {"_target_": "pkg.lower.explicit", "around": "float32"},
    "lowerings": {"ort": {"_target_": "pkg.lower.integer", "bias": True}},
    "higher": "fp16",
}
ORT = {"name": "ort", "_target_": "pkg.Ort", "types": ["float32", "float16", "int8"]}
TRT = ORT | {"name": "trt", "_target_": "pkg.Trt"}
MINE = {"name": "mine", "source": {"_target_": "pkg.data.samples", "count": 3}}
GROUPS: dict[str, dict[str, Any]] = {
    "precision": {"fp32": FP32, "fp16": FP16, "int8": INT8},
    "backend": {"ort": ORT, "trt": TRT},
    "gate": {},
    "calibration": {"mine": MINE},
}
NODE = {
    "model": {"_target_": "pkg.models.Encoder"},
    "inputs": ["audio"],
    "outputs": {"features": {"dtype": "float32", "shape": ["frames"]}},
}


def lookup(group: str, name: str, where: str) -> Mapping[str, Any] | Fault:
    options = GROUPS[group]
    return options.get(name) or Fault(where, f"unknown {group} '{name}'", nearest(name, options))


lookup.names = lambda group: list(GROUPS.get(group, {}))


def reader(encoder: Mapping[str, Any] | None = None, /, **changes: Any) -> SpecReader:
    data = {
        "pipeline": {"name": "toy", "inputs": {"audio": {"dtype": "float32", "shape": ["frames"]}}},
        "dims": {"frames": {"min": 2, "opt": 4, "max": 8}},
        "component": {"encoder": NODE | dict(encoder or {})},
        "precision": INT8,
        "backend": ORT,
        "gate": {},
        "calibration": MINE,
    }
    return SpecReader(data | changes, lookup)


def read(encoder: Mapping[str, Any] | None = None, /, **changes: Any) -> Component:
    made = reader(encoder, **changes)
    (c,) = made.build().components
    assert made.faults == []
    return c


def faults_of(encoder: Mapping[str, Any] | None = None, /, **changes: Any) -> list[str]:
    made = reader(encoder, **changes)
    made.build()
    return [str(f) for f in made.faults]


# -- policies --------------------------------------------------------------------------------------

BASE = Quantize(("Conv", "MatMul"), ("blocks.*",), ("head.*",), True, False)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param(None, BASE, id="none"),
        pytest.param({}, BASE, id="empty"),
        pytest.param({"op_types": ["Gemm"]}, Quantize(("Gemm",), ("blocks.*",), ("head.*",), True, False), id="types"),
        pytest.param({"op_types": []}, Quantize((), ("blocks.*",), ("head.*",), True, False), id="no_types"),
        pytest.param({"include": []}, Quantize(BASE.op_types, (), ("head.*",), True, False), id="include_all"),
        pytest.param(
            {"exclude": ["a", "b"]}, Quantize(BASE.op_types, ("blocks.*",), ("a", "b"), True, False), id="exclude"
        ),
        pytest.param(
            {"first": False, "last": True}, Quantize(BASE.op_types, ("blocks.*",), ("head.*",), False, True), id="ends"
        ),
    ],
)
def test_a_components_policy_replaces_its_precisions_key_by_key(own: Any, expected: Quantize) -> None:
    c = read({} if own is None else {"quantize": own})
    assert c.quantize == expected
    assert c.precision.quantize == BASE  # shared by all components
    assert c.quantized == bool(expected.op_types)


def test_a_policy_means_nothing_to_a_precision_without_one() -> None:
    c = read({"quantize": {"op_types": ["Conv"]}}, precision=FP32)
    assert (c.quantize, c.quantized, c.baseline) == (None, False, None)


@pytest.mark.parametrize("own", [{}, {"only_if_faster": "maybe", "on_mismatch": 5}], ids=["none", "by_interpolation"])
def test_a_fault_of_what_everything_has_is_told_where_it_stands(own: dict[str, Any]) -> None:
    assert faults_of(own, only_if_faster="maybe", on_mismatch=5) == [
        "on_mismatch: must be a string, got 5\n  on_mismatch=fail",
        "only_if_faster: must be true or false, got 'maybe'\n  only_if_faster=true, or only_if_faster=false",
    ]


def test_a_policy_says_what_it_leaves_unsaid() -> None:
    assert read(precision=INT8 | {"quantize": {"op_types": ["Conv"]}}).quantize == Quantize(("Conv",))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (
            {"exclud": ["a"]},
            "component.encoder.quantize.exclud: unknown key 'exclud'\n"
            "  did you mean 'exclude'? available: exclude, first, include, last, op_types",
        ),
        (
            {"op_types": "Conv"},
            "component.encoder.quantize.op_types: must be a list, got 'Conv'\n"
            "  component.encoder.quantize.op_types=[Conv]",
        ),
        (
            {"include": [3]},
            "component.encoder.quantize.include: must be a list of names, got [3]\n"
            """  component.encoder.quantize.include='["3"]'""",
        ),
        (
            {"first": "no"},
            "component.encoder.quantize.first: must be true or false, got 'no'\n"
            "  component.encoder.quantize.first=true, or component.encoder.quantize.first=false",
        ),
        (
            ["Conv"],
            "component.encoder.quantize: must be a mapping, got ['Conv']\n"
            "  component.encoder.quantize='{op_types: [Conv, MatMul]}'",
        ),
    ],
    ids=["key", "text", "numbers", "not_a_bool", "list"],
)
def test_faults_of_a_policy(own: Any, expected: str) -> None:
    assert faults_of({"quantize": own}) == [expected]


# -- precisions ------------------------------------------------------------------------------------


def test_what_a_quantized_build_is_compared_with() -> None:
    c = read()
    assert c.baseline is not None
    assert (c.baseline.precision.name, c.baseline.precision.type) == ("fp16", "float16")
    assert c.baseline.precision.highers == {}  # one comparison, no chain of them
    assert read(precision=INT8 | {"higher": None}).baseline is None
    assert read({"quantize": {"op_types": []}}).baseline is None


@pytest.mark.parametrize(
    ("higher", "expected"),
    [
        ("int8", "precision.higher: 'int8' is this precision itself\n  precision.higher=fp32"),
        ("fp23", "precision.higher: unknown precision 'fp23'\n  did you mean 'fp32'? available: fp16, fp32, int8"),
        (32, "precision.higher: must be a string, got 32\n  precision.higher=fp32, or precision.higher=null"),
    ],
    ids=["itself", "unknown", "number"],
)
def test_faults_of_what_it_is_compared_with(higher: Any, expected: str) -> None:
    assert expected in faults_of(precision=INT8 | {"higher": higher})


def test_precisions_that_name_each_other_as_higher() -> None:
    """Reading one ends: what it is compared with is compared with nothing."""
    both = {"a": FP16 | {"name": "a", "higher": "b"}, "b": FP16 | {"name": "b", "higher": "a"}}
    made = SpecReader(reader().data | {"precision": "a"}, lambda g, n, w: both.get(n) or lookup(g, n, w))
    (c,) = made.build().components
    assert made.faults == []
    assert c.primary.higher is not None
    assert (c.primary.higher.name, dict(c.primary.higher.highers)) == ("b", {})


BY_BACKEND = {"default": "fp16", "trt": "fp32"}


@pytest.mark.parametrize(("backend", "expected"), [("ort", "fp16"), ("trt", "fp32")])
def test_what_it_is_compared_with_on_a_backend(backend: str, expected: str) -> None:
    c = read({"backend": backend}, precision=INT8 | {"higher": BY_BACKEND})
    assert c.baseline is not None
    assert c.baseline.precision.name == expected
    left_out = read({"backend": backend, "quantize": {"op_types": []}}, precision=INT8 | {"higher": BY_BACKEND})
    assert left_out.primary.precision.name == expected


def test_nothing_to_compare_with_on_a_backend() -> None:
    some = INT8 | {"higher": {"default": "fp16", "trt": None}}
    assert read({"backend": "trt"}, precision=some).baseline is None
    assert read({"backend": "ort"}, precision=some).baseline is not None
    assert read({"backend": "ort"}, precision=INT8 | {"higher": {"trt": "fp16"}}).baseline is None


@pytest.mark.parametrize(
    ("higher", "expected"),
    [
        ({"trt": "int8"}, "precision.higher.trt: 'int8' is this precision itself\n  precision.higher.trt=fp32"),
        ({"trt": "fp23"}, "precision.higher.trt: unknown precision 'fp23'\n  did you mean 'fp32'?"),
        (
            {"trx": "fp32"},
            "precision.higher.trx: unknown backend 'trx'\n  did you mean 'trt'? available: default, ort, ",
        ),
        ({"trt": 3}, "precision.higher.trt: must be a string, got 3\n  precision.higher.trt=fp32"),
    ],
    ids=["itself", "precision", "backend", "number"],
)
def test_faults_of_what_it_is_compared_with_on_a_backend(higher: Any, expected: str) -> None:
    (fault,) = faults_of(precision=INT8 | {"higher": higher})
    assert fault.startswith(expected)


HALF_OF_IT: list[Any] = ["head.*", {"pattern": "deep.*", "backends": ["trt"]}]


@pytest.mark.parametrize(("backend", "expected"), [("ort", ["head.*"]), ("trt", ["head.*", "deep.*"])])
def test_what_is_excluded_on_some_backends_alone(backend: str, expected: list[str]) -> None:
    c = read({"backend": backend, "quantize": {"exclude": HALF_OF_IT}})
    rest = {"op_types": ["Conv", "MatMul"], "include": ["blocks.*"], "first": True, "last": False}
    assert policy(c) == rest | {"exclude": expected}
    said = INT8["quantize"] | {"exclude": HALF_OF_IT}
    assert policy(read({"backend": backend}, precision=INT8 | {"quantize": said}))["exclude"] == expected
    mine = read({"backend": backend, "quantize": {"exclude": ["a"]}}, precision=INT8 | {"quantize": said})
    assert policy(mine)["exclude"] == ["a"]  # a list of one's own is all of it


@pytest.mark.parametrize(
    ("exclude", "there"),
    [
        ([{"pattern": "a", "backends": ["ort"]}, {"pattern": "a", "backends": ["trt"]}], ["ort", "trt"]),
        ([{"pattern": "a", "backends": ["trt"]}, "a"], ["ort", "trt"]),
        ([{"pattern": "a", "backends": ["trt"]}], ["trt"]),
    ],
    ids=["one by one", "everywhere", "there alone"],
)
def test_a_pattern_that_is_named_twice(exclude: list[Any], there: list[str]) -> None:
    made = {b: policy(read({"backend": b, "quantize": {"exclude": exclude}}))["exclude"] for b in ("ort", "trt")}
    assert [b for b, patterns in made.items() if patterns == ["a"]] == there
    assert all(patterns in ([], ["a"]) for patterns in made.values())


def test_a_backend_of_ones_own_may_be_named() -> None:
    own = {"name": "own", "_target_": "pkg.Own", "types": ["float32", "float16", "int8"]}
    node = {"backend": own, "quantize": {"exclude": [{"pattern": "a", "backends": ["own"]}]}}
    c = read(node, precision=INT8 | {"higher": {"own": "fp32"}})
    assert policy(c)["exclude"] == ["a"]
    assert c.baseline is not None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"pattern": "a", "backends": ["trx"]}, "'a' is excluded on 'trx', which is no backend\n  did you mean 'trt'?"),
        (
            {"pattern": "a"},
            "'a' needs a list of the backends that it is for, got None\n  component.encoder.quantize.exclude=",
        ),
        (
            {"pattern": "a", "backends": []},
            "'a' needs a list of the backends that it is for, got []\n  component.encoder.quantize.exclude=",
        ),
        (3, "must be patterns, or {pattern, backends}, got 3\n  component.encoder.quantize.exclude="),
    ],
    ids=["unknown", "no key", "no name", "number"],
)
def test_faults_of_what_is_excluded_on_some_backends_alone(entry: Any, expected: str) -> None:
    (fault,) = faults_of({"quantize": {"exclude": [{"pattern": "b", "backends": ["ort"]}, entry]}})
    assert fault.startswith(f"component.encoder.quantize.exclude: {expected}")


def test_an_unknown_key_beside_a_pattern() -> None:
    entry = {"pattern": "a", "backends": ["trt"], "backend": "trt"}
    (fault,) = faults_of({"quantize": {"exclude": [entry]}})
    assert fault.startswith(
        "component.encoder.quantize.exclude.backend: unknown key 'backend'\n  did you mean 'backends'?"
    )


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("ort", Target("pkg.lower.integer", {"bias": True})),
        ("trt", Target("pkg.lower.explicit", {"around": "float32"})),
    ],
)
def test_a_lowering_of_its_own_for_a_backend(backend: str, expected: Target) -> None:
    assert read({"backend": backend}).primary.lowering == expected


def test_a_lowering_that_is_no_target() -> None:
    assert faults_of(precision=INT8 | {"lowerings": {"ort": {"_target_": "integer"}}}) == [
        "precision.lowerings.ort._target_: 'integer' is not a dotted path\n  package.module.Class"
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scope": "big"}, "precision.scope: unknown scope 'big'\n  all, or heavy"),
        ({"type": "int7"}, "precision.type: unknown compute type 'int7'\n  did you mean 'int8'? available: "),
        ({"quantise": {}}, "precision.quantise: unknown key 'quantise'\n  did you mean 'quantize'?"),
    ],
    ids=["scope", "type", "key"],
)
def test_faults_of_a_precision(change: dict[str, Any], expected: str) -> None:
    (fault,) = faults_of(precision=INT8 | change)
    assert fault.startswith(expected)


# -- calibration -----------------------------------------------------------------------------------


def test_the_smallest_calibration() -> None:
    assert read().calibration == Calibration("mine", source=Target("pkg.data.samples", {"count": 3}))


def test_calibration_of_one_component_by_name() -> None:
    assert read({"calibration": "mine"}, calibration={"name": "none"}).calibration.name == "mine"


def test_all_that_a_calibration_can_say(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.npz": "", "ranges.json": ""})
    node = {
        "name": "all",
        "level": "pipeline",
        "files": str(tmp_path / "*.npz"),
        "calibrator": {"_target_": "pkg.calibrate", "bins": 9},
        "ranges": str(tmp_path / "ranges.json"),
        "method": {"default": "entropy", "head*": "minmax"},
        "percentile": 99,
        "min_samples": 7,
        "shards": 3,
    }
    assert read(calibration=node).calibration == Calibration(
        "all",
        "pipeline",
        None,
        Target("pkg.calibrate", {"bins": 9}),
        tmp_path / "ranges.json",
        (("a.npz", tmp_path / "a.npz"),),
        (),
        {"default": "entropy", "head*": "minmax"},
        99.0,
        7,
        3,
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (None, {"default": "minmax"}),
        ("mse", {"default": "mse"}),
        ({"head*": "mse"}, {"default": "minmax", "head*": "mse"}),
        ({"head*": "mse", "default": "entropy"}, {"default": "entropy", "head*": "mse"}),
    ],
    ids=["none", "text", "patterns", "patterns_and_default"],
)
def test_methods(method: Any, expected: dict[str, str]) -> None:
    assert read(calibration=MINE | {"method": method}).calibration.method == expected


def test_methods_keep_the_order_of_their_patterns() -> None:
    method = {"b*": "mse", "default": "entropy", "a*": "percentile"}
    got = read(calibration=MINE | {"method": method}).calibration.method
    assert [p for p in got if p != "default"] == ["b*", "a*"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            {"method": "entrpy"},
            "calibration.method: unknown method 'entrpy'\n"
            "  did you mean 'entropy'? available: entropy, minmax, mse, percentile",
            id="method",
        ),
        pytest.param(
            {"method": {"head*": "kl"}}, "calibration.method.head*: unknown method 'kl'\n  available: ", id="pattern"
        ),
        pytest.param({"method": ["mse"]}, "calibration.method: unknown method '['mse']'", id="list"),
        pytest.param({"method": {"head*": ["mse"]}}, "calibration.method.head*: unknown method '['mse']'", id="lists"),
        pytest.param(
            {"level": "node"}, "calibration.level: unknown level 'node'\n  component, or pipeline", id="level"
        ),
        pytest.param(
            {"percentile": 50},
            "calibration.percentile: 50.0 is out of range\n  above 50, at most 100, as 99.99",
            id="percentile_low",
        ),
        pytest.param({"percentile": 100.1}, "calibration.percentile: 100.1 is out of range", id="percentile_high"),
        pytest.param({"percentile": "most"}, "calibration.percentile: must be a number, got 'most'", id="no_number"),
        pytest.param({"percentile": float("nan")}, "calibration.percentile: nan is out of range", id="percentile_nan"),
        pytest.param(
            {"shards": 0}, "calibration.shards: must be at least 1, got 0\n  calibration.shards=1", id="shards"
        ),
        pytest.param({"min_samples": -1}, "calibration.min_samples: must be at least 1, got -1", id="min_samples"),
        pytest.param({"shards": 1.5}, "calibration.shards: must be a whole number, got 1.5", id="half_a_shard"),
        pytest.param({"source": "pkg.data.samples"}, "calibration.source: must be a mapping, got 'pkg", id="source"),
        pytest.param(
            {"source": {"_target_": "samples"}}, "calibration.source._target_: 'samples' is not a dotted", id="target"
        ),
        pytest.param({"files": [3]}, "calibration.files: must be a list of names, got [3]", id="files"),
        pytest.param({"sorce": {}}, "calibration.sorce: unknown key 'sorce'\n  did you mean 'source'?", id="key"),
        pytest.param(
            {"ranges": "pkg://no_such_package/r.json"},
            "calibration.ranges: pkg://no_such_package/r.json: package 'no_such_package' is not installed here",
            id="package",
        ),
    ],
)
def test_faults_of_a_calibration(change: dict[str, Any], expected: str) -> None:
    found = faults_of(calibration=MINE | change)
    assert found[0].startswith(expected)


@pytest.mark.parametrize("percentile", [50.1, 99.99, 100, 100.0])
def test_percentiles_that_are_possible(percentile: float) -> None:
    assert read(calibration=MINE | {"percentile": percentile}).calibration.percentile == percentile


# -- files -----------------------------------------------------------------------------------------


def test_files_of_several_patterns(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.wav": "", "b/a.wav": "", "b/c.wav": "", "d.npy": ""})
    patterns = [str(tmp_path / "a.wav"), str(tmp_path / "b"), str(tmp_path / "*.npy"), str(tmp_path / "gone.wav")]
    c = read(calibration=MINE | {"files": patterns}).calibration
    assert dict(c.files) == {
        "a.wav": tmp_path / "a.wav",
        str(tmp_path / "b/a.wav"): tmp_path / "b/a.wav",  # another of the same name
        "c.wav": tmp_path / "b/c.wav",
        "d.npy": tmp_path / "d.npy",
    }
    assert c.absent == (f"there is no file '{tmp_path}/gone.wav'",)


def test_a_file_that_two_patterns_mean_counts_once(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.wav": "", "b.wav": ""})
    patterns = [str(tmp_path / "a.wav"), str(tmp_path / "*.wav")]
    files = read(calibration=MINE | {"files": patterns}).calibration.files
    assert sorted(path.name for _, path in files) == ["a.wav", "b.wav"]


def test_files_that_are_absent_are_no_fault_of_the_configuration_itself() -> None:
    """Nobody may need them: floating point precisions do not."""
    c = read(calibration=MINE | {"files": ["pkg://no_such_package/a.wav", "gone/"]}).calibration
    assert c.files == ()
    assert c.absent == (
        "pkg://no_such_package/a.wav: package 'no_such_package' is not installed here",
        "there is no file 'gone/'",
    )


# -- after a crash ---------------------------------------------------------------------------------


def test_what_a_backend_tries_after_a_crash_is_a_list_of_options() -> None:
    assert read(backend=ORT | {"after_crash": [{"level": "extended"}]}).backend.after_crash == ({"level": "extended"},)
    assert read().backend.after_crash == ()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("extended", "backend.after_crash: must be a list, got 'extended'"),
        (["level"], "backend.after_crash: must be a list of options, got ['level']"),
    ],
)
def test_anything_else_is_a_fault(value: Any, told: str) -> None:
    (fault,) = faults_of(backend=ORT | {"after_crash": value})
    assert fault == f"{told}\n  backend.after_crash='[{{option: value}}]'"
