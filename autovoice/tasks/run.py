"""`task=run feeds=in.npz output=out.npz`: any tensors through any built pipeline."""

from __future__ import annotations

import sys
from pathlib import Path

from autovoice.config.mismatch import KEY as ON_MISMATCH
from autovoice.engine_folder import OWN, engine_folder
from autovoice.errors import ArtefactError, FeedError, StaleError, StoreError
from autovoice.files import write_atomically
from autovoice.invocation import Invocation
from autovoice.manifest import engines_in, read_manifest
from autovoice.npz import npz_bytes, read_npz
from autovoice.runtime.pipeline import Pipeline
from autovoice.runtime.trust import digest_trust
from autovoice.spec import FAIL, REBUILD


def run(invocation: Invocation) -> int:
    s = invocation.settings
    if s.feeds is None or s.output is None:
        raise FeedError("task=run needs feeds= and output=", "autovoice task=run feeds=in.npz output=out.npz")
    feeds = read_npz(s.feeds)
    with loaded(invocation) as pipeline:
        outputs = pipeline.run(feeds)
    try:
        write_atomically(s.output, npz_bytes(outputs))
    except OSError as e:
        raise StoreError(f"{s.output}: {e.strerror}", "output=/another/file.npz") from e
    for name, value in outputs.items():
        print(f"{s.output}: {name} {value.dtype} {list(value.shape)}")
    return 0


def loaded(invocation: Invocation) -> Pipeline:
    """The pipeline of `folder=`, of the folder that the configuration names, or of the build, made where it is missing.

    Says which folder it is, and which components run on something else than their engines.
    """
    folder = invocation.settings.folder or _named(invocation) or _built(invocation)
    try:
        pipeline = Pipeline.load(folder, on_mismatch=_policies(invocation, folder), trust=_trusted(invocation, folder))
    except StaleError as e:
        again = _built_again(invocation, folder, e)
        pipeline = Pipeline.load(again, trust=_trusted(invocation, again))
    for note in pipeline.notes:
        print(f" {note}", flush=True)
    return pipeline


def _named(invocation: Invocation) -> Path | None:
    """The folder that the configuration names. Raises ArtefactError where another pipeline's engines are in it."""
    settings = invocation.settings
    name = str((invocation.data.get("pipeline") or {}).get("name"))
    found = engine_folder(name, settings.engine_folders, settings.shared_engines)
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    if found.path is None:
        return None
    held = read_manifest(found.path)["pipeline"]
    if held != name:
        fix = f"tensorrt.{name}.engine_dir=/its/own/folder, or {found.said_by}=null"
        raise ArtefactError(f"{found.said_by}: '{found.path}' holds engines of {held}, not of {name}", fix)
    print(f"engines: {found.path} ({found.said_by})", flush=True)
    return found.path


def _built(invocation: Invocation, how: str = OWN) -> Path:
    from autovoice.tasks.build import build_and_tell

    folder = build_and_tell(invocation).folder
    print(f"engines: {folder} ({how})", flush=True)
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
    print(f"{error.fact}: built again here ({ON_MISMATCH}={REBUILD})", flush=True)
    return _built(Invocation(invocation.data, invocation.overrides, invocation.lookup), "built again")
