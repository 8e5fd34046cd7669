"""Execution contexts: what runs an engine, and must be told shapes and addresses first."""

from __future__ import annotations

from collections.abc import Sequence

from autovoice.backends.cuda.arena import Arena
from autovoice.backends.tensorrt.fit import Fit, Profiles
from autovoice.backends.tensorrt.loaded import LoadedEngine, Shapes
from autovoice.errors import BuildError, FeedError, choices, first_line

#: how many sets of input shapes have their output shapes remembered
_SHAPES = 256


class Execution:
    """One execution context on an arena: a profile, the shapes of the inputs, the addresses of all tensors."""

    def __init__(self, engine: LoadedEngine, arena: Arena, profile: int, lasting: bool = False) -> None:
        self._engine = engine
        self._arena = arena
        self._names = tuple(s.name for s in (*engine.inputs, *engine.outputs))
        self._shapes: Shapes | None = None
        self._generation = -1
        self.context = engine.context(lasting)
        self._place()
        if self.context.active_optimization_profile != profile and not self._choose(profile):
            raise engine.refused(f"choose profile {profile} of {engine.name}", "load it again")

    def shape(self, shapes: Shapes) -> None:
        """Set the inputs' shapes, in their order."""
        if shapes == self._shapes:
            return
        self._shapes = None
        for spec, shape in zip(self._engine.inputs, shapes, strict=True):
            if not self.context.set_input_shape(spec.name, shape):
                raise self._engine.refused(
                    f"take '{spec.name}' as {_by(shape)}", "rebuild with a profile that holds it"
                )
        self._infer(shapes)
        self._shapes = shapes

    def outputs(self) -> Shapes:
        """The outputs' shapes. Raises BuildError for one that depends on values."""
        found = []
        for spec in self._engine.outputs:
            shape = tuple(self.context.get_tensor_shape(spec.name))
            if any(axis < 0 for axis in shape):
                raise BuildError(
                    f"output '{spec.name}' has a shape that depends on values: {_by(shape)}",
                    "give the model outputs whose sizes follow from those of its inputs",
                )
            found.append(shape)
        return tuple(found)

    def bind(self, addresses: Sequence[int]) -> None:
        """Where inputs and outputs are, in their order."""
        for name, address in zip(self._names, addresses, strict=True):
            if not self.context.set_tensor_address(name, address):
                raise self._engine.refused(f"use an address for '{name}'", "report this model")

    def enqueue(self, stream: int) -> None:
        """Put one run on a stream."""
        self._place()
        if not self.context.execute_async_v3(stream):
            raise self._engine.refused(f"run {self._engine.name}", "see the message; build it again if it persists")

    def _choose(self, profile: int) -> bool:
        try:
            return bool(self.context.set_optimization_profile_async(profile, self._arena.stream.handle))
        except RuntimeError:  # raised by TensorRT, returned as False by TensorRT-RTX; the log has the words of both
            return False

    def _infer(self, shapes: Shapes) -> None:
        try:
            missing = self.context.infer_shapes()
        except RuntimeError as e:
            given = ", ".join(f"'{s.name}' {_by(shape)}" for s, shape in zip(self._engine.inputs, shapes, strict=True))
            why = self._engine.refused("infer shapes", "").fact
            raise FeedError(f"{given} do not fit together", f"{why} ({first_line(e)})") from e
        if missing:
            raise self._engine.refused(f"tell its output shapes without {choices(missing)}", "report this model")

    def _place(self) -> None:
        block = self._arena.activations
        if block is not None and self._generation != self._arena.generation:
            self.context.set_device_memory(block.ptr, block.nbytes)
            self._generation = self._arena.generation


class Executions:
    """The contexts for calls that come once, one a profile, and the shapes of outputs that go with those of inputs."""

    def __init__(self, engine: LoadedEngine, arena: Arena, profiles: Profiles) -> None:
        self._engine = engine
        self._arena = arena
        self._profiles = profiles
        self._contexts: dict[int, Execution] = {}
        self._fits: dict[Shapes, Fit] = {}

    def of(self, profile: int) -> Execution:
        if profile not in self._contexts:
            self._contexts[profile] = Execution(self._engine, self._arena, profile)
        return self._contexts[profile]

    def fit(self, shapes: Shapes) -> Fit:
        """The profile that holds these input shapes, and the outputs' shapes. Raises FeedError where none does."""
        fit = self._fits.get(shapes)
        if fit is None:
            profile = self._profiles.index(shapes)
            execution = self.of(profile)
            execution.shape(shapes)
            fit = Fit(profile, execution.outputs())
            if len(self._fits) >= _SHAPES:
                del self._fits[next(iter(self._fits))]
            self._fits[shapes] = fit
        return fit

    def clear(self) -> None:
        self._contexts.clear()


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(str(axis) for axis in shape) or "a scalar"
