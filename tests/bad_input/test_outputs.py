"""Where a result may not go, and names that would forge what a terminal shows, as the command line is given them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.conftest import Project

Feeds = Callable[..., dict[str, np.ndarray]]


def test_run_replaces_nothing_that_it_was_not_told_to(toy: Project, feeds: Feeds) -> None:
    np.savez(toy.root / "in.npz", **feeds())
    before = toy.files()
    (toy.root / "link.npz").symlink_to("in.npz")
    run = ("task=run", f"folder={toy.folder}", "feeds=in.npz", "overwrite=true")
    engine = next(p for p in toy.folder.iterdir() if p.suffix == ".onnx")
    os.link(engine, toy.root / "engine.npz")
    for output, fact in {
        "in.npz": "is what feeds reads\n",
        "link.npz": "is what feeds reads, in.npz\n",
        "/dev/null": "is a device, and only files are written\n",
        "engine.npz": "is a file of outputs/store\n",
        f"{toy.folder}/out.npz": f"would stand in {toy.folder}\n",
        "weights/limiter.onnx": "is what component.limiter.onnx reads",
    }.items():
        err = toy.fails(*run, f"output={output}")
        assert err.startswith(f"error: output: {output} ")
        assert fact in err
        assert len(err.splitlines()) == 2
    assert toy.files() == before
    assert (toy.root / "in.npz").read_bytes()[:2] == b"PK"


def test_an_existing_result_is_replaced_when_that_is_said(toy: Project, feeds: Feeds) -> None:
    np.savez(toy.root / "in.npz", **feeds())
    run = ("task=run", f"folder={toy.folder}", "feeds=in.npz", "output=out.npz")
    toy.ok(*run)
    exists = "error: output: out.npz exists already\n  overwrite=true replaces it; or give another name\n"
    assert toy.fails(*run) == exists
    assert toy.ok(*run, "overwrite=true").startswith("out.npz: energy float32")


def test_a_name_in_a_file_forges_nothing(toy: Project, feeds: Feeds) -> None:
    name = "x\x1b[2J\nerror: all is well\u202e"
    np.savez(toy.root / "in.npz", **feeds(), **{name: np.ones(1)})
    err = toy.fails("task=run", f"folder={toy.folder}", "feeds=in.npz", "output=out.npz")
    assert err == (
        "error: there is no input 'x\\x1b[2J\\nerror: all is well\\u202e'\n  available: gains, present, tokens\n"
    )


def test_a_name_that_is_no_text(toy: Project) -> None:
    """Bytes of a name that are no UTF-8, as from another system's archive."""
    err = toy.fails("task=run", f"folder={toy.folder}", "feeds='caf\udce9.npz'", "output=out.npz")
    assert err == "error: caf\\udce9.npz: there is no such file\n  feeds=/path/to/in.npz\n"
