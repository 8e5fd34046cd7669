from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from autovoice.store.json_files import DEPTH, parse_json, read_json, read_regular


def test_what_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"b": [1, "c", null]}')
    assert read_json(tmp_path / "a.json") == {"b": [1, "c", None]}
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert read_json("a.json", folder=folder) == {"b": [1, "c", None]}
    finally:
        os.close(folder)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is a pipe, not a regular file"),
        (Path.mkdir, "is a folder, not a regular file"),
        (a_socket, "is a socket or a device, not a regular file"),
        (lambda p: p.symlink_to("/dev/null"), "is a link, not a regular file"),
    ],
    ids=["pipe", "folder", "socket", "link"],
)
def test_nothing_else_is_waited_for(
    make: Callable[[Path], object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    before = len(os.listdir("/proc/self/fd"))
    make(Path("it"))
    with pytest.raises(OSError, match=said):
        read_json("it")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "b.json").symlink_to("a.json")
    (tmp_path / "device").symlink_to("/dev/zero")
    assert read_json(tmp_path / "b.json", follow=True) == []
    with pytest.raises(OSError, match="is a device, not a regular file"):
        read_json(tmp_path / "device", follow=True)


def test_no_more_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1 << 20))
    assert len(read_regular(tmp_path / "a", 1 << 20)) == 1 << 20
    (tmp_path / "a").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(OSError, match="has more than 1 MiB"):
        read_regular(tmp_path / "a", 1 << 20)


@pytest.mark.parametrize("deep", [DEPTH + 1, 900, 1_000_000])
@pytest.mark.parametrize("bracket", ["[]", '{"a":}'], ids=["lists", "objects"])
def test_what_is_nested_too_deeply(deep: int, bracket: str) -> None:
    text = bracket[:-1] * deep + "1" + bracket[-1] * deep
    with pytest.raises(ValueError, match="it is nested too deeply"):
        parse_json(text)


def test_as_deep_as_is_allowed() -> None:
    deep = DEPTH - 1
    assert parse_json("[" * deep + "]" * deep)


def test_a_key_twice() -> None:
    with pytest.raises(ValueError, match="the key 'b' is there twice"):
        parse_json('{"a": {"b": 1, "c": 2, "b": 1}}')
