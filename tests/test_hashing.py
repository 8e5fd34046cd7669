from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from autovoice import hashing
from autovoice.hashing import canonical_json, file_sha256, json_sha256, learned, remember, uncached_sha256

OLD = 1_600_000_000_000_000_000


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_KNOWN", {})
    monkeypatch.setattr(hashing, "_CHANGED", set())


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


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    path = settled(tmp_path / "weights", b"one")
    file_sha256(path)
    settled(path, b"two")  # same size, time and inode: as if unchanged
    assert file_sha256(path) == sha(b"one")
    assert uncached_sha256(path) == sha(b"two")


@pytest.mark.parametrize("change", ["size", "time", "inode"])
def test_any_part_of_its_identity_has_it_read_again(change: str, tmp_path: Path) -> None:
    path = settled(tmp_path / "weights", b"one")
    file_sha256(path)
    if change == "size":
        settled(path, b"three")
    elif change == "time":
        settled(path, b"two", OLD + 1)
    else:
        settled(tmp_path / "other", b"two").replace(path)
    assert file_sha256(path) == uncached_sha256(path) != sha(b"one")


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settled(tmp_path / "weights", b"one")
    monkeypatch.setattr(hashing.time, "time_ns", lambda: OLD + 1_000_000)
    file_sha256(path)
    settled(path, b"two")
    assert file_sha256(path) == sha(b"two")
    assert learned() is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        file_sha256(tmp_path / "gone")


def test_digests_carry_over_to_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settled(tmp_path / "weights", b"one")
    file_sha256(path)
    kept = learned()
    assert kept == {str(path): ([3, OLD, path.stat().st_ino], sha(b"one"))}
    monkeypatch.setattr(hashing, "_KNOWN", {})
    monkeypatch.setattr(hashing, "_CHANGED", set())
    remember(kept)
    settled(path, b"two")
    assert file_sha256(path) == sha(b"one")
    assert learned() is None  # nothing new to keep
