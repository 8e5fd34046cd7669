"""Lowering exactly the nodes that are named, and noise of known size."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from autovoice.errors import LoweringError
from autovoice.measure.trial import Noise, Trial, policy_of
from autovoice.onnx_tools.lowering.explicit import to_qdq
from autovoice.onnx_tools.lowering.integer import to_u8s8
from autovoice.onnx_tools.lowering.policy import QUANTIZABLE, chosen_nodes
from autovoice.onnx_tools.ort import float_session
from autovoice.onnx_tools.ranges import write_ranges
from tests.onnx_models import keep, model, node, saved, value

WIDTH = 8
#: as patterns, some of these names mean other ones: `layers[0]` matches layers0, `tail*` matches tail_2
NAMES = ("layers[0]", "layers0", "tail*", "tail_2", "plain", "[!a]", "b")
LOWERINGS: dict[str, Callable[..., Any]] = {"u8s8": to_u8s8, "explicit": to_qdq}
X = {"x": np.random.default_rng(5).standard_normal((3, WIDTH), dtype=np.float32)}


def chain(names: Collection[str] = NAMES) -> onnx.ModelProto:
    """x → MatMul → Tanh → MatMul … → y, its products called as given, and their weights w0, w1, …"""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], {}, "x"
    for i, name in enumerate(names):
        weights[f"w{i}"] = rng.standard_normal((WIDTH, WIDTH), dtype=np.float32) / 3
        out = "y" if i == len(names) - 1 else f"h{i}"
        nodes += [node("MatMul", f"{last} w{i}", f"p{i}", name), node("Tanh", f"p{i}", out)]
        last = out
    return model(nodes, [value("x", "n", WIDTH)], [value("y", "n", WIDTH)], weights)


@pytest.fixture(params=LOWERINGS)
def trial(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A trial whose lowered files are kept beside it, as `kept.onnx`."""

    def lower(source: Path, target: Path, *rest: Any, **options: Any) -> None:
        LOWERINGS[request.param](source, target, *rest, **options)
        shutil.copyfile(target, tmp_path / "kept.onnx")

    monkeypatch.setitem(sys.modules, "recording", SimpleNamespace(lower=lower))
    export = saved(chain(), tmp_path / "model.onnx")
    tensors = ["x", "y", *(f"{letter}{i}" for letter in "hp" for i in range(len(NAMES)))]
    write_ranges(tmp_path / "ranges.json", "0" * 64, 1, "minmax", dict.fromkeys(tensors, (-4.0, 4.0)))
    work = tmp_path / "work"
    work.mkdir()
    lowering = {"target": "recording.lower", "kwargs": {}}
    return Trial(export, tmp_path / "ranges.json", lowering, keep(), ("y",), work)


def quantized(path: Path) -> set[str]:
    """Nodes both of whose operands are 8 bits wide."""
    graph = onnx.load(path).graph
    made = {o: n.op_type for n in graph.node for o in n.output}
    heavy = [n for n in graph.node if n.op_type in QUANTIZABLE]
    return {n.name for n in heavy if all(made.get(i) == "DequantizeLinear" for i in n.input[:2])}


def plain(trial: Trial) -> np.ndarray:
    return np.asarray(ort.InferenceSession(str(trial.export)).run(["y"], X)[0])


