"""One step, run where its executor put it: lock, look again, work in a temporary folder, commit."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autovoice.errors import ArtefactError, AutovoiceError, ChangedError, StepError, first_line, wants_memory
from autovoice.machine.sharing import machine_shared
from autovoice.plan.arguments import appeared
from autovoice.plan.code import code_file
from autovoice.plan.retries import Retry, overlaid, recorded
from autovoice.spec import WORKER
from autovoice.steps.context import Context
from autovoice.store.artefacts import Record, Store, store_error
from autovoice.store.hashing import uncached_sha256


@dataclass(frozen=True)
class Job:
    """Everything a step needs to run, picklable; `retry` where it is run once more, with other fields."""

    id: str
    kind: str
    key: str
    store: Path
    inputs: Mapping[str, Any]
    files: Mapping[str, Path]
    log: Path
    retry: Retry | None = None


def run_job(job: Job) -> Record:
    """The record of the step, run now or found: another builder may have made it meanwhile.

    Raises AutovoiceError; a failure leaves nothing behind but its log.
    """
    store = Store(job.store)
    try:
        with store.lock(job.key):
            found = store.record(job.key)
            if found is not None:
                return found
            work = store.workplace(job.key)
            try:
                with machine_shared():
                    return _run(job, store, work)
            finally:
                store.sweep_tmp(job.key)
    except OSError as e:  # on a full disk not even the log can be written
        raise store_error(store.root, e) from e


def _run(job: Job, store: Store, work: Path) -> Record:
    needs = {role: _intact(store, key) for role, key in job.inputs["needs"].items()}
    fields = job.inputs["fields"] if job.retry is None else overlaid(job.inputs["fields"], job.retry.fields)
    context = Context(fields, needs, job.files, work, store.caches)
    start = time.perf_counter()
    with _logged(job.log):
        try:
            result = recorded(_result(job, context), job.retry)
            return store.commit(job.key, work, job.inputs, result, time.perf_counter() - start)
        except AutovoiceError:
            traceback.print_exc()
            raise
        except MemoryError as e:
            raise StepError(f"{job.id}: out of memory", "lower dims.*.max, or workers=1") from e
        except OSError as e:
            traceback.print_exc()
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise StepError(f"{job.id}: {e.strerror or e}", f"log: {job.log}") from e
        except Exception as e:
            traceback.print_exc()
            fact = f"{job.id}: {type(e).__name__}: {first_line(e)}"
            why = "out of memory? lower dims.*.max, or workers=1" if wants_memory(e) else "unexpected error"
            raise StepError(fact, f"{why}; full traceback: {job.log}") from e


def _result(job: Job, context: Context[Any]) -> dict[str, Any]:
    try:
        result: dict[str, Any] = importlib.import_module(f"autovoice.steps.{job.kind}").run(context)
    except Exception:
        _check_unchanged(job)  # half a file may be all that is wrong
        raise
    _check_unchanged(job)
    return result


def _check_unchanged(job: Job) -> None:
    """Raise ChangedError when a file or module is no longer what the key was made of: the result may be of either."""
    current = {name: (path, job.inputs["files"][name]) for name, path in job.files.items()}
    current |= {m: (code_file(m), digest) for m, digest in job.inputs["code"].items()}
    for name, (path, digest) in current.items():
        if path is None or _digest(path) != digest:
            raise _changed(job, str(path or name))
    new = appeared(job.files)
    if new is not None:
        raise _changed(job, str(new))


def _digest(path: Path) -> str | None:
    try:
        return uncached_sha256(path)
    except OSError:
        return None


def _changed(job: Job, what: str) -> ChangedError:
    fix = (
        "run the same command again when nothing writes there; what a step itself writes cannot be among what it reads"
    )
    return ChangedError(f"{job.id}: {what} changed while it was being read", fix, what)


def _intact(store: Store, key: str) -> Path:
    """The folder of a needed artefact, its files hashed again: a flipped bit must not travel on."""
    record, folder = store.written(key), store.folder(key)
    digests = {name: _digest(folder / name) for name in record.files} if record else {}
    if record is None or None in digests.values():
        raise ArtefactError(f"{folder}: the artefact is gone or damaged", "run the same command again: it is rebuilt")
    for name, file in record.files.items():
        if digests[name] != file.sha256:
            store.distrust(key, name)
            raise ArtefactError(
                f"{folder / name}: content changed since it was built", "run the same command again: it is rebuilt"
            )
    return folder


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """In a worker process of ours, everything printed, also by native code, goes to the step's log."""
    if WORKER not in os.environ:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb", buffering=0) as log:
        saved = [os.dup(fd) for fd in (1, 2)]
        for fd in (1, 2):
            os.dup2(log.fileno(), fd)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, fd)
            os.close(copy)
