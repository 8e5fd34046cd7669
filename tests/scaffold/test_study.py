from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from autovoice.errors import AutovoiceError
from autovoice.scaffold.render import wires_of
from autovoice.scaffold.study import Span, Studied, study
from autovoice.scaffold.subject import Declared, Subject


def subject(run: Callable[..., Mapping[str, np.ndarray]], varying: Any = (), **inputs: Any) -> Subject:
    declared = {n: Declared(*(d if isinstance(d, tuple) else ("float32", d))) for n, d in inputs.items()}
    declared = {n: Declared(d.dtype, tuple(d.axes)) for n, d in declared.items()}
    return Subject("net", {"onnx": "net.onnx"}, declared, lambda feeds: dict(run(**feeds)), {}, varying)


def shapes(studied: Studied) -> dict[str, list[str | int]]:
    return {n: t["shape"] for n, t in studied.outputs.items()}


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_a_stride_and_its_shift_are_found() -> None:
    def run(audio: np.ndarray) -> dict[str, np.ndarray]:
        return {"mel": zeros(len(audio), 80, (audio.shape[1] - 352) // 160)}

    made = study(subject(run, audio=["batch", "samples"]), {})
    assert shapes(made) == {"mel": ["batch", 80, "(samples - 352) // 160"]}
    assert made.dims["batch"] == Span(1, 1, 4, 1)
    assert made.dims["samples"].opt == 16000


def test_an_axis_that_varies_later_than_at_the_first_sizes() -> None:
    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": zeros(1, x.shape[1] // 1024)}

    found = study(subject(run, [("y", 1)], x=[1, "n"]), {})
    assert shapes(found) == {"y": [1, "n // 1024"]}


def test_sizes_that_must_be_equal_become_one_dim() -> None:
    def run(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        return {"sum": x + y}

    made = study(subject(run, x=["batch", "n"], y=["batch", "y_1"]), {})
    assert made.inputs["y"]["shape"] == ["batch", "n"]
    assert list(made.dims) == ["batch", "n"]
    assert shapes(made) == {"sum": ["batch", "n"]}


def test_the_least_size_and_the_step() -> None:
    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        if x.shape[1] % 8 or x.shape[1] < 16:
            raise ValueError("not such a size")
        return {"y": x}

    assert study(subject(run, x=["batch", "n"]), {}).dims["n"] == Span(16, 32, 256, 8)


def test_a_size_below_which_outputs_are_filled_up_is_no_least_size() -> None:
    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"y": zeros(1, max(x.shape[1] // 64, 1))}

    made = study(subject(run, [("y", 1)], x=[1, "samples"]), {})
    assert shapes(made) == {"y": [1, "samples // 64"]}
    assert made.dims["samples"].min == 64


def test_sizes_that_are_given() -> None:
    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        if x.shape[1] < 50000:
            raise ValueError("too short")
        return {"y": x}

    with pytest.raises(
        AutovoiceError, match=r"net: runs at none of the sizes tried: too short\n.*sizes='\{batch: 100, n"
    ):
        study(subject(run, x=["batch", "n"]), {})
    assert shapes(study(subject(run, x=["batch", "n"]), {"n": 60000})) == {"y": ["batch", "n"]}


def test_a_size_that_depends_on_values() -> None:
    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"found": zeros(int((x > 0).sum()))}

    with pytest.raises(AutovoiceError, match="the size of output 'found' depends on values"):
        study(subject(run, x=["batch", "n"]), {})


def test_a_size_that_follows_no_rule() -> None:
    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        return {"pairs": zeros(x.shape[1] ** 2)}

    with pytest.raises(AutovoiceError, match="the size of output 'pairs', axis 0, follows no simple rule"):
        study(subject(run, x=["batch", "n"]), {})


def test_wires_are_names_of_this_configuration_and_no_two_alike() -> None:
    tensor: dict[str, Any] = {"dtype": "float32", "shape": []}
    made = Studied({}, {"in:0": tensor, "x": tensor}, {"x": tensor, "7": tensor}, 1)
    assert wires_of(made) == ({"in:0": "in_0", "x": "x"}, {"x": "x_out", "7": "n_7"})
