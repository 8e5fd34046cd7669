from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from autovoice.errors import StoreError
from autovoice.store import artefacts as store_module
from autovoice.store import hashing, memory
from autovoice.store.artefacts import Record, Store

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


def linked(path: Path) -> None:
    """The same content, elsewhere: what is read through a link may be anything, a device that never ends too."""
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


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
        pytest.param(write_record("[" * 200_000), id="record_is_deep"),
        pytest.param(lambda folder: linked(folder / "record.json"), id="record_is_a_link"),
        pytest.param(edit_record(files=[]), id="files_are_a_list"),
        pytest.param(edit_record(files={"engine.onnx": {"size": 6}}), id="file_without_digest"),
        pytest.param(edit_record(more=1), id="record_of_another_version"),
        pytest.param(edit_record(inputs=[]), id="inputs_are_a_list"),
        pytest.param(edit_record(result="x"), id="result_is_text"),
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


def test_a_flipped_bit_with_its_time_put_back(store: Store) -> None:
    """Size and time of the content are as they were; the time of the change is not."""
    commit(store)
    path = writable(store.folder(KEY) / "engine.onnx")
    before = path.stat()
    path.write_bytes(b"enginf")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.record(KEY) is None


def test_a_linked_file_is_trusted_and_an_edit_through_the_link_is_seen(store: Store, tmp_path: Path) -> None:
    commit(store)
    os.link(store.folder(KEY) / "engine.onnx", tmp_path / "published")
    assert store.record(KEY) is not None
    writable(tmp_path / "published").write_bytes(b"enginf")
    assert store.record(KEY) is None


def test_times_in_whole_seconds_vouch_for_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store)
    monkeypatch.setattr(hashing, "coarse", lambda stat: True)
    monkeypatch.setattr(hashing, "file_sha256", lambda path: "0" * 64)
    assert store.record(KEY) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("digest"),
        lambda data: data.update(digest="0" * 64),
        lambda data: data["result"].update(beside=2**63),
        lambda data: data["result"].update(engine=float("inf")),
        lambda data: data.update(seconds=float("nan")),
        lambda data: data["inputs"].update(code=7),
    ],
    ids=["of_an_earlier_version", "digest", "result", "infinite", "nan", "inputs"],
)
def test_a_record_that_is_not_as_it_was_written_is_none(store: Store, change: Any) -> None:
    commit(store)
    path = store.folder(KEY) / "record.json"
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))
    assert store.record(KEY) is None


def test_what_a_process_left_that_was_killed_while_it_prepared_goes(store: Store) -> None:
    left = store.root / "tmp" / ".probe-0123"
    left.touch()
    store.prepare()
    assert not left.exists()


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
from autovoice.store.artefacts import Store
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
    save_last(store, "toy", {"a.build": record("a1"), "b.build": record("b1")})
    save_last(store, "toy", {"b.build": record("b2", 3.0)})
    save_last(store, "other", {"a.build": record("z")})
    assert store.memory.last("toy") == {
        "a.build": {"key": "a1", "inputs": {"fields": {"of": "a1"}}, "seconds": 1.0, "made_as": {}},
        "b.build": {"key": "b2", "inputs": {"fields": {"of": "b2"}}, "seconds": 3.0, "made_as": {}},
    }


def test_a_build_that_repeats_the_last_one_writes_nothing(store: Store) -> None:
    save_last(store, "toy", {"a.build": record("a1")})
    path = store.root / "last" / "toy.json"
    before = path.stat()
    save_last(store, "toy", {"a.build": record("a1", 9.0)})
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_step_is_remembered_under_each_name(store: Store) -> None:
    first = commit(store, engine=b"first")
    second = record("second")
    save_last(store, "toy", {"a.build": first}, {"a.build": "onnxruntime-fp32"})
    save_last(store, "toy", {"a.build": second}, {"a.build": "tensorrt-fp16"})
    last = store.memory.last("toy")["a.build"]
    assert (last["key"], last["made_as"]) == ("second", {"onnxruntime-fp32": first.key, "tensorrt-fp16": "second"})
    found = store.memory.last_as(last, "onnxruntime-fp32", "new")
    assert (found["key"], found["inputs"]) == (first.key, first.inputs)
    assert store.memory.last_as(last, "onnxruntime-fp32", first.key)["key"] == first.key
    for name in ("tensorrt-fp16", "never"):
        assert store.memory.last_as(last, name, "new") == last


