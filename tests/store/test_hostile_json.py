"""JSON that someone else has written, where a task, a step or a loader reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autovoice.command.builds import result_of
from autovoice.errors import ArtefactError, AutovoiceError, CalibrationError
from autovoice.onnx_tools.ranges import model_of, read_ranges
from autovoice.publish.sweep import FILE, pareto
from autovoice.tasks.calibration_data import _is_manifest

DEEP = "[" * 100_000
HOSTILE = {
    "deep": DEEP + "]" * len(DEEP),
    "deep and cut": '{"a":' * 50_000,
    "digits": "9" * 5000,
    "not text": "\udcff\udcfe",
    "null": "null",
    "list": "[]",
    "number": "3",
    "text": '"x"',
    "empty": "",
    "types": '{"ranges": 3, "schema": "1", "overrides": 3, "objectives": [], "model": {}}',
    "more types": '{"ranges": {"x": [true, false]}, "overrides": [3], "objectives": {"ms": "fast"}}',
    "huge": '{"ranges": {"x": [0, ' + "9" * 400 + "]}}",
}


def _sweep(path: Path) -> Path:
    return path.parent / "job" / FILE


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any], type[AutovoiceError]]] = {
    "ranges": (lambda p: p, read_ranges, CalibrationError),
    "sweep": (_sweep, lambda p: pareto(p.parent), ArtefactError),
}


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("reader", READERS)
def test_whatever_it_holds_is_told_in_two_lines(reader: str, content: str, tmp_path: Path) -> None:
    place, read, error = READERS[reader]
    path = tmp_path / "x.json"
    file = place(path)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(HOSTILE[content].encode("utf-8", "surrogateescape"))
    with pytest.raises(error) as raised:
        read(path)
    lines = str(raised.value).splitlines()
    assert len(lines) == 2
    assert str(tmp_path) in lines[0]
    assert all(len(line) < 400 for line in lines)


def test_a_folder_a_pipe_or_nothing_in_place_of_ranges(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for make in (lambda: None, file.mkdir, lambda: (file.rmdir(), os.mkfifo(file))):
        make()
        with pytest.raises(CalibrationError) as raised:
            read_ranges(file)
        assert str(raised.value).startswith(f"{file}: cannot be read")


@pytest.mark.parametrize("content", HOSTILE)
def test_a_file_is_no_manifest_of_a_dataset(content: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(HOSTILE[content].encode("utf-8", "surrogateescape"))
    assert not _is_manifest(tmp_path / "data.json")


def test_what_a_step_left_in_the_store(tmp_path: Path) -> None:
    (tmp_path / "ranking.json").write_text(HOSTILE["deep"])
    with pytest.raises(ArtefactError, match=r"ranking\.json: cannot be read: it is nested too deeply"):
        result_of(tmp_path / "ranking.json")


def test_ranges_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text('{"model": "abc", "ranges": {"x": [0, 1]}}')
    (tmp_path / "link.json").symlink_to("real.json")
    assert (read_ranges(tmp_path / "link.json"), model_of(tmp_path / "link.json")) == ({"x": (0.0, 1.0)}, "abc")
