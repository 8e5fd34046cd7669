"""What `output=` may name."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from autovoice.errors import ConfigError, StoreError
from autovoice.runtime import manifest
from autovoice.store import output
from autovoice.store.output import Output

REPLACE = "overwrite=true replaces it; or give another name"


def refused(asked: Output) -> tuple[str, str]:
    """The fact, as it follows the name, and the fix; nothing has changed on the disk."""
    before = {p: p.lstat() for p in asked.path.parent.glob("*")}
    with pytest.raises(ConfigError) as raised, asked.open() as file:
        file.write(b"never")
    assert {p: p.lstat() for p in asked.path.parent.glob("*")}.keys() == before.keys()
    (fault,) = raised.value.faults
    assert str(raised.value) == str(fault)
    assert len(str(fault).splitlines()) == 2
    return fault.fact.removeprefix(f"{asked.path} "), fault.fix


def write(asked: Output, content: bytes = b"new") -> bytes:
    with asked.open() as file:
        file.write(content)
    assert not list(asked.target.parent.glob(".*"))
    return asked.path.read_bytes()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    (tmp_path / "old.npz").write_bytes(b"old")
    return tmp_path / "old.npz"


def test_a_new_file(tmp_path: Path) -> None:
    assert write(Output(tmp_path / "new.npz")) == b"new"


def test_a_name_of_255_bytes(tmp_path: Path) -> None:
    assert write(Output(tmp_path / f"{'x' * 251}.npz")) == b"new"
    fact, fix = refused(Output(tmp_path / f"{'é' * 126}.npz"))
    assert fact == "cannot be written: its name is longer than the file system takes"
    assert fix == "give a shorter one, of at most 255 bytes"


def test_a_file_is_replaced_when_that_is_said(old: Path) -> None:
    assert refused(Output(old)) == ("exists already", REPLACE)
    assert old.read_bytes() == b"old"
    assert write(Output(old, overwrite=True)) == b"new"


@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["symbolic_link", "hard_link"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_an_input_under_whatever_name(old: Path, make: Callable[[Path, Path], None], overwrite: bool) -> None:
    link = old.with_name("link.npz")
    make(old, link)
    fact, fix = refused(Output(link, overwrite, {"feeds": old}))
    assert (fact, fix) == (f"is what feeds reads, {old}", "give another name")
    assert refused(Output(old, overwrite, {"speaker": old.with_name("absent"), "feeds": link}))[0].startswith("is what")
    assert old.read_bytes() == b"old"


def test_a_link_is_followed(old: Path) -> None:
    link = old.with_name("link.npz")
    link.symlink_to(old)
    assert refused(Output(link)) == ("exists already", REPLACE)
    assert write(Output(link, overwrite=True)) == b"new"
    assert link.is_symlink()
    assert old.read_bytes() == b"new"
    link.unlink()
    link.symlink_to(old.with_name("absent.npz"))
    assert write(Output(link)) == b"new"
    assert old.with_name("absent.npz").read_bytes() == b"new"


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_file(tmp_path: Path, overwrite: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(Output(tmp_path / "pipe", overwrite))[0] == "is a pipe, and only files are written"
    assert Output(Path("/dev/null"), overwrite).fault() is not None
    (tmp_path / "null").symlink_to("/dev/null")
    assert refused(Output(tmp_path / "null", overwrite))[0] == "is a device, and only files are written"
    (tmp_path / "folder.npz").mkdir()
    fact, fix = refused(Output(tmp_path / "folder.npz", overwrite))
    assert (fact, fix) == ("is a folder", f"name a file in it, for example output={tmp_path}/folder.npz/out.npz")
    (tmp_path / "loop").symlink_to("loop")
    assert refused(Output(tmp_path / "loop", overwrite))[0] == "cannot be written: its links lead in a circle"
    assert refused(Output(tmp_path / "a\0b", overwrite))[0] == "cannot be a file's name"


def test_missing_folders_are_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "two words" / "deep"
    fact, fix = refused(Output(folder / "out.npz"))
    assert (fact, fix) == (f"cannot be written: there is no folder {folder}", f"mkdir -p '{folder}'")
    assert os.listdir(tmp_path) == []


def test_a_file_for_a_folder(old: Path) -> None:
    fact, _ = refused(Output(old / "out.npz"))
    assert fact == "cannot be written: a file stands where a folder should be"


def test_without_permission(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) == old)
    assert refused(Output(old.with_name("new.npz")))[0].endswith("is not writable")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != old)
    assert refused(Output(old, overwrite=True))[0] == "is write-protected"


# -- the store and what it publishes ---------------------------------------------------------------


def test_a_file_of_the_store_under_whatever_name(tmp_path: Path) -> None:
    store, engine = tmp_path / "store", tmp_path / "store" / "ab" / "engine.onnx"
    engine.parent.mkdir(parents=True)
    engine.write_bytes(b"engine")
    os.link(engine, tmp_path / "published.npz")
    for path in (engine, tmp_path / "published.npz"):
        assert refused(Output(path, True, kept=(store,)))[0] == f"is a file of {store}"
    assert refused(Output(store / "new.npz", True, kept=(store,)))[0] == f"would stand in {store}"
    assert engine.read_bytes() == b"engine"
    os.link(tmp_path / "published.npz", tmp_path / "mine.npz")  # of one's own, as far as this store goes
    assert Output(tmp_path / "mine.npz", True, kept=(tmp_path / "another",)).fault() is None


def test_beside_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{\n "name": "of another tool"\n}')
    assert Output(tmp_path / "out.npz").fault() is None
    (tmp_path / "manifest.json").write_text('{\n "schema": 9,\n "pipeline": "chime"\n}')
    for name in ("out.npz", "manifest.json"):
        fact, _ = refused(Output(tmp_path / name, overwrite=True))
        assert fact == f"would stand among the published files of {tmp_path}"


def test_a_manifest_is_called_as_there() -> None:
    assert output.MANIFEST == manifest.NAME


# -- what happens meanwhile ------------------------------------------------------------------------


def test_a_file_that_has_come_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    asked = Output(tmp_path / "out.npz")
    with pytest.raises(ConfigError, match=r"out\.npz exists already"), asked.open():
        asked.path.write_bytes(b"of someone else")
    assert os.listdir(tmp_path) == ["out.npz"]
    assert asked.path.read_bytes() == b"of someone else"


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    asked = Output(tmp_path / "out.npz")
    assert write(asked) == b"new"
    with pytest.raises(ConfigError, match="exists already"), replace(asked, path=tmp_path / "b").open():
        (tmp_path / "b").touch()


def test_a_full_disk_leaves_what_was_there(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError) as raised, Output(old, overwrite=True).open() as file:
        file.write(b"new")
    assert raised.value.fact == f"{old}: the disk is full"
    assert (old.read_bytes(), os.listdir(old.parent)) == (b"old", ["old.npz"])


def test_every_text_of_a_configuration_may_name_a_file() -> None:
    data = {"a": {"onnx": "x.onnx", "n": 3}, "b": ["y", {"c": "z"}], "d": None}
    assert list(output.strings(data)) == [("a.onnx", "x.onnx"), ("b.0", "y"), ("b.1.c", "z")]
