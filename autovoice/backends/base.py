"""The backend protocol: at most three methods between a lowered ONNX file and answers.

A configuration names its class by `_target_`, made with its `options`, and its environment function by `environment`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, cast

import numpy as np

from autovoice.backends.engine import Engine
from autovoice.errors import (
    AutovoiceError,
    BuildError,
    EngineError,
    FeedError,
    first_line,
    wants_memory,
)

if TYPE_CHECKING:
    from autovoice import spec
    from autovoice.backends.build import BuildRequest, Delivered

T = TypeVar("T")

#: numpy, or, of a session in "cuda" memory, anything that `np.asarray` reads and that names its device memory
Array = Any
HOST = "host"
#: what a session raises that fails while it runs
ENGINE_ERRORS = (EngineError, BuildError)
#: how much is repeated of what a tool says
_WORDS = 300


class Runs(Protocol):
    """What a chain of components needs of each, a session or another."""

    memory: str

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]: ...


class Session(Runs, Protocol):
    """A loaded engine. Takes and returns arrays by the component's own names.

    `memory` "host": numpy arrays, which the caller owns. "cuda": arrays in the GPU's memory, which belong to the
    session and hold until its next run; what `run` starts may end after it returns, `wait` says when.
    """

    @property
    def notes(self) -> Sequence[str]:
        """Sentences about what did not go as configured since it was loaded; it runs nevertheless."""
        ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs that it was loaded for, in that order, of the declared dtypes; may be called by several threads.

        `feeds` has every input, checked against the declaration (`run_error` words what the tool raises). Raises
        FeedError for arrays that it cannot take, EngineError or BuildError for what goes wrong while it runs.
        """
        ...

    def put(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """The feeds, of some or all inputs, in the session's own memory, to be run many times. Raises as `run` does."""
        ...

    def wait(self) -> None:
        """Until everything that `run` has started is done. Raises EngineError or BuildError for what failed in it."""
        ...

    def close(self) -> None:
        """Free the engine. Twice is harmless; a later `run` raises BuildError."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Shared:
    """What the sessions of one pipeline have in common: a stream, a block of memory. The pipeline closes it."""

    def __init__(self) -> None:
        #: held by whoever runs a chain of sessions that write into memory of their own
        self.lock = threading.RLock()
        self._made: dict[str, Any] = {}

    def of(self, kind: str, make: Callable[[], T]) -> T:
        """The one object of that kind, made at its first use; its `close` is called when the pipeline is closed."""
        with self.lock:
            if kind not in self._made:
                self._made[kind] = make()
            return cast(T, self._made[kind])

    def close(self) -> None:
        with self.lock:
            while self._made:
                self._made.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Backend(Protocol):
    """A class found by its name among entry points of the group `autovoice.backends`, so that folders can name it.

    Its code and the distributions that this imports are part of what an engine depends on. A backend some of whose
    engines hold or name code also has `code_in` (see `RunsCode`).
    """

    #: what the name of an engine's file ends in, with its dot: ".onnx"
    suffix: str

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Imports no tool where that takes long: it is made for every build and every load.

        `options` are those of its YAML and of the component; to load, also those under `session`. A folder from
        elsewhere may bring any: raises BuildError, `backend.options.<key>: …`, for one it does not know, of another
        type, or out of range.
        """
        ...

    def engine_from_onnx(self, request: BuildRequest) -> Delivered:
        """Write `request.engine`, and files beside it as far as it needs any; say what it computes in.

        Runs in a worker process; what it prints goes to the step's log. Raises BuildError in the tool's own words, or
        PrecisionError where the tool delivers another type than `request.precision` asks. A quantized precision whose
        `model` has nodes in its type, and an engine without any, fails afterwards.
        """
        ...

    def session_from_engine(self, engine: Engine, outputs: tuple[str, ...], shared: Shared | None = None) -> Session:
        """Load an engine, its outputs in this order; sessions with the same `shared` may have a stream in common.

        `engine` is a file of a build or of a published folder, read through `os.fspath(engine)` or `read_bytes()`; with
        `gated_by`, also the ONNX file of another backend's engine. Raises BuildError rather than fall back to anything,
        ArtefactError for a file that is not what was written, MismatchError for an engine of another machine.
        """
        ...


class Environment(Protocol):
    """The function that a backend's YAML names under `environment`: what its engines depend on beside their graph.

    Called while a build is planned, once for each backend and compute type; so it imports no tool, and takes no time.
    """

    def __call__(self, backend: spec.Backend, precision: str, /) -> Mapping[str, Any] | None:
        """Plain data, which is part of the engine's key and stands in the manifest; None for nothing.

        `precision` is a compute type: "float16". What it returns may be anything that JSON holds, as versions of tools
        and names of GPUs; three keys mean something, all of them optional:

        "runs_here": False where this machine cannot run what it builds; nothing is measured here then, and with
        `gated_by` the graphs that engines are made from are held against the gates. Not part of the key.
        "implicit_int8": True where the tool itself can choose what to quantize (see `BuildRequest`).
        "compute_capabilities": the GPUs that an engine is for, shown where it cannot run here.

        Raises BuildError for what cannot be built here, and for wrong options (`backend.options.<key>: …`); the fix
        says what to choose instead.
        """
        ...


def on_host(arrays: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """The same arrays as numpy's own, copied from the GPU where they are there. Raises FeedError where they cannot."""
    found = {}
    for name, array in arrays.items():
        try:
            found[name] = np.asarray(array)
        except TypeError as e:  # torch's way to say that an array is not in the host's memory
            raise FeedError(f"'{name}' lies in GPU memory, and is read on the host", f"{name}.cpu().numpy()") from e
    return found


def read_by(session: Runs, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """What another session gave, as this one can read it."""
    return on_host(arrays) if session.memory == HOST else arrays


def run_error(tool: str, error: Exception, feeds: Mapping[str, Array]) -> AutovoiceError:
    """What to raise for an error of a tool that ran an engine: its own words, and what it was given."""
    if isinstance(error, AutovoiceError):
        return error
    words = first_line(error)
    words = words if len(words) <= _WORDS else f"{words[:_WORDS]}…"
    given = ", ".join(f"'{n}' {'×'.join(map(str, getattr(a, 'shape', ()))) or 'a scalar'}" for n, a in feeds.items())
    if wants_memory(error):
        fix = "out of memory: give it less at a time, as a shorter recording or a smaller batch"
    else:
        fix = "build it again, or on another backend; what it was built for stands in its manifest"
    return EngineError(f"{tool} failed on {given}: {words}", fix)


def named_error(error: AutovoiceError, component: str) -> AutovoiceError:
    """The same error of an engine, with the component's name."""
    return type(error)(f"{component}: {error.fact}", error.fix)


@contextmanager
def naming(component: str) -> Iterator[None]:
    """Errors of an engine that runs meanwhile get the component's name."""
    try:
        yield
    except ENGINE_ERRORS as e:
        raise named_error(e, component) from e
