"""A folder replaced as a whole: nothing of the user's is lost, nothing half is seen, nothing hidden is left."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autovoice.errors import StoreError
from autovoice.runtime.manifest import read_manifest
from autovoice.runtime.pipeline import Pipeline
from autovoice.store import switch
from autovoice.store.switch import replacing, sweep
from tests.folders import fill, own

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["exchange", "two_steps"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As most file systems do it, and as those that cannot exchange two names."""
    if request.param == "two_steps":
        monkeypatch.setattr(switch, "exchange", refused(errno.EINVAL))
    return str(request.param)


def refused(number: int) -> Callable[[Path, Path], None]:
    def exchange(one: Path, other: Path) -> None:
        raise OSError(number, os.strerror(number))

    return exchange


def replaced(folder: Path, factor: float) -> None:
    with replacing(folder, own) as new:
        fill(new, factor)


def factor(folder: Path) -> float:
    return float(read_manifest(folder)["contract"]["factor"])


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


BUILT = ["manifest.json", "scale.onnx"]


def test_the_first_one(tmp_path: Path) -> None:
    replaced(tmp_path / "deep" / "built", 2)
    assert factor(tmp_path / "deep" / "built") == 2
    assert names(tmp_path / "deep") == ["built"]


def test_another_one(either_way: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "built", 2)
    folder.chmod(0o750)
    replaced(folder, 3)
    assert factor(folder) == 3
    assert names(folder) == BUILT
    assert names(tmp_path) == ["built"]
    assert folder.stat().st_mode & 0o777 == 0o750


def test_what_is_the_users_own_goes_along(either_way: str, tmp_path: Path) -> None:
    folder = fill(tmp_path / "built", 2)
    (folder / "notes.txt").write_text("mine")
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "more.txt").write_text("mine too")
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    replaced(folder, 3)
    assert names(folder) == ["link", *BUILT[:1], "notes.txt", "pipe", "scale.onnx", "sub"]
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "sub" / "deep" / "more.txt").read_text() == "mine too"
    assert os.readlink(folder / "link") == "nowhere"
    assert names(tmp_path) == ["built"]


def test_a_users_folder_where_an_engine_belongs(tmp_path: Path) -> None:
    folder = fill(tmp_path / "built", 2)
    (folder / "scale.onnx").unlink()
    (folder / "scale.onnx").mkdir()
    (folder / "scale.onnx" / "mine.txt").write_text("mine")
    replaced(folder, 3)
    assert factor(folder) == 3
    (kept,) = folder.glob("scale.onnx.*")
    assert (kept / "mine.txt").read_text() == "mine"


def test_what_is_no_longer_part_of_the_build_goes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "built", 2, file="other.onnx")
    (folder / "scale.onnx").rename(folder / "other.onnx")
    replaced(folder, 3)
    assert names(folder) == BUILT


