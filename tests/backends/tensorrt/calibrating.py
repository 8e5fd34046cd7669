"""A network with what calibrates it, and a TensorRT whose builder asks as the real one does."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from autovoice.backends.tensorrt.calibrators import calibrate
from autovoice.backends.tensorrt.log import Log
from autovoice.backends.tensorrt.network import network_from_onnx
from autovoice.backends.tensorrt.options import build_options
from autovoice.backends.tensorrt.request import Request
from autovoice.backends.tensorrt.versions import Features
from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt import FakeTensorRT, HostMemory, Severity, needs_init

Feeds = dict[str, np.ndarray]
Sample = tuple[str, Feeds]

INPUTS = {
    "mel": {"dtype": "float32", "shape": ["batch", 4, "frames"]},
    "noise": {"dtype": "float32", "shape": ["batch", 4, "2*frames"]},
    "tokens": {"dtype": "int64", "shape": ["batch", "frames"]},
    "voiced": {"dtype": "bool", "shape": ["batch", "frames"]},
    "units": {"dtype": "int32", "shape": ["batch", "units"]},
}
PROFILE = {
    "mel": {"min": [1, 4, 8], "opt": [1, 4, 32], "max": [2, 4, 64]},
    "noise": {"min": [1, 4, 16], "opt": [1, 4, 64], "max": [2, 4, 128]},
    "tokens": {"min": [1, 8], "opt": [1, 32], "max": [2, 64]},
    "voiced": {"min": [1, 8], "opt": [1, 32], "max": [2, 64]},
    "units": {"min": [1, 2], "opt": [1, 9], "max": [2, 20]},
}
IMPLICIT = {"calibrator": "entropy2", "min_share": None, "float16": True, "prefer_int8": False}
POLICY = {"op_types": ["Conv", "MatMul", "Gemm"], "include": [], "exclude": [], "first": True, "last": True}
KEEP: dict[str, Any] = {"op_types": [], "nodes": [], "inputs": []}


def feeds(frames: int, peak: float = 1.0, **changes: Any) -> Feeds:
    """Noise whose greatest value is `peak`, in the first frame; the frame's own number elsewhere."""
    mel = np.tile(np.arange(frames, dtype=np.float32) / 1000, (1, 4, 1))
    mel[0, 0, 0] = peak
    made = {
        "mel": mel,
        "noise": np.ones((1, 4, 2 * frames), np.float32),
        "tokens": np.arange(frames, dtype=np.int64)[None],
        "voiced": np.ones((1, frames), bool),
        "units": np.full((1, -(-frames // 3)), 7, np.int32),
    }
    return {n: v for n, v in (made | changes).items() if v is not None}


def samples_of(*frames: int) -> Callable[[], Iterator[Sample]]:
    return lambda: ((f"{i:05d}.npz", feeds(n, 1.0 + i)) for i, n in enumerate(frames))


def small_model(path: Path) -> Path:
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    def value(name: str, kind: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, INPUTS[name]["shape"])

    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32}
    kinds["bool"] = TensorProto.BOOL
    nodes = [
        helper.make_node("Conv", ["mel", "first.weight"], ["a"], "conv_a+conv_b", pads=[1, 1]),
        helper.make_node("LeakyRelu", ["a"], ["b"], "act"),
        helper.make_node("ConvTranspose", ["b", "up.weight"], ["c"], "up", pads=[1, 0], strides=[2]),
        helper.make_node("Shape", ["tokens"], ["s"], "shape"),
        helper.make_node("Add", ["c", "noise"], ["d"], "add"),
        helper.make_node("Exp", ["d"], ["e"], "exp"),
        helper.make_node("Softmax", ["e"], ["f"], "softmax", axis=1),
        helper.make_node("Conv", ["f", "last.weight"], ["y"], "conv_z", pads=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [value(n, kinds[str(t["dtype"])]) for n, t in INPUTS.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, "2*frames"])],
        [weight("first.weight", 4, 4, 3), weight("up.weight", 4, 4, 3), weight("last.weight", 4, 4, 3)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


class Calibrating(FakeTensorRT):
    """TensorRT 10 whose builder calls the calibrator as the real one does, and keeps what it was given."""

    def __init__(self, cuda: FakeCuda, generation: str = "10") -> None:
        super().__init__(cuda, generation)
        trt = self
        #: each calibration: its shapes, and the inputs of every batch
        self.seen: list[tuple[dict[str, tuple[int, ...]], list[Feeds]]] = []
        self.names: Callable[[list[str]], list[str]] = list
        self.takes_caches, self.header = True, "TRT-100600-EntropyCalibration2"

        class Builder(trt.Builder):  # type: ignore[misc, name-defined]
            def build_serialized_network(self, network: Any, config: Any) -> HostMemory | None:
                trt.built.append((network, config))
                if trt.told_to_fail("build", self.logger):
                    return None
                needs_init(config.int8_calibrator)
                if trt.takes_caches and config.int8_calibrator.read_calibration_cache():
                    return HostMemory(b"engine")
                return trt.calibrated(network, config, self.logger)

        self.Builder = Builder

    def calibrated(self, network: Any, config: Any, logger: Any) -> HostMemory | None:
        calibrator = config.int8_calibrator
        shapes = {n: s["opt"] for n, s in config.calibration_profile.shapes.items()}
        if self.takes_caches:  # then only calibrations come here, each at one shape
            assert all(s["min"] == s["max"] == shapes[n] for n, s in config.profiles[0].shapes.items())
        kinds = {t.name: t.dtype.name for t in network.inputs}
        batches: list[Feeds] = []
        while (pointers := calibrator.get_batch(self.names(list(kinds)))) is not None:
            assert all(isinstance(p, int) and p for p in pointers)
            numpy_kinds = {"FLOAT": np.float32, "INT64": np.int64, "INT32": np.int32, "BOOL": np.bool_}
            read = {
                n: self.cuda.read(p, shapes[n], numpy_kinds[kinds[n]]) for n, p in zip(kinds, pointers, strict=True)
            }
            batches.append(read)
        self.seen.append((shapes, batches))
        if not batches:
            logger.log(Severity.ERROR, "Calibration failure occurred with no scaling factors detected.")
            return None
        peaks = {n: max(float(np.abs(b[n]).max()) for b in batches) for n in ("mel", "noise")}
        lines = [f"{n}: {struct.pack('>f', peak / 127).hex()}" for n, peak in peaks.items()]
        lines += [f"{x}: {struct.pack('>f', shapes['mel'][2]).hex()}" for x in "bf"]  # more, the longer
        calibrator.write_calibration_cache(memoryview("\n".join([self.header, *lines, ""]).encode()))
        return HostMemory(b"thrown away")


class Build:
    """What the builder hands to `calibrate`."""

    def __init__(self, trt: Any, tmp_path: Path) -> None:
        self.trt, self.log = trt, Log(trt)
        path = small_model(tmp_path / "model.onnx")
        self.request = Request(
            path,
            "int8",
            (PROFILE,),
            build_options({"workspace_mb": 64}),
            {},
            INPUTS,
            KEEP,
            path,
            implicit=IMPLICIT,
            samples=samples_of(12, 30, 31, 60),
            quantize=POLICY,
        )

    def change(self, **changes: Any) -> Build:
        self.request = replace(self.request, **changes)
        return self

    def calibrate(self) -> bytes:
        has = Features(True, True, True, False)
        self.builder = self.trt.Builder(self.log.logger)
        self.network, _ = network_from_onnx(self.trt, self.builder, self.request.model, has, self.log, typed=False)
        self.config = self.builder.create_builder_config()
        return calibrate(self.trt, self.builder, self.network, self.config, self.request, self.log)

    def layers(self) -> dict[str, str]:
        """Layer → the precision it was set to, and its outputs were too, but for the network's."""
        asked = [x for x in self.network.layers if x.precision_is_set]
        ends = [x for x in asked if x.get_output(0).is_network_output]
        assert all(x.output_types == ({} if x in ends else {0: x.precision}) for x in asked)
        return {x.name: x.precision.name for x in asked}


def two_lines(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    assert len(text.splitlines()) == 2
    assert all(line.strip() for line in text.splitlines())
    return text
