from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autovoice.store import atomic
from autovoice.store.atomic import (
    atomic_file,
    left_in,
    link_or_copy,
    make_folder,
    part_of,
    sweep_parts,
    write_atomically,
)

WRITER = """
import sys, time
from pathlib import Path
from autovoice.store import atomic
target = Path(sys.argv[1])
if sys.argv[2] == "write":
    with atomic.atomic_file(target) as file:
        file.write(b"half")
        file.flush()
        print("writing", flush=True)
        time.sleep(60)
else:
    atomic.os.replace = lambda *_: (print("writing", flush=True), time.sleep(60))
    atomic.link_or_copy(Path(sys.argv[3]), target)
"""


@pytest.fixture(params=["write", "link"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, half-way through writing `out/engine.onnx`."""
    (tmp_path / "source").write_bytes(b"whole")
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out/engine.onnx"), request.param, str(tmp_path / "source")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_a_part_stays_while_it_is_written_and_goes_when_its_writer_was_killed(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (part,) = out.iterdir()
    assert left_in(out) == []
    sweep_parts(out)
    assert list(out.iterdir()) == [part]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert left_in(out) == [part]
    sweep_parts(out)
    assert list(out.iterdir()) == []
    assert (tmp_path / "source").read_bytes() == b"whole"


def test_the_next_writer_of_a_name_sweeps_what_the_last_one_left(tmp_path: Path) -> None:
    mine, other = tmp_path / ".a.json.0123abcd", tmp_path / ".b.json.0123abcd"
    mine.touch(), other.touch()
    write_atomically(tmp_path / "a.json", b"{}")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.json.0123abcd", "a.json"]


@pytest.mark.parametrize(
    "name",
    [".gitkeep", "engine.onnx", ".a.json", ".a.json.0123abc", ".a.json.0123abcd0", ".a.json.0123ABCD", ".0123abcd"],
)
def test_what_is_called_otherwise_is_no_part(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    sweep_parts(tmp_path)
    assert (tmp_path / name).exists()


def test_folders_go_by_their_name_alone(tmp_path: Path) -> None:
    for name in (".one.0123abcd", ".two.0123abcd"):
        (tmp_path / name / "inner").mkdir(parents=True)
    sweep_parts(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    sweep_parts(tmp_path, "one")
    assert [p.name for p in tmp_path.iterdir()] == [".two.0123abcd"]
    assert left_in(tmp_path) == [tmp_path / ".two.0123abcd"]


def test_a_part_swept_between_its_making_and_its_holding_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = atomic._hold
    swept: list[str] = []

    def hold(fd: int) -> None:
        if not swept:
            swept.extend(os.listdir(tmp_path))
            sweep_parts(tmp_path)
        held(fd)

    monkeypatch.setattr(atomic, "_hold", hold)
    write_atomically(tmp_path / "a.json", b"{}")
    assert len(swept) == 1
    assert (tmp_path / "a.json").read_bytes() == b"{}"
    assert os.listdir(tmp_path) == ["a.json"]


def test_sweeping_where_there_is_nothing(tmp_path: Path) -> None:
    sweep_parts(tmp_path / "none")
    assert left_in(tmp_path / "none") == []


def test_an_error_leaves_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    with pytest.raises(RuntimeError):
        fail_within(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.json"]


def fail_within(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError


def test_the_mode_of_what_is_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"", 0o664)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("links", [True, False])
def test_a_link_or_a_copy_takes_the_place_of_what_is_there(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    if not links:
        monkeypatch.setattr(atomic.os, "link", no_links)
    for _ in range(2):
        link_or_copy(source, target)
        assert target.read_bytes() == b"new"
        assert target.samefile(source) is links
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]


def no_links(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_new_folder_is_open_to_whom_the_one_above_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    before = os.umask(0o077)
    try:
        make_folder(tmp_path / "one" / "two")
        make_folder(tmp_path / "one" / "two")
    finally:
        os.umask(before)
    assert [(tmp_path / p).stat().st_mode & 0o7777 for p in ("one", "one/two")] == [0o2770] * 2


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    with pytest.raises(FileExistsError, match="one"):
        make_folder(tmp_path / "one")


def test_parts_of_one_file_differ(tmp_path: Path) -> None:
    assert part_of(tmp_path / "a") != part_of(tmp_path / "a")
