from __future__ import annotations

import numpy as np
import pytest

from autovoice.errors import CalibrationError
from autovoice.store.npz import read_npz
from tests.onnx_models import run as run_onnx
from tests.steps.bench import FLOAT, Bench

FIELDS = {"reads": {"x": {"role": "samples", "wire": "x"}}, "outputs": {"y": FLOAT | {"wire": "features"}}}
NEEDS = {"export": "encoder.export", "samples": "samples"}


def test_what_the_float_graph_answers_by_wire(bench: Bench) -> None:
    export, samples = bench.exported("encoder"), bench.sampled(3)
    ran = bench.run("activations", FIELDS, NEEDS)
    assert ran.result == {"samples": 3}
    for path in sorted(samples.folder.glob("*.npz")):
        (expected,) = run_onnx(export.folder / "model.onnx", **read_npz(path))
        np.testing.assert_allclose(read_npz(ran.folder / path.name)["features"], expected, atol=1e-5)


def test_a_sample_that_the_model_cannot_run(bench: Bench) -> None:
    bench.exported("encoder")
    samples = bench.sampled(2)
    np.savez(samples.folder / "00001.npz", x=np.zeros((3, 7), np.float32))
    with pytest.raises(
        CalibrationError, match=r"^sample 00001\.npz: the model cannot run it\n  .*invalid dimensions for input: x"
    ):
        bench.run("activations", FIELDS, NEEDS)
