"""`task=run feeds=in.npz output=out.npz`: any tensors through any built pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from autovoice.calibration.renaming import named, unnamed
from autovoice.command.engine_folder import OWN, engine_folder
from autovoice.command.invocation import Invocation
from autovoice.config.mismatch import KEY as ON_MISMATCH
from autovoice.errors import ArtefactError, FeedError, StaleError
from autovoice.runtime.manifest import engines_in, read_manifest
from autovoice.runtime.pipeline import Pipeline
from autovoice.runtime.trust import digest_trust
from autovoice.spec import FAIL, REBUILD
from autovoice.store.arrays import ArrayFault
from autovoice.store.npz import WRITE, Archive, write_npz
from autovoice.store.output import KEY, Output, strings
from autovoice.terminal.escape import say


def run(invocation: Invocation) -> int:
    s = invocation.settings
    if s.feeds is None or s.output is None:
        raise FeedError("task=run needs feeds= and output=", "autovoice task=run feeds=in.npz output=out.npz")
    output = output_of(invocation, {"feeds": s.feeds})
    output.check()
    with _opened(s.feeds) as archive, loaded(invocation) as pipeline:
        outputs = pipeline.run(_feeds(s.feeds, archive, pipeline))
    with output.open() as file:
        write_npz(file, outputs)
    for name, value in outputs.items():
        say(f"{s.output}: {name} {value.dtype} {list(value.shape)}")
    return 0


def output_of(invocation: Invocation, inputs: Mapping[str, Path]) -> Output:
    """The file that `output=` names: none of these inputs, of what else the configuration names, or of the store."""
    s = invocation.settings
    assert s.output is not None
    named = {where: Path(text) for where, text in strings(invocation.data) if where != KEY}
    return Output(s.output, s.overwrite, {**inputs, **named}, (s.outputs / "store", *([s.folder] if s.folder else [])))


@contextmanager
def _opened(path: Path) -> Iterator[Archive]:
    """The archive of the feeds. Raises FeedError for whatever is wrong with it, now or when it is read."""
    try:
        with Archive(path) as archive:
            yield archive
    except ArrayFault as e:
        raise FeedError(f"{path}: {e}", WRITE if path.exists() else "feeds=/path/to/in.npz") from e


def _feeds(path: Path, archive: Archive, pipeline: Pipeline) -> dict[str, np.ndarray]:
    """The arrays, when their names, types and sizes have been found to fit: what does not takes no memory."""
    headers = {name: archive.header(name) for name in archive.names}
    nameless = unnamed(headers.keys() - set(pipeline.input_names))
    if nameless:
        fact = f"{path}: has '{nameless[0]}', an array saved without a name"
        raise FeedError(fact, named(path, nameless, pipeline.input_names))
    pipeline.check({name: header.placeholder() for name, header in headers.items()})
    return {name: archive.read(name) for name in archive.names}


@contextmanager
def loaded(invocation: Invocation) -> Iterator[Pipeline]:
    """The pipeline of `folder=`, of the folder that the configuration names, or of the build, made where it is missing.

    Says which folder it is, which components run on something else than their engines, and, in the end, what did not
    go as configured while they ran.
    """
    with _loaded(invocation) as pipeline:
        told = pipeline.notes
        for note in told:
            say(f" {note}")
        yield pipeline
        for note in (n for n in pipeline.notes if n not in told):
            say(f"warning: {note}", error=True)


def _loaded(invocation: Invocation) -> Pipeline:
    folder = invocation.settings.folder or _named(invocation) or _built(invocation)
    try:
        return Pipeline.load(folder, on_mismatch=_policies(invocation, folder), trust=_trusted(invocation, folder))
    except StaleError as e:
        again = _built_again(invocation, folder, e)
        return Pipeline.load(again, trust=_trusted(invocation, again))


def _named(invocation: Invocation) -> Path | None:
    """The folder that the configuration names. Raises ArtefactError where another pipeline's engines are in it."""
    settings = invocation.settings
    name = str((invocation.data.get("pipeline") or {}).get("name"))
    found = engine_folder(name, settings.engine_folders, settings.shared_engines)
    for warning in found.warnings:
        say(f"warning: {warning}", error=True)
    if found.path is None:
        return None
    held = read_manifest(found.path)["pipeline"]
    if held != name:
        fix = f"engines.{name}.dir=/its/own/folder, or {found.said_by}=null"
        raise ArtefactError(f"{found.said_by}: '{found.path}' holds engines of {held}, not of {name}", fix)
    say(f"engines: {found.path} ({found.said_by})")
    return found.path


def _built(invocation: Invocation, how: str = OWN) -> Path:
    from autovoice.tasks.build import build_and_tell

    folder = build_and_tell(invocation).folder
    say(f"engines: {folder} ({how})")
    return folder


def _policies(invocation: Invocation, folder: Path) -> dict[str, str]:
    """What this configuration says of engines that do not fit, by component; the rest is left to the folder."""
    nodes, general = invocation.data.get("component") or {}, invocation.data.get(ON_MISMATCH)
    said = {o.lstrip("+").partition("=")[0] for o in invocation.overrides}
    found = {}
    for name in (c["name"] for c in read_manifest(folder)["components"]):
        policy = (nodes.get(name) or {}).get(ON_MISMATCH) or general
        if policy != FAIL or not said.isdisjoint((ON_MISMATCH, f"component.{name}.{ON_MISMATCH}")):
            found[name] = str(policy)
    return found


def _trusted(invocation: Invocation, folder: Path) -> list[str]:
    """What the command line allows, and of the folder's engines those that this store has built itself."""
    manifest, store = read_manifest(folder), invocation.store
    made = (store.record(key) for key in manifest.get("steps", {}).values())
    built = {f.sha256 for r in made if r is not None for name, f in r.files.items() if name == r.result.get("engine")}
    own = {e["sha256"] for e in engines_in(manifest)} & built
    return [*invocation.settings.trust, *map(digest_trust, own)]


def _built_again(invocation: Invocation, folder: Path, error: StaleError) -> Path:
    """The folder of the whole configuration, built here and now. Raises the error where that is another pipeline's."""
    if read_manifest(folder)["pipeline"] != invocation.graph.spec.pipeline.name:
        raise error
    say(f"{error.fact}: built again here ({ON_MISMATCH}={REBUILD})")
    return _built(Invocation(invocation.data, invocation.overrides, invocation.lookup), "built again")
