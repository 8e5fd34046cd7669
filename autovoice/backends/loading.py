"""The engine in a build's folder, loaded to be run by a step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autovoice.backends.base import HOST
from autovoice.backends.registry import backend_from_target
from autovoice.errors import ArtefactError, BuildError

if TYPE_CHECKING:
    from autovoice.backends.base import Session, Shared
    from autovoice.spec.fields import LoaderField


@contextmanager
def session_of(
    backend: LoaderField, built: Path, outputs: Iterable[str], shared: Shared | None = None
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
