"""`task=run feeds=in.npz output=out.npz`: any tensors through any built pipeline."""

from __future__ import annotations

from autovoice.errors import FeedError, StoreError
from autovoice.files import write_atomically
from autovoice.invocation import Invocation
from autovoice.npz import npz_bytes, read_npz
from autovoice.runtime.pipeline import Pipeline


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
    """The pipeline of `folder=`, or of this configuration, built first where something is missing."""
    folder = invocation.settings.folder
    if folder is None:
        from autovoice.tasks.build import build_and_tell

        folder = build_and_tell(invocation).folder
    return Pipeline.load(folder)
