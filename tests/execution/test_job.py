from __future__ import annotations

import errno
import json
import os
import pickle
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from autovoice.errors import ArtefactError, ChangedError, LoweringError, StepError, StoreError
from autovoice.execution import job as job_module
from autovoice.execution.job import Job, run_job
from autovoice.plan.retries import Retry, retry_of
from autovoice.store.artefacts import Store
from autovoice.store.hashing import uncached_sha256, value_sha256

KEY, NEED = "ab" + "0" * 62, "cd" + "0" * 62


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    work = store.workplace(NEED)
    (work / "model.onnx").write_bytes(b"model")
    store.commit(NEED, work, {}, {}, 0)
    return store


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch):
    """Make `autovoice.steps.toy` the step that runs this function."""

    def install(run) -> None:
        module = ModuleType("autovoice.steps.toy")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "autovoice.steps.toy", module)

    return install


def job(store: Store, **changes: Any) -> Job:
    weights = store.root / "w"
    weights.write_bytes(b"weights")
    files = {"w": uncached_sha256(weights)}
    inputs = {"fields": {"n": 3}, "needs": {"export": NEED}, "files": files, "code": {}}
    return Job("a.toy", "toy", KEY, store.root, inputs, {"w": weights}, store.root / "logs" / "a.log", **changes)


def copy(context) -> dict[str, Any]:
    (context.out / "copy.onnx").write_bytes((context.needs["export"] / "model.onnx").read_bytes())
    return {"n": context.fields["n"], "files": sorted(context.files)}


def test_a_step_is_given_its_record_and_its_folder_is_committed(store: Store, step) -> None:
    step(copy)
    made = run_job(job(store))
    assert made == store.record(KEY)
    assert made.result == {"n": 3, "files": ["w"]}
    assert (store.folder(KEY) / "copy.onnx").read_bytes() == b"model"
    assert list((store.root / "tmp").iterdir()) == []


def test_a_file_that_changed_under_a_step_is_not_cached(store: Store, step) -> None:
    def replaces_its_weights(context) -> dict[str, Any]:
        context.files["w"].write_bytes(b"other weights")
        return {}

    step(replaces_its_weights)
    with pytest.raises(StepError) as raised:
        run_job(job(store))
    assert raised.value.fact == f"a.toy: {store.root / 'w'} changed while it was being read"
    assert store.record(KEY) is None


def test_a_step_that_fails_on_a_file_that_changed_says_that_it_changed(store: Store, step) -> None:
    def reads_half_a_file(context) -> dict[str, Any]:
        context.files["w"].write_bytes(b"wei")
        raise LoweringError("w: cut short", "write it again")

    step(reads_half_a_file)
    with pytest.raises(ChangedError, match=r"/w changed while it was being read") as raised:
        run_job(job(store))
    assert raised.value.path == str(store.root / "w")
    copied = pickle.loads(pickle.dumps(raised.value))  # as it comes from a worker process
    assert (str(copied), copied.path) == (str(raised.value), raised.value.path)


def test_a_file_that_went_away_or_came_under_a_step(store: Store, step) -> None:
    def removes(context) -> dict[str, Any]:
        context.files["w"].unlink()
        return {}

    step(removes)
    with pytest.raises(ChangedError, match="/w changed while it was being read"):
        run_job(job(store))
    folder = store.root / "model"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    files = {"model.path/a": uncached_sha256(folder / "a")}
    inputs = {"fields": {}, "needs": {}, "files": files, "code": {}}
    one = Job("a.toy", "toy", KEY, store.root, inputs, {"model.path/a": folder / "a"}, store.root / "logs" / "a.log")

    def adds(context) -> dict[str, Any]:
        (folder / "b").touch()
        return {}

    step(adds)
    with pytest.raises(ChangedError, match="model/b changed while it was being read"):
        run_job(one)
    assert store.record(KEY) is None


def test_what_another_builder_made_meanwhile_is_taken(store: Store, step) -> None:
    step(copy)
    first = run_job(job(store))
    step(lambda context: pytest.fail("ran twice"))
    assert run_job(job(store)) == first


