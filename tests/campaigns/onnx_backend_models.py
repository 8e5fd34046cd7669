"""onnx's own test models, each declared as a component, built in this process and held against ONNX Runtime.

    python -m tests.campaigns.onnx_backend_models --count 200 --seed 1
    python -m tests.campaigns.onnx_backend_models --only test_lstm --precision fp16

A model counts where ONNX Runtime itself runs it on its own inputs. It comes out equal, refused (by an error of two
lines, grouped by what it says), or as something else, which is a fault of this tool.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from autovoice.errors import AutovoiceError
from autovoice.measure.points import POINTS, save_point
from autovoice.spec import DTYPES
from autovoice.steps.context import Context
from autovoice.store.atomic import RECORD

_KEEP: dict[str, list[str]] = {"op_types": [], "nodes": [], "inputs": []}
_LOWERINGS = {
    "fp32": ("float32", "autovoice.onnx_tools.lowering.floating.keep_float32"),
    "fp16": ("float16", "autovoice.onnx_tools.lowering.floating.to_float16"),
}
#: what of an error differs from model to model
_OWN = re.compile(r"'[^']*'|\[[^\]]*\]|\d+|/\S+|\([^)]*\)|\S+_\S+")
#: how far an engine in float32 may be from ONNX Runtime without optimisation
_TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}


@dataclass(frozen=True)
class Case:
    """A model with one set of inputs."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """`equal`, `refused`, `other`, or `not run` by ONNX Runtime itself; and why."""

    name: str
    kind: str
    why: str = ""


def cases() -> Iterator[Case]:
    """Models that the onnx package makes by its operators' examples, then those that it has as files."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = collect_testcases(None)
    for case in made:
        yield Case(case.name, case.model, _fed(case.model, case.data_sets[0][0]))
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for path in sorted(data.glob("*/*/model.onnx")):
        model = onnx.load(path)
        yield Case(f"{path.parent.parent.name}/{path.parent.name}", model, _fed(model, _stored(path.parent, model)))
    for path in sorted(data.glob("light/*.onnx")):
        model = onnx.load(path)
        yield Case(f"light/{path.stem}", model, _fed(model, _drawn(model)))


def _stored(folder: Path, model: onnx.ModelProto) -> list[Any]:
    found = []
    for i in range(len(_inputs(model))):
        file = folder / "test_data_set_0" / f"input_{i}.pb"
        if not file.is_file():
            break
        try:
            found.append(numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes())))
        except Exception:  # a sequence or an optional: not a tensor
            found.append(None)
    return found


def _drawn(model: onnx.ModelProto) -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = [[d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in _inputs(model)]
    return [rng.standard_normal(s, dtype=np.float32) for s in shapes]


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    stored = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in stored]


def _fed(model: onnx.ModelProto, values: Sequence[Any]) -> dict[str, Any]:
    every = _inputs(model) if len(values) <= len(_inputs(model)) else model.graph.input
    return {v.name: a for v, a in zip(every, values, strict=False)}


def outcome(case: Case, precision: str = "fp32") -> Outcome:
    """What became of one model."""
    expected = _expected(case)
    if isinstance(expected, str):
        return Outcome(case.name, "not run", expected)
    with tempfile.TemporaryDirectory(prefix="onnx-models-") as folder:
        try:
            fault = _built(case, expected, Path(folder), precision)
        except AutovoiceError as e:
            two_lines = str(e).count("\n") <= 1
            return Outcome(case.name, "refused" if two_lines else "other", str(e).replace(folder, ""))
        except Exception as e:  # what the campaign looks for
            return Outcome(case.name, "other", f"{type(e).__name__}: {e}"[:400])
    return Outcome(case.name, "other" if fault else "equal", fault or "")


def _expected(case: Case) -> dict[str, np.ndarray] | str:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not all(isinstance(a, np.ndarray) for a in case.feeds.values()):
        return "an input is no tensor"
    try:
        session = ort.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        values = session.run(names, case.feeds)
    except Exception as e:  # onnxruntime raises a class of its own per status code, all plain Exceptions
        return str(e).splitlines()[0][:200]
    if not all(isinstance(v, np.ndarray) for v in values):
        return "an output is no tensor"
    return dict(zip(names, values, strict=True))


def _built(case: Case, expected: dict[str, np.ndarray], folder: Path, precision: str) -> str | None:
    """None for an engine that answers as ONNX Runtime does, else how it differs."""
    from autovoice.backends.onnxruntime.backend import OnnxRuntime
    from autovoice.steps import build, import_onnx, lower, reference_onnx, verify

    fields = _fields(case, expected, precision)
    _check_declared(fields)
    file = folder / "given.onnx"
    onnx.save(case.model, file)
    parts = {n: folder / n for n in ("inputs", "export", "reference", "lower", "build", "verify")}
    for path in parts.values():
        path.mkdir()
    for point in POINTS:
        save_point(parts["inputs"], point, case.feeds)
    needs = {"inputs": parts["inputs"]}
    import_onnx.run(Context(fields, {}, {"onnx": file}, parts["export"]))
    lowered = lower.run(Context(fields, {"export": parts["export"]}, {}, parts["lower"]))
    (parts["lower"] / RECORD).write_text(json.dumps({"result": lowered}))
    built = build.run(Context(fields, {"lower": parts["lower"]}, {}, parts["build"]))
    (parts["build"] / RECORD).write_text(json.dumps({"result": built}))
    with OnnxRuntime({}).session_from_engine(parts["build"] / built["engine"], tuple(expected)) as session:
        got = session.run(case.feeds)
    fault = _difference(got, expected) if precision == "fp32" else None
    if fault is None and precision == "fp32":
        reference_onnx.run(Context(fields, needs, {"onnx": file}, parts["reference"]))
        again = {"build": parts["build"], "reference:it": parts["reference"], **needs}
        verify.run(Context(fields, again, {}, parts["verify"]))
    return fault


