from __future__ import annotations

import numpy as np
import onnx

from tests.onnx_models import model, node, run, saved, value
from tests.steps.bench import Bench


def test_passes_of_the_backend_are_counted_and_change_no_value(bench: Bench) -> None:
    rng = np.random.default_rng(0)
    weights = {w: rng.normal(size=(8, 8, 1)).astype(np.float32) for w in ("w1", "w2")}
    nodes = [node("Conv", "x w1", "a"), node("Conv", "a w2", "y")]
    made = model(nodes, [value("x", 1, 8, "n")], [value("y", 1, 8, "n")], weights)
    lower = bench.done("lower", {}, bench.root / "lower")
    saved(made, lower.folder / "model.onnx")
    name = "compose_convs"
    ran = bench.run("passes", {"passes": [name]}, {"lower": "lower"})
    assert ran.result == {"rewrites": {name: 1}, "nodes": [2, 1]}
    assert len(onnx.load(ran.folder / "model.onnx").graph.node) == 1
    x = rng.normal(size=(1, 8, 5)).astype(np.float32)
    got, expected = (run(folder / "model.onnx", x=x)[0] for folder in (ran.folder, lower.folder))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
