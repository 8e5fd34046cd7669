"""ONNX → ONNX rewrites that make a graph faster to run and leave its values as they are, up to rounding.

A pass is a function `f(model: onnx.ModelProto) -> int`: it changes a lowered model in place and returns how many
rewrites it made, 0 where there was nothing to do. It needs nothing but the graph, works on float32, float16 and
explicitly quantized graphs, keeps inputs and outputs exactly and the names of heavy nodes (`a+b` where it joins two),
and leaves alone what it does not understand. A user's own pass is named by its dotted path, `package.module.function`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from autovoice.errors import LoweringError, first_line, nearest
from autovoice.spec.names import PASSES

if TYPE_CHECKING:
    import onnx

    Pass = Callable[[onnx.ModelProto], int]


def apply(model: onnx.ModelProto, names: Iterable[str]) -> dict[str, int]:
    """Run passes in the order given, in place: {name: rewrites}, summed for one named twice.

    Raises LoweringError for an unknown name, before anything runs, and for a model that a pass has broken.
    """
    import onnx  # whoever plans only wants the names above

    from autovoice.onnx_tools.guard import guarded

    found = [(name, find(name)) for name in names]
    made: dict[str, int] = {}
    for name, run in found:
        with guarded(f"pass {name}", "leave it out: backend.passes=[…]"):
            made[name] = made.get(name, 0) + run(model)
    if any(made.values()):
        try:
            onnx.checker.check_model(model)
        except (onnx.checker.ValidationError, ValueError) as e:
            ran = ", ".join(name for name, n in made.items() if n)
            raise LoweringError(f"the graph is not valid after {ran}: {first_line(e)}", "leave out one of them") from e
    return made


def find(name: str) -> Pass:
    """The pass of that name, or of that dotted path. Raises LoweringError."""
    if name not in PASSES and "." not in name:
        raise LoweringError(f"there is no pass '{name}'", nearest(name, PASSES))
    module, _, function = PASSES.get(name, name).rpartition(".")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as e:
        raise LoweringError(f"pass '{name}' cannot be imported: {first_line(e)}", nearest(name, PASSES)) from e
    if not callable(found):
        raise LoweringError(f"pass '{name}' is not a function", "a pass takes a model and returns a number")
    run: Pass = found
    return run