def _fields(case: Case, expected: dict[str, np.ndarray], precision: str) -> dict[str, Any]:
    dtype, lowering = _LOWERINGS[precision]
    outputs = {n: {"dtype": a.dtype.name, "shape": list(a.shape), "wire": f"out {n}"} for n, a in expected.items()}
    return {
        "inputs": {n: {"dtype": a.dtype.name, "shape": list(a.shape)} for n, a in case.feeds.items()},
        "outputs": outputs,
        "output_order": list(expected),
        "export": {"opset": 18, "simplify": True},
        "formulas": {},
        "trace": {},
        "reads": {n: {"role": "inputs", "wire": n} for n in case.feeds},
        "precision": {"name": precision, "type": dtype, "scope": "all"},
        "lowering": {"target": lowering, "kwargs": {}},
        "keep": _KEEP,
        "own_keep": _KEEP,
        "backend": {
            "name": "onnxruntime",
            "target": "autovoice.backends.onnxruntime.backend.OnnxRuntime",
            "options": {},
        },
        "references": {n: {"role": "reference:it", "wire": f"out {n}"} for n in expected},
        "gates": {"snr_db": 60},
        "about": {
            **{"type": dtype, "gate": precision, "quantized": False, "given": False, "module": False, "higher": None},
            **{"members": [], "inputs": list(case.feeds)},
        },
        "audio": {},
    }


def _check_declared(fields: dict[str, Any]) -> None:
    """What the configuration's reader refuses, in fewer words."""
    for tensor in (*fields["inputs"].values(), *fields["outputs"].values()):
        if tensor["dtype"] not in DTYPES:
            raise AutovoiceError(f"unknown dtype {tensor['dtype']}", f"available: {', '.join(DTYPES)}")
        if 0 in tensor["shape"]:
            raise AutovoiceError("an axis of size zero", "needs 1 ≤ min ≤ opt ≤ max")


def _difference(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str | None:
    for name, want in expected.items():
        have = got[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            return f"'{name}' is {have.dtype} {have.shape}, ONNX Runtime has {want.dtype} {want.shape}"
        near = np.isclose(have, want, **_TOLERANCE, equal_nan=True) if want.dtype.kind == "f" else have == want
        if not near.all():
            return f"'{name}' differs in {int((~near).sum())} of {near.size} values"
    return None


# -- many of them ----------------------------------------------------------------------------------


def chosen(count: int | None, seed: int, only: str) -> list[Case]:
    """A seeded sample of the models whose names hold `only`."""
    found = [c for c in cases() if only in c.name]
    if count is None or count >= len(found):
        return found
    order = np.random.default_rng(seed).permutation(len(found))[:count]
    return [found[i] for i in sorted(order)]


#: models a process: what libraries keep of each goes with it
_AT_A_TIME = 60


def outcomes(every: Sequence[Case], precision: str) -> Iterator[Outcome]:
    """Each in turn, in a process of its own kind: one that dies takes no other model with it."""
    done = 0
    while done < len(every):
        receiving, sending = multiprocessing.get_context("fork").Pipe(duplex=False)
        part = every[done : done + _AT_A_TIME]
        worker = multiprocessing.get_context("fork").Process(target=_work, args=(part, precision, sending))
        worker.start()
        sending.close()
        try:
            for _ in part:
                yield receiving.recv()
                done += 1
        except EOFError:
            yield Outcome(every[done].name, "other", "the process died")
            done += 1
        worker.join()


def _work(every: Sequence[Case], precision: str, sending: Any) -> None:
    for case in every:
        sending.send(outcome(case, precision))
    sending.close()
    sys.stdout.flush()
    os._exit(0)  # what the fork copied is not this process's to clean up


def report(found: Sequence[Outcome]) -> str:
    kinds = Counter(o.kind for o in found)
    lines = [", ".join(f"{kinds[k]} {k}" for k in ("equal", "refused", "other", "not run"))]
    for kind in ("refused", "other"):
        groups: dict[str, list[Outcome]] = {}
        for o in (o for o in found if o.kind == kind):
            groups.setdefault(_OWN.sub("…", o.why.splitlines()[0]), []).append(o)
        for own in sorted(groups.values(), key=len, reverse=True):
            names = ", ".join(o.name for o in own[:6])
            lines.append(f"{kind} {len(own)}: {own[0].why}\n    {names}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, help="how many; all of them by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="models whose names hold this")
    parser.add_argument("--precision", choices=tuple(_LOWERINGS), default="fp32")
    given = parser.parse_args(arguments)
    found = []
    for made in outcomes(chosen(given.count, given.seed, given.only), given.precision):
        found.append(made)
        print(f"{made.name}: {made.kind} {made.why}".splitlines()[0], file=sys.stderr, flush=True)
    print(report(found))
    return 1 if any(o.kind == "other" for o in found) else 0


if __name__ == "__main__":
    sys.exit(main())
