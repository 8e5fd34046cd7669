from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

import autovoice
from autovoice.calibration.targets import data_files
from autovoice.errors import AutovoiceError
from autovoice.plan import arguments
from autovoice.plan.arguments import appeared, files_below, files_named, texts_in
from tests.builders import write_tree


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the command, with some files in it."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_tree(
        tmp_path,
        {
            "w.pt": "weights",
            "weights": "no suffix",
            "model/config.json": "{}",
            "model/sub/model.bin": "m",
            "home/w.pt": "mine",
            "home/model/w.pt": "mine",
            "odd name [1].bin": "odd",
        },
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def named(text: str, store: Path = Path("/nowhere/store")) -> dict[str, str]:
    return {name: os.path.abspath(path) for name, path in files_named(text, store).items()}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("w.pt", {"": "w.pt"}),
        ("./w.pt", {"": "w.pt"}),
        ("model/../w.pt", {"": "w.pt"}),
        ("weights", {"": "weights"}),
        ("odd name [1].bin", {"": "odd name [1].bin"}),
        ("~/w.pt", {"": "home/w.pt"}),
        ("~/model", {"/w.pt": "home/model/w.pt"}),
        ("model", {"/config.json": "model/config.json", "/sub/model.bin": "model/sub/model.bin"}),
        ("model/", {"/config.json": "model/config.json", "/sub/model.bin": "model/sub/model.bin"}),
        ("model/sub", {"/model.bin": "model/sub/model.bin"}),
        ("w.pth", {}),
        ("none/w.pt", {}),
        ("w.pt/", {"": "w.pt"}),
        ("w.pt/none", {}),
        ("https://example.org/w.pt", {}),
        ("gelu", {}),
        ("", {}),
        (".", {}),
        ("/", {}),
        ("~", {}),
        ("~nobody-of-that-name/w.pt", {}),
        ("nul\0byte", {}),
        ("long" * 2000, {}),
        ("pkg://no_such_package/w.pt", {}),
        ("/dev/null", {}),
    ],
)
def test_what_a_text_names(text: str, found: dict[str, str], here: Path) -> None:
    assert named(text) == {name: str(here / path) for name, path in found.items()}


def test_a_path_from_the_root_a_url_of_it_and_a_place_in_a_package(here: Path) -> None:
    for text in (str(here / "w.pt"), f"file://{here}/w.pt"):
        assert named(text) == {"": str(here / "w.pt")}
    assert named(f"file://{here}/odd%20name%20[1].bin") == {"": str(here / "odd name [1].bin")}
    assert named("pkg://autovoice/store/atomic.py") == {
        "": str(Path(autovoice.__file__).parent / "store" / "atomic.py")
    }


def test_links_count_as_what_they_lead_to(here: Path) -> None:
    """As a hub's cache keeps its files: snapshots of links to blobs."""
    write_tree(here, {"blobs/one": "1", "blobs/two": "2"})
    (here / "snapshot").mkdir()
    (here / "snapshot/a.bin").symlink_to("../blobs/one")
    (here / "snapshot/more").symlink_to("../blobs")
    (here / "snapshot/lost").symlink_to("../blobs/three")
    (here / "snapshot/round").symlink_to("../snapshot")
    (here / "linked").symlink_to("snapshot")
    assert set(named("linked")) == {"/a.bin", "/more/one", "/more/two"}


def test_what_nobody_reads_is_left_out(here: Path) -> None:
    write_tree(here, {"model/.git/index": "", "model/__pycache__/x.pyc": "", "model/.hidden": ""})
    assert set(named("model")) == {"/.hidden", "/config.json", "/sub/model.bin"}


def test_names_that_are_no_text(here: Path) -> None:
    (here / "model" / os.fsdecode(b"\xff.bin")).touch()
    (name,) = named("model").keys() - {"/config.json", "/sub/model.bin"}
    assert name == "/\\xff.bin"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("fifo", "'fifo' is neither a file nor a folder"),
        ("with_fifo", "'with_fifo/fifo' is neither a file nor a folder"),
        ("with_socket", "'with_socket/s' is neither a file nor a folder"),
        ("many", "the folder 'many' holds more than 3 files, too many to count"),
        ("project", "the folder 'project' holds the store, which every build changes"),
        ("project/outputs/store", "the folder 'project/outputs/store' holds the store, which every build changes"),
        ("..", "the folder '..' holds the store, which every build changes"),
    ],
)
def test_what_cannot_count_is_refused(text: str, fact: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "MOST_FILES", 3)
    write_tree(here, {f"many/{i}/x": "" for i in range(4)})
    (here / "project/outputs/store").mkdir(parents=True)
    (here / "with_fifo").mkdir()
    (here / "with_socket").mkdir()
    for path in ("fifo", "with_fifo/fifo"):
        os.mkfifo(here / path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("with_socket/s")
        with pytest.raises(AutovoiceError) as raised:
            named(text, here / "project/outputs/store")
    assert raised.value.fact == fact
    assert raised.value.fix


FIELDS: dict[str, Any] = {
    "model": {
        "target": "a.Net",
        "kwargs": {
            "path": "w.pt",
            "layers": ["x", {"_target_": "b.Layer", "file": "y"}],
            "n": 3,
            "deep": {"er": {"text": "z"}},
            "none": None,
        },
    },
    "checkpoint": {"key": "no_argument"},
    "seed": 0,
    "lowering": {"target": "a.lower", "kwargs": {"table": "t"}},
    "source": {"target": "a.source", "kwargs": {"folder": "f"}},
    "calibrator": {"target": "a.calibrator", "kwargs": {"table": "c"}},
    "backend": {"name": "own", "target": "a.Own", "options": {"plugin": "p.so"}, "session": {"cache": ["q"]}},
    "components": {"voc": {"backend": {"name": "own", "target": "a.Own", "options": {"plugin": "p.so"}}}},
    "inputs": {"target": {"dtype": "float32"}},
}


def test_arguments_by_their_place_in_the_configuration() -> None:
    assert texts_in(FIELDS) == {
        "model.path": "w.pt",
        "model.layers.0": "x",
        "model.layers.1.file": "y",
        "model.deep.er.text": "z",
        "precision.lowering.table": "t",
        "calibration.source.folder": "f",
        "calibration.calibrator.table": "c",
        "backend.options.plugin": "p.so",
        "backend.session.cache.0": "q",
        "component.voc.backend.options.plugin": "p.so",
    }


def test_what_appeared_in_a_folder(here: Path) -> None:
    files = {"checkpoint": here / "w.pt", "onnx data sub/w.bin": here / "w.pt"}
    files |= {f"model.path/{name}": path for name, path in files_below(here / "model").items()}
    assert appeared(files) is None
    (here / "model/sub/new.bin").touch()
    assert appeared(files) == here / "model/sub/new.bin"


def test_a_source_is_given_the_calibrations_files_alone() -> None:
    files = {"data a/b.npz": Path("b.npz"), "calibration.source.folder/x": Path("x")}
    assert data_files(files) == {"a/b.npz": Path("b.npz")}