@pytest.mark.parametrize("more", [{}, {"made_as": []}, {"made_as": {"fp32": 1}}], ids=["none", "list", "no_key"])
def test_memory_of_another_version(more: dict[str, Any], store: Store) -> None:
    entry = {"key": "a1", "inputs": {}, "seconds": 1.0, **more}
    (store.root / "last" / "toy.json").write_text(json.dumps({"a.build": entry}))
    assert store.memory.last_as(store.memory.last("toy")["a.build"], "fp32", "new") == entry
    save_last(store, "toy", {"a.build": record("a1")}, {"a.build": "fp32"})
    assert store.memory.last("toy")["a.build"]["made_as"] == {"fp32": "a1"}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "{",
        "[1]",
        "[" * 200_000,
        '{"a.build": {"key": 1, "inputs": {}, "seconds": 1}}',
        '{"a.build": {"key": "a", "inputs": [], "seconds": 1}}',
        '{"a.build": {"key": "a", "inputs": {"files": []}, "seconds": 1}}',
        '{"a.build": {"key": "a", "inputs": {}, "seconds": "1"}}',
    ],
    ids=["absent", "cut", "list", "deep", "key", "inputs", "files", "seconds"],
)
def test_without_memory_there_is_no_last_build(text: str | None, store: Store) -> None:
    if text is not None:
        (store.root / "last" / "toy.json").write_text(text)
    assert store.memory.last("toy") == {}


