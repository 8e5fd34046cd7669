from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from autovoice import store as store_module
from autovoice.errors import StoreError
from autovoice.store import Record, Store

KEY = "ab" + "0" * 62
INPUTS = {"kind": "lower", "fields": {"a": [1, None]}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def commit(store: Store, key: str = KEY, content: bytes = b"engine", **files: bytes) -> Record:
    work = store.workplace(key)
    for name, data in {"engine.onnx": content, **files}.items():
        (work / name).write_bytes(data)
    return store.commit(key, work, INPUTS, {"nodes": 3}, 1.23456)


def writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


# -- committing ------------------------------------------------------------------------------------


def test_what_is_committed_is_found_by_another_reader(store: Store) -> None:
    made = commit(store)
    found = Store(store.root).record(KEY)
    assert found == made
    assert found is not None
    assert (found.key, found.inputs, found.result, found.seconds) == (KEY, INPUTS, {"nodes": 3}, 1.235)
    assert (store.folder(KEY) / "engine.onnx").read_bytes() == b"engine"
    assert not store.damaged(KEY)


def test_nothing_is_found_before_and_nothing_is_damaged(store: Store) -> None:
    assert store.record(KEY) is None
    assert not store.damaged(KEY)


def test_files_in_folders_are_part_of_the_artefact(store: Store) -> None:
    work = store.workplace(KEY)
    (work / "cache").mkdir()
    (work / "cache" / "timing").write_bytes(b"t")
    store.commit(KEY, work, {}, {}, 0)
    record = store.record(KEY)
    assert record is not None
    assert list(record.files) == ["cache/timing"]


def test_committed_files_cannot_be_edited_in_place_by_mistake(store: Store) -> None:
    commit(store)
    assert (store.folder(KEY) / "engine.onnx").stat().st_mode & 0o777 == 0o444


def test_a_commit_is_one_rename_so_that_nothing_half_done_is_ever_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def rename(source: Path, target: Path) -> None:
        seen.append((store.folder(KEY).exists(), sorted(os.listdir(source))))
        os.replace(source, target)

    monkeypatch.setattr(store_module.os, "rename", rename)
    commit(store, log=b"")
    assert seen == [(False, ["engine.onnx", "log", "record.json"])]
    assert list((store.root / "tmp").iterdir()) == []


def test_a_commit_that_fails_leaves_no_artefact(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module.os, "rename", refuse(errno.ENOSPC))
    with pytest.raises(StoreError, match="the disk is full"):
        commit(store)
    assert store.record(KEY) is None
    assert not store.folder(KEY).exists()


def test_a_damaged_artefact_is_replaced(store: Store) -> None:
    commit(store, extra=b"old")
    writable(store.folder(KEY) / "engine.onnx").write_bytes(b"cut")
    commit(store)
    assert sorted(os.listdir(store.folder(KEY))) == ["engine.onnx", "record.json"]
    assert store.record(KEY) is not None


# -- what is not trusted ---------------------------------------------------------------------------


def truncate(folder: Path) -> None:
    writable(folder / "engine.onnx").write_bytes(b"engin")


def flip(folder: Path) -> None:
    path = writable(folder / "engine.onnx")
    path.write_bytes(b"Engine")
    os.utime(path, (1e9, 1e9))


def truncate_in_silence(folder: Path) -> None:
    before = (folder / "engine.onnx").stat()
    truncate(folder)
    os.utime(folder / "engine.onnx", ns=(before.st_atime_ns, before.st_mtime_ns))


def remove(folder: Path) -> None:
    (folder / "engine.onnx").unlink()


def no_record(folder: Path) -> None:
    (folder / "record.json").unlink()


def edit_record(**changes: Any):
    def edit(folder: Path) -> None:
        path = folder / "record.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))

    return edit


def write_record(text: str):
    return lambda folder: (folder / "record.json").write_text(text)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(truncate, id="truncated"),
        pytest.param(truncate_in_silence, id="truncated_with_its_time_kept"),
        pytest.param(flip, id="flipped"),
        pytest.param(remove, id="file_missing"),
        pytest.param(no_record, id="record_missing"),
        pytest.param(write_record(""), id="record_empty"),
        pytest.param(write_record('{"key": "ab'), id="record_cut"),
        pytest.param(write_record("[]"), id="record_is_a_list"),
        pytest.param(write_record("null"), id="record_is_null"),
        pytest.param(write_record("{}"), id="record_without_fields"),
        pytest.param(edit_record(files=[]), id="files_are_a_list"),
        pytest.param(edit_record(files={"engine.onnx": {"size": 6}}), id="file_without_digest"),
        pytest.param(edit_record(more=1), id="record_of_another_version"),
        pytest.param(edit_record(key="cd" + KEY[2:]), id="record_of_another_key"),
    ],
)
def test_not_trusted(damage: Any, store: Store) -> None:
    commit(store)
    damage(store.folder(KEY))
    assert store.record(KEY) is None
    assert store.damaged(KEY)