def test_an_error_leaves_what_stood_there(tmp_path: Path) -> None:
    folder = fill(tmp_path / "built", 2)
    (folder / "notes.txt").write_text("mine")

    def build() -> None:
        with replacing(folder, own) as new:
            fill(new, 3)
            raise OSError(errno.ENOSPC, "the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        build()
    assert factor(folder) == 2
    assert names(folder) == [BUILT[0], "notes.txt", BUILT[1]]
    assert names(tmp_path) == ["built"]


def test_what_a_user_writes_meanwhile_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the moment that their files are linked, and the switch."""
    folder = fill(tmp_path / "built", 2)
    (folder / "notes.txt").write_text("old")
    real = switch.sync

    def write(path: Path) -> None:
        real(path)
        if path.name.startswith("."):
            (folder / "part").write_text("new")
            os.utime(folder / "part", (time.time() + 5, time.time() + 5))
            os.replace(folder / "part", folder / "notes.txt")
            (folder / "late.txt").write_text("late")

    monkeypatch.setattr(switch, "sync", write)
    replaced(folder, 3)
    assert factor(folder) == 3
    assert (folder / "notes.txt").read_text() == "new"
    assert (folder / "late.txt").read_text() == "late"
    assert names(tmp_path) == ["built"]


# -- what a killed process leaves ------------------------------------------------------------------


def test_leftovers_are_taken_up(tmp_path: Path) -> None:
    folder = fill(tmp_path / "built", 2)
    (folder / "kept.txt").write_text("newer")
    before, after, empty = (tmp_path / f".built.0000000{i}" for i in range(3))
    fill(before, 3)  # killed before the switch: not one file of it is the user's
    os.link(folder / "kept.txt", before / "kept.txt")
    fill(after, 1)  # killed after the switch: the user's files have not come along
    (after / "sub").mkdir()
    (after / "sub" / "mine.txt").write_text("mine")
    (after / "kept.txt").write_text("older")
    os.utime(after / "kept.txt", (1, 1))
    empty.mkdir()
    (empty / ".manifest.json.01234567").write_text('{"half')
    (tmp_path / ".built.not-ours").mkdir()
    (tmp_path / ".other.00000000").mkdir()
    sweep(folder, lambda f: {"manifest.json", *(own(f) if f != empty else ())})
    assert names(tmp_path) == [".built.not-ours", ".other.00000000", "built"]
    assert names(folder) == ["kept.txt", *BUILT, "sub"]
    assert (folder / "sub" / "mine.txt").read_text() == "mine"
    assert (folder / "kept.txt").read_text() == "newer"
    assert factor(folder) == 2


def test_a_folder_that_a_kill_took_away_comes_back(tmp_path: Path) -> None:
    """Where two names cannot be exchanged, a kill between the renames leaves nothing at the name."""
    left = fill(tmp_path / ".built.00000000", 2)
    (left / "notes.txt").write_text("mine")
    replaced(tmp_path / "built", 3)
    assert names(tmp_path) == ["built"]
    assert names(tmp_path / "built") == [BUILT[0], "notes.txt", BUILT[1]]


PUBLISHER = """
import os, sys
from itertools import count
from pathlib import Path
from autovoice.store.switch import replacing, sweep
from tests.folders import fill, own
folder = Path(sys.argv[1])
def named(folder):
    try: return own(folder)
    except Exception: return {"manifest.json"}
for i in count():
    sweep(folder, named)
    with replacing(folder, named) as new:
        fill(new, 2 + i % 2)
    print(i, flush=True)
"""


def publisher(folder: Path) -> subprocess.Popen[str]:
    """A process that publishes one build after another."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PUBLISHER, str(folder)]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == "0\n"
    return process


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Path]:
    folder = fill(tmp_path / "built", 1)
    (folder / "notes.txt").write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / "more.txt").write_text("mine")
    yield folder
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("kills", [int(os.environ.get("AUTOVOICE_KILLS", "3"))])
def test_a_kill_at_any_moment_leaves_a_whole_folder(published: Path, kills: int) -> None:
    """AUTOVOICE_KILLS=300 for a campaign."""
    moment = random.Random(0)
    for _ in range(kills):
        process = publisher(published)
        time.sleep(moment.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Pipeline.load(published) as pipeline:
            assert pipeline.contract["factor"] in (1, 2, 3)
    sweep(published, lambda f: {"manifest.json", *(own(f) if (f / "scale.onnx").exists() else ())})
    assert names(published.parent) == ["built"]
    assert names(published) == [*BUILT[:1], "notes.txt", "scale.onnx", "sub"]
    assert (published / "sub" / "more.txt").read_text() == "mine"


@pytest.mark.parametrize("loads", [int(os.environ.get("AUTOVOICE_LOADS", "40"))])
def test_loads_beside_a_publisher_are_of_one_build(published: Path, loads: int) -> None:
    """AUTOVOICE_LOADS=1000 for a campaign."""
    import numpy as np

    process = publisher(published)
    try:
        seen = set()
        for _ in range(loads):
            with Pipeline.load(published) as pipeline:
                factor = pipeline.contract["factor"]
                assert pipeline.run({"x": np.ones(3, np.float32)})["y"].tolist() == [factor] * 3
                seen.add(factor)
    finally:
        process.kill()
        process.communicate()
    assert seen == {2, 3}  # it did publish meanwhile


# -- what cannot be replaced -----------------------------------------------------------------------


def test_a_file_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "built").write_text("mine")
    with pytest.raises(NotADirectoryError):
        replaced(tmp_path / "built", 2)
    assert names(tmp_path) == ["built"]


@pytest.mark.parametrize("inside", [False, True], ids=["folder", "inside"])
def test_a_mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    folder = fill(tmp_path / "built", 2)
    (folder / "data").mkdir()
    mounted = str(folder / "data" if inside else folder)
    monkeypatch.setattr(os.path, "ismount", lambda path: os.fspath(path) == mounted)
    with pytest.raises(StoreError) as caught:
        replaced(folder, 3)
    assert caught.value.fact.startswith(f"{mounted}: is a mount point, and cannot ")
    assert "paths.outputs=/another/folder" in caught.value.fix
    assert factor(folder) == 2
    assert names(tmp_path) == ["built"]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EBUSY])
def test_a_layer_that_cannot_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    folder = fill(tmp_path / "built", 2)
    monkeypatch.setattr(switch, "exchange", refused(number))
    with pytest.raises(StoreError, match="cannot be replaced: it is mounted, or lies in the lower layer"):
        replaced(folder, 3)
    assert factor(folder) == 2
    assert names(tmp_path) == ["built"]
