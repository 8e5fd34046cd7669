"""What a backend is: at most three methods between a lowered ONNX file and answers.

A manifest names a backend by its name alone, and the name is looked up here: among the modules of this package,
then among the entry points of the group `autovoice.backends`. A manifest can therefore not make anyone import
what is not installed as a backend; what an engine itself would import is for its reader to allow (`RunsCode`).
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, cast

import numpy as np

from autovoice.backends.engine import Engine
from autovoice.errors import (
    ArtefactError,
    AutovoiceError,
    BuildError,
    ConfigError,
    EngineError,
    Fault,
    FeedError,
    first_line,
    nearest,
    wants_memory,
)
from autovoice.spec.registry import GROUP, MODULE, shipped

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

    def put(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        """The feeds, of some or all inputs, in the session's own memory, to be run many times."""
        ...

    def wait(self) -> None:
        """Until everything that `run` has started is done."""
        ...

    def close(self) -> None: ...
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
    """Made with the `options` of its YAML; where a session is loaded, also with those under `session`."""

    #: file name suffix of an engine
    suffix: str

    def __init__(self, options: Mapping[str, Any]) -> None: ...

    def engine_from_onnx(self, model: Path, engine: Path, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write `engine`; return {"file": {dtype: nodes}, …}, the precision really delivered.

        Files it needs beside it begin with the engine's name, and stand under "beside". Raises BuildError in the
        tool's own words.
        """
        ...

    def session_from_engine(self, engine: Engine, outputs: tuple[str, ...], shared: Shared | None = None) -> Session:
        """Load an engine, its outputs in this order. Raises BuildError rather than fall back to anything."""
        ...


def backend_from_target(target: str, options: Mapping[str, Any]) -> Backend:
    """The backend class of a configuration, made."""
    module, _, name = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise ConfigError(
            [Fault("backend._target_", f"'{target}' cannot be imported: {e}", "package.module.Class")]
        ) from e
    return cast(Backend, cls(options))


@contextmanager
def session_of(
    backend: Mapping[str, Any], built: Path, outputs: Iterable[str], shared: Shared | None = None
) -> Iterator[Session]:
    """The engine in a build's folder, loaded by the backend of the same record; no build uses its GPU meanwhile.

    Under "file" the record may name another file of that folder.
    """
    from autovoice.machine.sharing import gpu_shared  # locks of files, which no machine needs that only runs pipelines

    options = {**backend["options"], **_built_with(built), **backend.get("session", {})}
    made = backend_from_target(backend["target"], options)
    engine = built / backend.get("file", f"engine{made.suffix}")
    with ExitStack() as held:
        held.enter_context(gpu_shared(alone=False))  # before loading, which uses the GPU too
        try:
            loaded = made.session_from_engine(engine, tuple(outputs), shared)
        except (BuildError, ArtefactError) as e:
            if "file" not in backend:
                raise
            raise BuildError(e.fact, "backend.gated_by=null builds engines that nothing holds against a gate") from e
        with loaded as session:
            if session.memory == HOST:
                held.close()
            yield session


def _built_with(built: Path) -> Mapping[str, Any]:
    """The options that a build was made with in place of those asked for, because it crashed with these."""
    from autovoice.plan.retries import backend_options
    from autovoice.store.atomic import RECORD

    record = built / RECORD
    return backend_options(json.loads(record.read_bytes())["result"]) if record.exists() else {}


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


def backend_from_name(name: str, options: Mapping[str, Any]) -> Backend:
    """The installed backend of that name, made. Raises ArtefactError when there is none."""
    if name in shipped():
        try:
            module = importlib.import_module(f"{GROUP}.{name}.{MODULE}")
        except ImportError as e:  # its tool is not installed
            fix = "autovoice task=doctor says what adds it"
            raise ArtefactError(f"backend '{name}' cannot run here: {e}", fix) from e
        return cast(Backend, module.BACKEND(options))
    plugins = {e.name: e for e in entry_points(group=GROUP)}
    if name not in plugins:
        raise ArtefactError(f"backend '{name}' is not installed here", nearest(name, [*shipped(), *plugins]))
    try:
        made = plugins[name].load()
    except (ImportError, AttributeError) as e:
        raise ArtefactError(f"backend '{name}' cannot run here: {e}", f"{plugins[name].value} provides it") from e
    return cast(Backend, made(options))