def test_a_touched_file_of_the_same_content_is_trusted(store: Store) -> None:
    commit(store)
    os.utime(store.folder(KEY) / "engine.onnx", (1e9, 1e9))
    assert store.record(KEY) is not None


# -- workplaces ------------------------------------------------------------------------------------


def test_leftovers_of_a_dead_step_of_the_same_key_are_swept(store: Store) -> None:
    dead, other = store.workplace(KEY), store.workplace("cd" + KEY[2:])
    (dead / "half.onnx").write_bytes(b"half")
    fresh = store.workplace(KEY)
    assert not dead.exists()
    assert other.exists()
    assert list(fresh.iterdir()) == []
    store.sweep_tmp(KEY)
    assert not fresh.exists()


# -- locks -----------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from autovoice.store import Store
store = Store(Path(sys.argv[1]))
with (store.lock(sys.argv[2]) if sys.argv[2] != "in_use" else store.in_use()):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(store: Store, key: str) -> subprocess.Popen[str]:
    """Another process that holds a key until its input is closed, or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.root), key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def taken(store: Store, key: str, alone: bool = False) -> bool:
    """Whether this process would have to wait."""
    code = f"""
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(fd, fcntl.{"LOCK_EX" if alone or key != "in_use" else "LOCK_SH"} | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(9)
"""
    return subprocess.run([sys.executable, "-c", code, str(store.root / "locks" / key)], check=False).returncode == 9


def test_a_key_excludes_a_second_process_until_the_first_lets_go(store: Store) -> None:
    with holder(store, KEY) as process:
        assert taken(store, KEY)
        second = threading.Thread(target=hold_once, args=[store], daemon=True)
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert process.stdin is not None
        process.stdin.close()
        second.join(30)
        assert not second.is_alive()
    assert not taken(store, KEY)


def hold_once(store: Store) -> None:
    with store.lock(KEY):
        pass


def test_the_kernel_lets_go_of_what_a_killed_process_held(store: Store) -> None:
    with holder(store, KEY) as process:
        process.kill()
        process.wait()
        with store.lock(KEY):
            assert taken(store, KEY)


def test_builders_share_the_store_and_a_remover_waits_for_them(store: Store) -> None:
    with holder(store, "in_use") as process:
        with store.in_use():
            assert taken(store, "in_use", alone=True)
        assert not taken(store, "in_use")
        process.kill()
    with store.in_use(alone=True):
        assert taken(store, "in_use")


# -- a store that cannot be used -------------------------------------------------------------------


def refuse(code: int):
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return refused


ELSEWHERE = "build elsewhere: paths.outputs=/another/folder"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (errno.EROFS, "the file system is read-only"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EACCES, "no permission to write"),
        (errno.EIO, "Input/output error"),
    ],
    ids=lambda v: errno.errorcode[v] if isinstance(v, int) else "",
)
def test_a_store_that_cannot_be_written(code: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkdir", refuse(code))
    with pytest.raises(StoreError) as raised:
        Store(tmp_path / "store").prepare()
    full = "free some space (autovoice task=gc), or " if code in (errno.ENOSPC, errno.EDQUOT) else ""
    assert (raised.value.fact, raised.value.fix) == (f"store {tmp_path}/store: {why}", full + ELSEWHERE)


def test_a_store_whose_folders_exist_but_cannot_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "touch", refuse(errno.EROFS))
    with pytest.raises(StoreError, match="the file system is read-only"):
        store.prepare()


@pytest.mark.parametrize("place", ["store", "store/tmp", "a_parent"])
def test_a_file_where_a_folder_should_be(place: str, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.touch()
    root = path / "store" if place == "a_parent" else tmp_path / "store"
    with pytest.raises(StoreError, match="a file stands where a folder should be"):
        Store(root).prepare()


def test_no_workplace_on_a_full_disk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "mkdir", refuse(errno.ENOSPC))
    with pytest.raises(StoreError, match="the disk is full"):
        store.workplace(KEY)


# -- memory between runs ---------------------------------------------------------------------------


def record(key: str, seconds: float = 1.0) -> Record:
    return Record(key, {"fields": {"of": key}}, {}, {}, seconds)


def test_the_last_build_of_a_step_stays_until_another_takes_its_place(store: Store) -> None:
    store.save_last("toy", {"a.build": record("a1"), "b.build": record("b1")})
    store.save_last("toy", {"b.build": record("b2", 3.0)})
    store.save_last("other", {"a.build": record("z")})
    assert store.last("toy") == {
        "a.build": {"key": "a1", "inputs": {"fields": {"of": "a1"}}, "seconds": 1.0, "made_as": {}},
        "b.build": {"key": "b2", "inputs": {"fields": {"of": "b2"}}, "seconds": 3.0, "made_as": {}},
    }


def test_a_build_that_repeats_the_last_one_writes_nothing(store: Store) -> None:
    store.save_last("toy", {"a.build": record("a1")})
    path = store.root / "last" / "toy.json"
    before = path.stat()
    store.save_last("toy", {"a.build": record("a1", 9.0)})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_step_is_remembered_under_each_name(store: Store) -> None:
    first = commit(store, engine=b"first")
    second = record("second")
    store.save_last("toy", {"a.build": first}, {"a.build": "onnxruntime-fp32"})
    store.save_last("toy", {"a.build": second}, {"a.build": "tensorrt-fp16"})
    last = store.last("toy")["a.build"]
    assert (last["key"], last["made_as"]) == ("second", {"onnxruntime-fp32": first.key, "tensorrt-fp16": "second"})
    found = store.last_as(last, "onnxruntime-fp32", "new")
    assert (found["key"], found["inputs"]) == (first.key, first.inputs)
    assert store.last_as(last, "onnxruntime-fp32", first.key)["key"] == first.key
    for name in ("tensorrt-fp16", "never"):
        assert store.last_as(last, name, "new") == last


@pytest.mark.parametrize("more", [{}, {"made_as": []}, {"made_as": {"fp32": 1}}], ids=["none", "list", "no_key"])
def test_memory_of_another_version(more: dict[str, Any], store: Store) -> None:
    entry = {"key": "a1", "inputs": {}, "seconds": 1.0, **more}
    (store.root / "last" / "toy.json").write_text(json.dumps({"a.build": entry}))
    assert store.last_as(store.last("toy")["a.build"], "fp32", "new") == entry
    store.save_last("toy", {"a.build": record("a1")}, {"a.build": "fp32"})
    assert store.last("toy")["a.build"]["made_as"] == {"fp32": "a1"}


@pytest.mark.parametrize("text", [None, "{", "[1]"], ids=["absent", "cut", "list"])
def test_without_memory_there_is_no_last_build(text: str | None, store: Store) -> None:
    if text is not None:
        (store.root / "last" / "toy.json").write_text(text)
    assert store.last("toy") == {}


def test_digests_of_files_are_kept_while_the_files_exist(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from autovoice import hashing

    monkeypatch.setattr(hashing, "_KNOWN", {str(store.root): ([1, 2, 3], "aa"), "/nowhere/file": ([1, 2, 3], "bb")})
    monkeypatch.setattr(hashing, "_CHANGED", {"/nowhere/file"})
    store.save_hashes()
    monkeypatch.setattr(hashing, "_KNOWN", {})
    store.load_hashes()
    assert hashing._KNOWN[str(store.root)] == ([1, 2, 3], "aa")
    assert "/nowhere/file" not in hashing._KNOWN


def test_digests_that_cannot_be_kept_cost_time_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from autovoice import hashing

    monkeypatch.setattr(hashing, "_CHANGED", {"x"})
    monkeypatch.setattr(store_module, "write_atomically", refuse(errno.EROFS))
    store.save_hashes()
    assert not (store.root / "hashes.json").exists()
