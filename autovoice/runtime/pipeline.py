"""`Pipeline.load(folder).run(feeds)`: a built folder as one callable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from autovoice.backends.base import HOST, Array, Session, Shared, naming, on_host, read_by
from autovoice.backends.chain import link, put_feeds, run_chain, wait_for
from autovoice.backends.guard import Guard
from autovoice.dims.binding import Binder
from autovoice.errors import ArtefactError, FeedError, nearest
from autovoice.runtime.folder import BuiltFolder, opened_folder
from autovoice.runtime.opened import Opened, opened
from autovoice.runtime.trust import Trust
from autovoice.spec import Dim
from autovoice.spec.ports import wires


class ComponentSession:
    """One loaded engine, with its inputs checked. Arrays go in and out by the component's own names.

    `backend` is the name of what runs it.
    """

    def __init__(
        self,
        name: str,
        opened: Opened,
        binder: Binder,
        turn: AbstractContextManager[Any],
        guard: Guard,
    ) -> None:
        self.name = name
        self._turn = turn
        self._guard = guard
        self.session: Session = opened.session
        self.backend = opened.backend
        self._binder = binder

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(self._binder.tensors)

    def run(self, feeds: Mapping[str, Array], on_device: bool = False) -> dict[str, Array]:
        """Outputs by name. Raises FeedError for a wrong name, dtype, rank, size, or sizes that disagree.

        Numpy arrays; with `on_device`, of an engine on a GPU, arrays in its memory that hold until its next run.
        """
        given = self._binder.bind(feeds)
        with self._guard, self._turn:  # until it is copied, what the engine wrote is what its next run overwrites
            with naming(self.name):
                got = self.session.run(read_by(self.session, given))
            return got if on_device else on_host(got)

    def close(self) -> None:
        self.session.close()


class Pipeline:
    """All engines of a built folder, run in order; what engines on a GPU hand to each other stays there.

    >>> with Pipeline.load("outputs/voice_conversion/onnxruntime-fp32") as pipeline:
    ...     audio = pipeline.run(feeds)["audio_output"]

    `folder` is where the engines stand, `dims` are the free and derived sizes with the profile that was built,
    `contract` is the pipeline's metadata.
    `run` may be called from several threads; engines on a GPU then take turns. A process that is forked off cannot
    run it.
    """

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], engines: Mapping[str, Opened], stack: ExitStack, shared: Shared
    ) -> None:
        """`engines` of all components of the manifest, or of some: `run` is then refused."""
        self.folder = folder
        self.manifest = {**manifest, "components": [c for c in manifest["components"] if c["name"] in engines]}
        self._whole = len(engines) == len(manifest["components"])
        self._fallbacks = tuple(e.note for e in engines.values() if e.note is not None)
        self.dims = {n: Dim(name=n, **d) for n, d in manifest["dims"].items()}
        self.contract: Mapping[str, Any] = manifest["contract"]
        self.input_names: tuple[str, ...] = tuple(manifest["inputs"])
        self.output_names: tuple[str, ...] = tuple(manifest["outputs"])
        tensors = manifest["tensors"]
        self._binder = Binder({n: tensors[n] for n in self.input_names}, self.dims)
        self._guard = Guard("pipeline")
        self._turn: AbstractContextManager[Any] = nullcontext()
        if any(e.session.memory != HOST for e in engines.values()):
            self._turn = shared.lock
        self._links = [
            link(c["name"], engines[c["name"]].session, c["inputs"], wires(c["outputs"]))
            for c in self.manifest["components"]
        ]
        self.components: dict[str, ComponentSession] = {}
        for c in self.manifest["components"]:
            engine = engines[c["name"]]
            declared = {local: tensors[wire] for local, wire in c["inputs"].items()}
            binder = Binder(declared, self.dims)
            self.components[c["name"]] = ComponentSession(c["name"], engine, binder, self._turn, self._guard)
        self._stack = stack

    @classmethod
    def load(
        cls,
        folder: str | Path,
        components: Iterable[str] | None = None,
        on_mismatch: Mapping[str, str] | None = None,
        trust: Iterable[str] = (),
    ) -> Pipeline:
        """Every engine of a folder, its hash checked first. Raises ArtefactError for a file that was changed.

        Where an engine does not fit this machine, its policy in the manifest decides, or the one that `on_mismatch`
        gives for its component. With `components`, only those are loaded; `component(name)` then gives them, and `run`
        is refused. Engines that name Python code, as those of torch, or hold code, need it to be in `trust`: modules,
        packages with all that is in them, or `sha256:` and an engine's digest. Raises TrustError, before anything is
        imported, with what is missing there.
        """
        with opened_folder(Path(folder)) as built:
            return cls._loaded(built, components, on_mismatch or {}, Trust(trust))

    @classmethod
    def _loaded(
        cls, built: BuiltFolder, components: Iterable[str] | None, policies: Mapping[str, str], trust: Trust
    ) -> Pipeline:
        every = built.manifest["components"]
        known = [c["name"] for c in every]
        wanted = known if components is None else list(components)
        for name in wanted:
            if name not in known:
                raise ArtefactError(f"{built.path}: has no component '{name}'", nearest(name, known))
        kept = [c for c in every if c["name"] in wanted]
        trust.check(built, kept)  # of all at once, before the first is loaded
        with ExitStack() as stack:
            shared = stack.enter_context(Shared())
            engines = {}
            for c in kept:
                engines[c["name"]] = opened(built, c, shared, trust, policies.get(c["name"]))
                stack.enter_context(engines[c["name"]].session)
            owned = ExitStack()
            pipeline = cls(built.path, built.manifest, engines, owned, shared)
            owned.push(stack.pop_all())  # last: whatever fails before frees everything
        return pipeline

    @property
    def notes(self) -> tuple[str, ...]:
        """Which components run on something else than their engines, and what else did not go as configured so far."""
        said = (f"{one.name}: {note}" for one in self._links for note in one.session.notes)
        return (*self._fallbacks, *said)

    def component(self, name: str) -> ComponentSession:
        """One engine on its own. Raises FeedError for a name that was not loaded."""
        if name not in self.components:
            raise FeedError(f"no component '{name}' is loaded", nearest(name, self.components))
        return self.components[name]

    def run(
        self, feeds: Mapping[str, Array], outputs: Iterable[str] | None = None, on_device: bool = False
    ) -> dict[str, Array]:
        """The pipeline's outputs by name, or any wires of it by `outputs`, as numpy arrays.

        Inputs left out take their declared default. Feeds are numpy arrays; where an engine on a GPU reads them,
        arrays in its memory too (`__cuda_array_interface__` or DLPack). With `on_device`, what such an engine made
        stays there, holds until the next run, and may be read by torch or cupy without a copy. Raises FeedError for
        a wrong name, dtype, rank or size, and for inputs whose sizes disagree; EngineError where an engine fails, as
        for want of memory.
        """
        if not self._whole:
            raise FeedError("only some components are loaded", "load the whole folder, or run a component alone")
        wanted = self.output_names if outputs is None else tuple(outputs)
        for name in wanted:
            if name not in self.manifest["tensors"]:
                raise FeedError(f"no tensor '{name}' in this pipeline", nearest(name, self.manifest["tensors"]))
        wires = self._binder.bind(feeds)
        with self._guard, self._turn:
            made = run_chain(self._links, wires)
            found = {name: made[name] for name in wanted}
            return found if on_device else on_host(found)

    def check(self, feeds: Mapping[str, Array]) -> None:
        """Raise FeedError for feeds that `run` would refuse; their values are not looked at."""
        self._binder.bind(feeds)

    def put(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Feeds where the engines that read them want them, to be run many times."""
        with self._guard:
            return put_feeds(self._links, feeds)

    def wait(self) -> None:
        """Until everything that `run` has started is done: results that stayed on the device are there."""
        with self._guard:
            wait_for(self._links)

    def close(self) -> None:
        """Free every engine, when no thread runs one any more; `run` then fails. A fork of the process frees none."""
        if self._guard.close():
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
