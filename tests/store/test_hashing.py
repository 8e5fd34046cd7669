from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autovoice.store import hashing
from autovoice.store.hashing import canonical_json, file_sha256, forget, json_sha256, learned, remember, uncached_sha256

OLD = 1_600_000_000_123_456_789
HOUR = 3_600_000_000_000


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing known; every file was last changed an hour ago."""
    for name, empty in {"_KNOWN": {}, "_CHANGED": set(), "_LINKED": {}}.items():
        monkeypatch.setattr(hashing, name, empty)
    real = time.time_ns
    monkeypatch.setattr(hashing.time, "time_ns", lambda: real() + HOUR)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every file that is read from here on."""
    seen: list[str] = []
    real = hashlib.file_digest

    def digest(file: Any, kind: str) -> Any:
        seen.append(Path(file.name).name)
        return real(file, kind)

    monkeypatch.setattr(hashing.hashlib, "file_digest", digest)
    return seen


def stat_as(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Have every file look as on another file system; each change is a value, or made from the real one."""
    for name in ("stat", "fstat"):
        real = getattr(os, name)

        def shown(what: Any, real: Any = real) -> Any:
            stat = real(what)
            fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns", "st_nlink", "st_mode")
            values = {f: getattr(stat, f) for f in fields}
            return SimpleNamespace(**values | {f: c(values[f]) if callable(c) else c for f, c in changes.items()})

        monkeypatch.setattr(hashing.os, name, shown)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def settled(path: Path, content: bytes, mtime_ns: int = OLD) -> Path:
    """A file that was last written long ago."""
    path.write_bytes(content)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        pytest.param({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True, id="order_of_keys"),
        pytest.param([1, 2], [2, 1], False, id="order_of_lists"),
        pytest.param([1, 2], (1, 2), True, id="tuples_are_lists"),
        pytest.param({"a": 1}, {"a": "1"}, False, id="types"),
        pytest.param({"a": 1}, {"a": 1, "b": None}, False, id="null"),
        pytest.param({"a": ["b"]}, {"a": {"b": 1}}, False, id="structure"),
    ],
)
def test_one_digest_for_one_value(one: Any, two: Any, same: bool) -> None:
    assert (json_sha256(one) == json_sha256(two)) is same


def test_the_spelling_that_is_hashed() -> None:
    assert canonical_json({"b": [1, None], "a": "→"}) == '{"a":"→","b":[1,null]}'.encode()
    assert json_sha256({}) == sha(b"{}")


def test_nan_has_no_digest() -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        json_sha256({"gate": float("nan")})


def test_content_counts_and_time_does_not(tmp_path: Path) -> None:
    path = settled(tmp_path / "weights", b"one")
    assert file_sha256(path) == sha(b"one")
    os.utime(path, ns=(OLD + 1, OLD + 1))
    assert file_sha256(path) == sha(b"one")
    settled(path, b"two", OLD + 2)
    assert file_sha256(path) == sha(b"two")


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path, reads: list[str]) -> None:
    path = settled(tmp_path / "weights", b"one")
    assert [file_sha256(path), file_sha256(path)] == [sha(b"one")] * 2
    assert reads == ["weights"]


@pytest.mark.parametrize("change", ["size", "time", "inode", "touch_r", "archive"])
def test_any_part_of_its_identity_has_it_read_again(change: str, tmp_path: Path) -> None:
    path = settled(tmp_path / "weights", b"one")
    file_sha256(path)
    if change == "size":
        settled(path, b"three")
    elif change == "time":
        settled(path, b"two", OLD + 1)
    elif change == "touch_r":  # same size, inode and time of its content
        settled(path, b"two")
    else:
        settled(tmp_path / "other", b"two").replace(path)
    assert file_sha256(path) == uncached_sha256(path) != sha(b"one")


def test_another_file_system_mounted_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reproducible archive, unpacked into a fresh tmpfs: the same inode and times, also of the change."""
    path = settled(tmp_path / "weights", b"one")
    stat = path.stat()
    file_sha256(path)
    settled(path, b"two")
    stat_as(monkeypatch, st_dev=stat.st_dev + 1, st_ctime_ns=stat.st_ctime_ns)
    assert file_sha256(path) == sha(b"two")


def whole_seconds(ns: int) -> int:
    return ns // 1_000_000_000 * 1_000_000_000


def even_seconds(ns: int) -> int:
    return ns // 2_000_000_000 * 2_000_000_000


@pytest.mark.parametrize("kept", [whole_seconds, even_seconds])
def test_where_times_are_whole_seconds_a_file_is_known_when_they_are_over(
    kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settled(tmp_path / "weights", b"one")
    changed = path.stat().st_ctime_ns
    stat_as(monkeypatch, st_mtime_ns=kept(changed), st_ctime_ns=kept(changed))
    for later, known in ((1_000_000_000, False), (1_990_000_000, False), (2_100_000_000, True)):
        monkeypatch.setattr(hashing.time, "time_ns", lambda later=later: kept(changed) + later)
        assert file_sha256(path) == sha(b"one")
        assert (learned() is not None) is known


@pytest.mark.parametrize("which", ["st_mtime_ns", "st_ctime_ns"])
@pytest.mark.parametrize("ago", [1_000_000, -1_000_000, 40_000_000], ids=lambda ns: f"{ns / 1e6:g}ms")
def test_a_file_written_just_now_is_not_remembered(
    which: str, ago: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settled(tmp_path / "weights", b"one")
    monkeypatch.setattr(hashing.time, "time_ns", lambda: getattr(path.stat(), which) + ago)
    file_sha256(path)
    assert learned() is None


@pytest.mark.parametrize("which", ["st_mtime_ns", "st_ctime_ns"])
def test_times_to_come_are_times_too(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    """A clock that was put back, or an archive from one that goes ahead: no reason to read a file for ever."""
    path = settled(tmp_path / "weights", b"one")
    stat_as(monkeypatch, **{which: lambda ns: ns + 1000 * HOUR})
    assert [file_sha256(path), file_sha256(path)] == [sha(b"one")] * 2
    assert reads == ["weights"]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settled(tmp_path / "weights", b"one")
    real = hashlib.file_digest

    def digest(file: Any, kind: str) -> Any:
        found = real(file, kind)
        settled(path, b"two")
        return found

    with monkeypatch.context() as changing:
        changing.setattr(hashing.hashlib, "file_digest", digest)
        file_sha256(path)
    assert learned() is None
    assert file_sha256(path) == sha(b"two")


def test_a_file_of_two_names_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    path = settled(tmp_path / "weights", b"one")
    os.link(path, tmp_path / "linked")
    assert {file_sha256(path), file_sha256(tmp_path / "linked")} == {sha(b"one")}
    assert reads == ["weights"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        file_sha256(tmp_path / "gone")


def test_digests_carry_over_to_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]) -> None:
    path = settled(tmp_path / "weights", b"one")
    file_sha256(path)
    kept = json.loads(json.dumps(learned()))
    stat = path.stat()
    identity = [stat.st_dev, stat.st_ino, 3, OLD, stat.st_ctime_ns]
    assert kept == {str(path): [identity, sha(b"one")]}
    monkeypatch.setattr(hashing, "_KNOWN", {})
    monkeypatch.setattr(hashing, "_CHANGED", set())
    remember(kept)
    assert file_sha256(path) == sha(b"one")
    assert reads == ["weights"]
    assert learned() is None  # nothing new to keep


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {"a": 1},
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3], "0" * 64],
        [[1, 2, 3, 4, 5.0], "0" * 64],
        [[1, 2, 3, 4, True], "0" * 64],
        [[1, 2, 3, 4, float("nan")], "0" * 64],
        [[1, 2, 3, 4, 5], "0" * 63],
        [[1, 2, 3, 4, 5], "G" * 64],
        [[1, 2, 3, 4, 5], 7],
        ["12345", "0" * 64],
    ],
)
def test_entries_of_another_form_are_not_taken(entry: Any) -> None:
    remember({"/one": entry, "/two": [[1, 2, 3, 4, 5], "0" * 64]})
    assert hashing._KNOWN == {"/two": ((1, 2, 3, 4, 5), "0" * 64)}


def test_what_turned_out_to_be_wrong_is_dropped_and_that_is_kept(tmp_path: Path) -> None:
    path, other = settled(tmp_path / "weights", b"one"), settled(tmp_path / "other", b"other")
    file_sha256(path), file_sha256(other)
    hashing._KNOWN[str(path)] = (hashing._KNOWN[str(path)][0], "0" * 64)
    assert file_sha256(path) == "0" * 64
    hashing._CHANGED.clear()
    forget([path, tmp_path / "never"])
    assert learned() == {str(other): hashing._KNOWN[str(other)]}
    assert file_sha256(path) == sha(b"one")