@pytest.mark.parametrize(
    ("error", "kind", "fact", "fix"),
    [
        pytest.param(LoweringError("no", "try"), LoweringError, "no", "try", id="users"),
        pytest.param(MemoryError(), StepError, "a.toy: out of memory", "lower dims.*.max, or workers=1", id="memory"),
        pytest.param(OSError(errno.EIO, "Input/output error"), StepError, "a.toy: Input/output", "log: ", id="system"),
        pytest.param(OSError(errno.ENOSPC, "No space"), StoreError, "store ", "free some space", id="full_disk"),
        pytest.param(KeyError("x"), StepError, "a.toy: KeyError: 'x'", "unexpected error; full traceback", id="bug"),
        pytest.param(
            RuntimeError("\n first\nsecond"),
            StepError,
            "a.toy: RuntimeError: first",
            "unexpected error",
            id="first_line",
        ),
        pytest.param(
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            StepError,
            "a.toy: RuntimeError: DefaultCPU",
            "out of memory? lower dims.*.max, or workers=1; full traceback: ",
            id="tools_memory",
        ),
        pytest.param(
            AssertionError(), StepError, "a.toy: AssertionError: no message", "unexpected error", id="no_message"
        ),
    ],
)
def test_a_failure_leaves_nothing_behind(error: Exception, kind: type, fact: str, fix: str, store: Store, step) -> None:
    def fail(context) -> dict[str, Any]:
        (context.out / "half.onnx").touch()
        raise error

    step(fail)
    with pytest.raises(kind) as raised:
        run_job(job(store))
    assert raised.value.fact.startswith(fact)
    assert raised.value.fix.startswith(fix)
    assert store.record(KEY) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_a_need_that_is_gone(store: Store, step) -> None:
    step(copy)
    (store.folder(NEED) / "model.onnx").unlink()
    with pytest.raises(ArtefactError, match=r"the artefact is gone or damaged\n  run the same command again"):
        run_job(job(store))


def test_a_bit_that_flipped_in_silence_does_not_travel_on_and_the_next_plan_sees_it(store: Store, step) -> None:
    step(copy)
    path = store.folder(NEED) / "model.onnx"
    stat = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"modem")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    noted = store.folder(NEED) / "record.json"  # as a disk that fails does it: the time of the change is as it was
    data = json.loads(noted.read_text().replace(str(stat.st_ctime_ns), str(path.stat().st_ctime_ns)))
    del data["digest"]
    noted.write_text(json.dumps(data | {"digest": value_sha256(data)}))
    assert store.record(NEED) is not None  # by size and times alone, nothing to see
    with pytest.raises(ArtefactError, match=r"model\.onnx: content changed since it was built"):
        run_job(job(store))
    assert store.record(NEED) is None


def test_in_a_worker_all_output_goes_to_the_log_also_that_of_native_code(
    store: Store, step, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def talk(context) -> dict[str, Any]:
        os.write(1, b"native out\n")
        os.write(2, b"native err\n")
        return {}

    step(talk)
    monkeypatch.setenv(job_module.WORKER, "1")
    run_job(job(store))
    os.write(1, b"after\n")
    assert (store.root / "logs" / "a.log").read_text() == "native out\nnative err\n"
    assert capfd.readouterr() == ("after\n", "")


def test_outside_a_worker_output_stays_where_it_is(store: Store, step, capfd: pytest.CaptureFixture) -> None:
    step(lambda context: os.write(1, b"here\n") and {})
    run_job(job(store))
    assert capfd.readouterr().out == "here\n"
    assert not (store.root / "logs" / "a.log").exists()


def test_a_retry_changes_some_fields_and_is_recorded_under_the_same_key(store: Store, step) -> None:
    step(lambda context: {"n": context.fields["n"], "deep": context.fields["deep"]})
    asked = job(store)
    asked = replace(asked, inputs={**asked.inputs, "fields": {"n": 3, "deep": {"a": 1, "b": 2}}})
    retry = Retry("SIGSEGV", {"deep": {"b": 5}})
    made = run_job(replace(asked, retry=retry))
    assert (made.key, made.inputs) == (KEY, asked.inputs)
    assert made.result == {"n": 3, "deep": {"a": 1, "b": 5}, "after_crash": asdict(retry)}
    assert retry_of(run_job(asked).result) == retry  # found, as it was made
