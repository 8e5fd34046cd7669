"""Declared tensors: dtype, shape, default, and what values to draw."""

from __future__ import annotations

from typing import Any

from autovoice.config.backends import BackendReader
from autovoice.config.example import override
from autovoice.config.reader import Reader
from autovoice.dims.expressions import ExprError, canonical
from autovoice.errors import choices, nearest
from autovoice.spec import DTYPES, Axis, Tensor

#: Hz, below which distances between waveforms are not defined
LEAST_RATE = 8000
EXAMPLES = ("normal", "uniform", "constant", "bernoulli", "integers", "cycle")


class TensorReader(BackendReader):
    """Reads tensors, and what a component chooses from."""

    def axes(self, r: Reader, key: str) -> tuple[Axis, ...]:
        shape = []
        for i, axis in enumerate(r.take(key, list)):
            try:
                shape.append(canonical(axis if type(axis) in (int, str) else repr(axis)))
            except ExprError as e:
                r.fault(f"{key}[{i}]", str(e), e.fix)
        return tuple(shape)

    def dtype(self, r: Reader, default: Any = "") -> Any:
        optional = {"default": None} if default is None else {}
        value = r.take("dtype", str, example="float32", **optional)
        if value and value not in DTYPES:
            r.fault("dtype", f"unknown dtype '{value}'", nearest(value, DTYPES))
        return value

    def tensor(self, name: str, r: Reader) -> Tensor:
        example: dict[str, Any] | None = r.take("example", dict, None, "{normal: [0, 1]}")
        if example is not None and (len(example) != 1 or next(iter(example)) not in EXAMPLES):
            r.fault("example", f"got {example!r}", f"one of {choices(EXAMPLES)}, as {{normal: [mean, std]}}")
            example = None
        numbers = next(iter(example.values())) if example else None
        if example and not _drawable(next(iter(example)), numbers):
            r.fault(
                "example",
                f"got {example!r}",
                "two numbers for normal, uniform, integers; any for cycle; one for the others",
            )
            example = None
        audio = r.take("audio", int, None)
        if audio is not None and audio < LEAST_RATE:
            r.fault("audio", f"{audio} Hz is no sample rate of audio", f"{LEAST_RATE} or more, as audio: 44100")
        default = r.raw("default")
        if default is not None and not isinstance(default, int | float | bool):
            fix = ", or ".join(override(r.path("default"), v) for v in ("0", "false", "null"))
            r.fault("default", f"must be a number, true or false, got {default!r}", fix)
            default = None
        return Tensor(name, self.dtype(r), self.axes(r, "shape"), default, example, audio)


def _drawable(kind: str, value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    if kind == "cycle" and not numbers:
        return False
    wanted = len(numbers) if kind == "cycle" else 2 if kind in ("normal", "uniform", "integers") else 1
    return len(numbers) == wanted and all(isinstance(n, int | float) for n in numbers)
