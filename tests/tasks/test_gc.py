"""`task=gc` beside what the command line shows of it in tests/cli: what killed writers left, and what it needs."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autovoice.errors import StoreError
from autovoice.store.artefacts import Store
from autovoice.tasks import gc
from tests.folders import fill


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    (tmp_path / "toy/onnxruntime-fp32").mkdir(parents=True)
    Store(tmp_path / "store").prepare()
    return tmp_path


def run(outputs: Path, dry: bool) -> int:
    settings = SimpleNamespace(outputs=outputs, dry_run=dry)
    invocation: Any = SimpleNamespace(settings=settings, store=Store(outputs / "store"))
    return gc.run(invocation)


LEFT = (
    "store/.hashes.json.0123abcd",
    "store/last/.toy.json.0123abcd",
    "toy/onnxruntime-fp32/.engine.onnx.0123abcd",
    "toy/.onnxruntime-fp32.0123abcd/engine.onnx",
)


def test_half_written_files_and_folders_go(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in LEFT:
        (outputs / name).parent.mkdir(exist_ok=True)
        (outputs / name).write_bytes(b"half")
    (outputs / "toy/onnxruntime-fp32/.gitkeep").touch()
    assert run(outputs, dry=True) == 0
    listed = capsys.readouterr().out
    for shown in (".hashes.json.", "last/.toy.json.", "../toy/.onnxruntime-fp32.", "onnxruntime-fp32/.engine.onnx."):
        assert f"{shown}0123abcd" in listed
    assert all((outputs / name).exists() for name in LEFT)
    (outputs / "store/.hashes.json.0123abcd").unlink()
    run(outputs, dry=False)
    assert not any((outputs / name).exists() for name in LEFT)
    assert (outputs / "toy/onnxruntime-fp32/.gitkeep").exists()


def test_listing_needs_no_write_access_and_removing_says_what_it_lacks(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    garbage = outputs / "store/objects/ab/ab00"
    garbage.mkdir(parents=True)
    real = os.open

    def read_only(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", read_only)
    assert run(outputs, dry=True) == 0
    assert "would remove objects/ab/ab00" in capsys.readouterr().out
    with pytest.raises(StoreError, match="the file system is read-only"):
        run(outputs, dry=False)
    assert garbage.exists()


def test_what_cannot_be_removed_is_said_in_two_lines(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's artefact, in a folder where that one alone may write."""
    (outputs / "store/objects/ab/ab00").mkdir(parents=True)

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(gc.shutil, "rmtree", refuse)
    with pytest.raises(StoreError, match="no permission to write"):
        run(outputs, dry=False)


def test_what_a_killed_builder_left_gives_back_what_is_the_users(outputs: Path) -> None:
    """The folder that another one took the place of, and one that never got its place again."""
    published = fill(outputs / "toy/onnxruntime-fp32", 2)
    one, gone, empty = (outputs / f"toy/.{n}.0123abcd" for n in ("onnxruntime-fp32", "torch-fp32", "half"))
    for left in (one, gone, empty):
        fill(left, 3)
    (one / "notes.txt").write_text("mine")
    (gone / "notes.txt").write_text("mine")
    run(outputs, dry=True)
    assert (one / "notes.txt").exists()
    run(outputs, dry=False)
    assert sorted(p.name for p in (outputs / "toy").iterdir()) == ["onnxruntime-fp32", "torch-fp32"]
    for folder in (published, outputs / "toy/torch-fp32"):
        assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "notes.txt", "scale.onnx"]