CHOICES = {name: [name] for name in NAMES} | {
    "two": ["layers[0]", "plain"],
    "all but the look-alikes": ["layers[0]", "tail*", "[!a]"],
    "the look-alikes": ["layers0", "tail_2", "b"],
    "all": list(NAMES),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_exactly_the_named_nodes_are_quantized(trial: Trial, tmp_path: Path, choice: str) -> None:
    got = trial.lowered(CHOICES[choice])(X)
    assert quantized(tmp_path / "kept.onnx") == set(CHOICES[choice])
    assert got.keys() == {"y"}
    expected = float_session(tmp_path / "kept.onnx").run(["y"], X)[0]
    assert np.allclose(got["y"], expected, atol=1e-6)
    assert 0 < np.abs(got["y"] - plain(trial)).max() < 0.2


def test_the_file_of_a_trial_is_gone_when_it_can_run(trial: Trial) -> None:
    lowered = trial.lowered(["plain"])
    assert list(trial.work.iterdir()) == []
    assert np.array_equal(lowered(X)["y"], lowered(X)["y"])


def test_trials_do_not_disturb_each_other(trial: Trial) -> None:
    one, other = trial.lowered(["plain"]), trial.lowered(["layers0", "b"])
    assert not np.array_equal(one(X)["y"], other(X)["y"])
    assert np.array_equal(trial.lowered(["plain"])(X)["y"], one(X)["y"])


def test_float32_is_the_export(trial: Trial) -> None:
    assert np.array_equal(trial.float32()(X)["y"], plain(trial))


def test_no_node_at_all_is_the_export(trial: Trial, tmp_path: Path) -> None:
    assert np.array_equal(trial.lowered([])(X)["y"], plain(trial))
    assert not (tmp_path / "kept.onnx").exists()


def test_a_runner_gives_the_outputs_asked_for(tmp_path: Path) -> None:
    nodes = [node("Tanh", "x", "a"), node("Relu", "x", "b")]
    made = model(nodes, [value("x", "n", WIDTH)], [value("a", "n", WIDTH), value("b", "n", WIDTH)])
    export = saved(made, tmp_path / "m.onnx")
    trial = Trial(export, tmp_path / "none.json", {}, keep(), ("b", "a"), tmp_path)
    got = trial.float32()(X)
    assert list(got) == ["b", "a"]
    assert np.array_equal(got["b"], np.maximum(X["x"], 0))
    assert np.allclose(got["a"], np.tanh(X["x"]), atol=1e-5)


# -- the policy that means some nodes -----------------------------------------------------------------


def test_policy_of_two_operators() -> None:
    weights = {"k": np.ones((2, 2, 1), np.float32), "w": np.ones((3, 3), np.float32)}
    nodes = [node("Conv", "x k", "a", "conv[1]"), node("MatMul", "a w", "y", "product")]
    made = model(nodes, [value("x", 1, 2, 3)], [value("y", 1, 2, 3)], weights)
    assert policy_of(made, ["product", "conv[1]"]) == {
        "op_types": ["Conv", "MatMul"],
        "include": [],
        "exclude": [],
        "first": True,
        "last": True,
        "nodes": ["conv[1]", "product"],
    }
    assert policy_of(made, {"product"})["op_types"] == ["MatMul"]


@pytest.mark.parametrize("choice", CHOICES)
def test_the_policy_means_these_nodes(choice: str) -> None:
    made = chain()
    wanted = CHOICES[choice]
    assert chosen_nodes(made, policy_of(made, wanted), keep()) == [n for n in NAMES if n in wanted]


def test_kept_nodes_are_none_to_quantize(trial: Trial) -> None:
    held = replace(trial, keep=keep(nodes=["plain"]))
    with pytest.raises(LoweringError, match=r"the policy .* none of 7 nodes"):
        held.lowered(["plain"])


# -- noise ------------------------------------------------------------------------------------------


def db(*pairs: tuple[Any, Any], dtype: Any = np.float32) -> float:
    noise = Noise()
    for got, reference in pairs:
        noise.add(np.asarray(got, dtype), np.asarray(reference, dtype))
    return noise.db


KNOWN = {
    "a tenth": (([1.1, 1.1], [1.0, 1.0]), 20.0),
    "a hundredth": (([1.01], [1.0]), 40.0),
    "as loud as the signal": (([0.0, 0.0], [3.0, 4.0]), 0.0),
    "twice the signal": (([-1.0], [1.0]), -10 * np.log10(4)),
    "one element of two": (([3.0, 5.0], [3.0, 4.0]), 10 * np.log10(25)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_noise_of_a_known_size(name: str) -> None:
    pair, expected = KNOWN[name]
    assert db(pair) == pytest.approx(expected, abs=1e-4)


def test_many_tensors_are_one() -> None:
    quiet, loud = ([0.11], [0.1]), ([10.0, 0.5], [10.0, 0.0])
    assert db(quiet, loud) == pytest.approx(10 * np.log10(100.01 / 0.2501), abs=1e-4)
    assert db(quiet, loud) == db(loud, quiet)


def test_equal_tensors_are_at_200_db() -> None:
    assert db(([1.0, -2.0], [1.0, -2.0])) == 200
    assert db() == 200


def test_silence() -> None:
    assert db(([0.0, 0.0], [0.0, 0.0])) == 200
    assert db(([0.0, 1e-6], [0.0, 0.0])) == -200
    assert db(([0.0], [0.0]), ([1.1], [1.0])) == pytest.approx(20, abs=1e-4)


def test_no_ratio_is_beyond_200_db() -> None:
    assert db(([1e30], [1e-30]), dtype=np.float64) == -200
    assert db(([1e15], [1e15]), ([1e-15], [0.0]), dtype=np.float64) == 200


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_the_worst(bad: float) -> None:
    assert db(([bad, 1.0], [1.0, 1.0])) == -200
    assert db(([1.0], [1.0]), ([bad], [1.0]), ([1.0], [1.0])) == -200


def test_sums_are_made_in_float64() -> None:
    """Squares of what float32 still holds overflow it, and small noise drowns in it."""
    assert db(([1.1e20, 0], [1e20, 0])) == pytest.approx(20, abs=1e-4)
    half = np.asarray([60000.0, 60064.0]), np.asarray([60000.0, 60000.0])
    assert db(half, dtype=np.float16) == pytest.approx(20 * np.log10(60000 * 2**0.5 / 64), abs=1e-2)


def test_order_of_operands() -> None:
    """The signal is the reference, whatever came out."""
    assert db(([3.0], [1.0])) == pytest.approx(-20 * np.log10(2), abs=1e-4)
    assert db(([1.0], [3.0])) == pytest.approx(20 * np.log10(1.5), abs=1e-4)


# -- a trap --------------------------------------------------------------------------------------------


def test_a_node_called_as_anothers_weight() -> None:
    """Nodes and tensors have namespaces of their own: `w1` is the weight of the second product."""
    made = chain(("w1", "other", "third"))
    assert chosen_nodes(made, policy_of(made, ["w1"]), keep()) == ["w1"]