IDENTITY = (1, 2, 3, 4, 5)


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with nothing known."""
    for name, empty in {"_KNOWN": {}, "_CHANGED": set(), "_LINKED": {}}.items():
        monkeypatch.setattr(hashing, name, empty)
    return hashing


def save_last(
    store: Store, pipeline: str, records: Mapping[str, Record], names: Mapping[str, str] | None = None
) -> None:
    made = {step: {"key": r.key, "inputs": r.inputs, "seconds": r.seconds} for step, r in records.items()}
    store.memory.save_last(pipeline, made, names)


def known(store: Store, hashes: Any, **digests: str) -> None:
    """Have the store remember these digests of files below it."""
    for name, digest in digests.items():
        (store.root / name).touch()
        hashes._learn(str(store.root / name), IDENTITY, digest * 64)
    store.memory.save_hashes()
    hashes._KNOWN.clear()
    hashes._CHANGED.clear()


def test_digests_of_files_are_kept_while_the_files_exist(store: Store, hashes: Any) -> None:
    hashes._learn("/nowhere/file", IDENTITY, "b" * 64)
    known(store, hashes, weights="a")
    hashes.remember(memory.unsealed(store.root / "hashes.json"))
    assert {str(store.root / "weights"): (IDENTITY, "a" * 64)} == hashes._KNOWN
    assert hashes.learned() is None


def test_names_that_are_no_text_are_kept(store: Store, hashes: Any) -> None:
    name = os.fsdecode(b"weights-\xff")
    known(store, hashes, **{name: "a"})
    hashes.remember(memory.unsealed(store.root / "hashes.json"))
    assert str(store.root / name) in hashes._KNOWN


def edited(change: Any):
    def edit(path: Path) -> None:
        data = json.loads(path.read_bytes())
        change(data)
        path.write_text(json.dumps(data))

    return edit


def flip_digest(data: dict[str, Any]) -> None:
    ((name, (identity, digest)),) = data["data"].items()
    data["data"][name] = [identity, f"b{digest[1:]}"]


def flip_time(data: dict[str, Any]) -> None:
    ((_, (identity, _)),) = data["data"].items()
    identity[4] += 1


def flip_name(data: dict[str, Any]) -> None:
    data["data"] = {f"{name}2": entry for name, entry in data["data"].items()}


def unsealed_as_before(data: dict[str, Any]) -> None:
    inner = data["data"]
    data.clear()
    data |= inner


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(edited(flip_digest), id="digest"),
        pytest.param(edited(flip_time), id="time"),
        pytest.param(edited(flip_name), id="name"),
        pytest.param(edited(lambda data: data.update(data=[])), id="list"),
        pytest.param(edited(lambda data: data["data"].update(x=float("nan"))), id="nan"),
        pytest.param(edited(unsealed_as_before), id="earlier_version"),
        pytest.param(lambda path: path.write_text("[" * 200_000), id="deep"),
        pytest.param(lambda path: path.write_text('{"data":' * 100_000), id="deep_objects"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), id="no_text"),
        pytest.param(linked, id="link"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-9]), id="cut"),
    ],
)
def test_memory_with_anything_else_in_it_is_no_memory(damage: Any, store: Store, hashes: Any) -> None:
    known(store, hashes, weights="a")
    damage(store.root / "hashes.json")
    store.memory.load_hashes()
    assert str(store.root / "weights") not in hashes._KNOWN
    assert str(store.root / "weights2") not in hashes._KNOWN


@pytest.mark.parametrize("flipped", [False, True])
def test_what_is_remembered_is_believed_as_it_was_written_alone(flipped: bool, store: Store) -> None:
    data = {"by": "reader", "imports": {"pkg": ["a" * 64, ["pkg.one", "pkg.two"]]}}
    store.memory.save("imports", data)
    file = store.root / "imports.json"
    file.write_bytes(file.read_bytes().replace(b"pkg.two", b"pkg.twn") if flipped else file.read_bytes())
    assert store.memory.load("imports") == ({} if flipped else data)


def test_digests_that_cannot_be_kept_cost_time_alone(
    store: Store, hashes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes._learn("x", IDENTITY, "a" * 64)
    monkeypatch.setattr(memory, "write_atomically", refuse(errno.EROFS))
    store.memory.save_hashes()
    assert not (store.root / "hashes.json").exists()


# -- several users, and those who may only read ----------------------------------------------------


@pytest.mark.parametrize("mode", [0o2775, 0o700, 0o750], ids=oct)
@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_all_that_is_made_is_open_to_whom_the_folder_is(mode: int, umask: int, tmp_path: Path, hashes: Any) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs").chmod(mode)
    before = os.umask(umask)
    try:
        store = Store(tmp_path / "outputs" / "store")
        store.prepare()
        with store.in_use(), store.lock(KEY):
            work = store.workplace(KEY)
            (work / "cache").mkdir()
            (work / "cache" / "timing").touch()
            store.commit(KEY, work, INPUTS, {}, 1)
        save_last(store, "toy", {"a.build": record("a1")})
        known(store, hashes, weights="a")
        (store.root / "weights").unlink()
    finally:
        os.umask(before)
    modes = {p.relative_to(store.root): p.stat().st_mode & 0o7777 for p in [store.root, *store.root.rglob("*")]}
    artefact = store.folder(KEY).relative_to(store.root)
    assert modes.pop(artefact / "cache" / "timing") == 0o444
    folders = {p for p in modes if (store.root / p).is_dir()}
    assert {modes[p] for p in folders} == {mode}
    assert {artefact / "cache", artefact, Path("locks")} <= folders
    assert {modes[p] for p in modes.keys() - folders} == {mode & 0o666}
    assert {Path("locks/in_use"), Path("hashes.json"), Path("last/toy.json")} <= modes.keys() - folders


def test_nothing_follows_a_folder_where_everybody_may_write(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    before = os.umask(0o022)
    try:
        Store(tmp_path / "tmp" / "store").prepare()
    finally:
        os.umask(before)
    assert (tmp_path / "tmp" / "store" / "locks").stat().st_mode & 0o7777 == 0o755


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """unwritable(errno): from here on, this process may only read."""

    def forbid(code: int) -> None:
        real = os.open

        def opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise OSError(code, os.strerror(code))
            return real(path, flags, *rest, **more)

        monkeypatch.setattr(os, "open", opened)
        for name in ("mkdir", "unlink", "rename", "replace", "link", "utime", "chmod", "rmdir"):
            monkeypatch.setattr(os, name, refuse(code))
        monkeypatch.setattr("builtins.open", read_only(code))

    return forbid


def read_only(code: int):
    def opened(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if set(mode) & set("wax+"):
            raise OSError(code, os.strerror(code))
        return io.open(path, mode, *rest, **more)  # noqa: UP020, `open` is this function by now

    return opened


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
@pytest.mark.parametrize("ever_held", [True, False])
def test_a_store_that_can_only_be_read_is_held_to_read(
    code: int, ever_held: bool, store: Store, unwritable: Any
) -> None:
    made = commit(store)
    save_last(store, "toy", {"a.build": made})
    if ever_held:
        with store.in_use():
            pass
    unwritable(code)
    with store.in_use():
        assert not ever_held or taken(store, "in_use", alone=True)
        assert store.record(KEY) == made
        save_last(store, "toy", {"a.build": made})
        save_last(store, "toy", {"a.build": record("other")})  # what cannot be remembered is not
        store.memory.save_hashes()
    assert store.memory.last("toy")["a.build"]["key"] == KEY
    with pytest.raises(StoreError, match=r"read-only|permission|not permitted"):
        store.prepare()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES], ids=errno.errorcode.get)
def test_whoever_removes_must_hold_it_alone(code: int, store: Store, unwritable: Any) -> None:
    unwritable(code)
    with pytest.raises(StoreError), store.in_use(alone=True):
        pytest.fail("held")


def test_a_store_that_is_not_there_and_cannot_be_made(tmp_path: Path, unwritable: Any) -> None:
    unwritable(errno.EROFS)
    with pytest.raises(StoreError, match="read-only"), Store(tmp_path / "none" / "store").in_use():
        pytest.fail("held")


def test_a_lock_of_another_users_excludes_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made under a umask of 022 by an earlier version: others may open it to read."""
    with holder(store, KEY) as process:
        real = os.open

        def opened(path: Any, flags: int, *rest: Any) -> int:
            if flags & os.O_RDWR:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(path, flags, *rest)

        monkeypatch.setattr(os, "open", opened)
        second = threading.Thread(target=hold_once, args=[store], daemon=True)
        second.start()
        second.join(0.2)
        assert second.is_alive()
        process.kill()
        second.join(30)
        assert not second.is_alive()


def test_damage_in_another_users_artefact_is_seen_by_the_next_plan(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store)
    monkeypatch.setattr(os, "utime", refuse(errno.EPERM))
    store.distrust(KEY, "engine.onnx")
    assert store.damaged(KEY)


# -- what killed writers left ----------------------------------------------------------------------


def test_what_killed_writers_left_in_the_store_goes_before_the_next_build(store: Store) -> None:
    left = [store.root / ".hashes.json.0123abcd", store.root / "last" / ".toy.json.0123abcd"]
    for path in left:
        path.write_bytes(b"half")
    store.prepare()
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("part", ["fields", "needs", "files", "code", "tools"])
def test_a_record_whose_inputs_are_of_another_form_is_none(store: Store, part: str) -> None:
    commit(store)
    path = writable(store.folder(KEY) / "record.json")
    data = json.loads(path.read_bytes())
    data["inputs"][part] = "datetime64"
    path.write_text(json.dumps(data))
    assert store.record(KEY) is None
    assert store.damaged(KEY)
