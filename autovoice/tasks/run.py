"""`task=run feeds=in.npz output=out.npz`: any tensors through any built pipeline."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from autovoice.errors import FeedError, StoreError
from autovoice.files import write_atomically
from autovoice.invocation import Invocation
from autovoice.runtime.pipeline import Pipeline


def run(invocation: Invocation) -> int:
    s = invocation.settings
    if s.feeds is None or s.output is None:
        raise FeedError("task=run needs feeds= and output=", "autovoice task=run feeds=in.npz output=out.npz")
    feeds = read_npz(s.feeds)
    with loaded(invocation) as pipeline:
        outputs = pipeline.run(feeds)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **outputs)
    try:
        write_atomically(s.output, buffer.getvalue())
    except OSError as e:
        raise StoreError(f"{s.output}: {e.strerror}", "output=/another/file.npz") from e
    for name, value in outputs.items():
        print(f"{s.output}: {name} {value.dtype} {list(value.shape)}")
    return 0


def loaded(invocation: Invocation) -> Pipeline:
    """The pipeline of `folder=`, or of this configuration, built first where something is missing."""
    folder = invocation.settings.folder
    if folder is None:
        from autovoice.tasks.build import build_and_tell

        folder = build_and_tell(invocation).folder
    return Pipeline.load(folder)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name. Raises FeedError for anything that is not a plain npz; nothing in it is executed."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if not hasattr(data, "files"):
                raise FeedError(f"{path}: is one array, not an npz of named inputs", "np.savez(path, name=array, …)")
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as e:
        raise FeedError(f"{path}: cannot be read as npz", str(e).splitlines()[0] if str(e) else "empty file") from e
