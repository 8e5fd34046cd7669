"""Tensors that do not fit what was built, as `task=run` is given them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

Feeds = Callable[..., dict[str, np.ndarray]]
OVER = "build for it with dims.length.max=…"
PLAIN = "np.savez(path, name=array, …); pickled objects are refused"
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown input": (
        {"token": np.ones((1, 5), np.int64)},
        "there is no input 'token'",
        "did you mean 'tokens'? available: gains, present, tokens",
    ),
    "missing input": (
        {"gains": None},
        "input 'gains' is missing",
        "given: present, tokens; inputs: gains, present, tokens",
    ),
    "dtype": (
        {"tokens": np.ones((1, 5), np.int32)},
        "input 'tokens' is int32, expected int64",
        "tokens.astype(np.int64)",
    ),
    "float64": (
        {"gains": np.ones((1, 8))},
        "input 'gains' is float64, expected float32",
        "gains.astype(np.float32)",
    ),
    "rank": (
        {"gains": np.ones(8, np.float32)},
        "input 'gains' has shape [8], expected [n, 8]",
        "2 axes, got 1",
    ),
    "fixed size": (
        {"gains": np.ones((1, 7), np.float32)},
        "input 'gains' axis 1 is 7, expected 8",
        "shape [n, 8]",
    ),
    "sizes that disagree": (
        {"present": np.ones((1, 6), bool)},
        "input 'present' axis 1 (length) is 6, but input 'tokens' has 5",
        "inputs that share 'length' must agree",
    ),
    "above the profile": (
        {"tokens": np.ones((1, 13), np.int64), "present": None},
        "input 'tokens' axis 1 (length) is 13, the built profile is 2 … 12",
        OVER,
    ),
    "below the profile": (
        {"tokens": np.ones((1, 1), np.int64), "present": None},
        "input 'tokens' axis 1 (length) is 1, the built profile is 2 … 12",
        OVER.replace("max", "min"),
    ),
    "empty": (
        {"tokens": np.ones((0, 5), np.int64), "present": None},
        "input 'tokens' axis 0 (n) is 0, the built profile is 1 … 2",
        "build for it with dims.n.min=…",
    ),
}


def refused(project: Project) -> str:
    err = project.fails("task=run", f"folder={project.folder}", "feeds=in.npz", "output=out.npz")
    assert not (project.root / "out.npz").exists()
    return err


@pytest.mark.parametrize("name", CASES)
def test_a_tensor_that_does_not_fit_is_named(toy: Project, feeds: Feeds, name: str) -> None:
    changes, fact, fix = CASES[name]
    np.savez(toy.root / "in.npz", **{n: v for n, v in (feeds() | changes).items() if v is not None})
    assert refused(toy) == f"error: {fact}\n  {fix}\n"


class Intruder:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_pickled_objects_are_refused_and_not_run(toy: Project, feeds: Feeds) -> None:
    mark = toy.root / "executed"
    objects = np.empty(1, object)
    objects[0] = Intruder(mark)
    np.savez(toy.root / "in.npz", allow_pickle=True, **{**feeds(), "gains": objects})
    assert refused(toy) == f"error: in.npz: 'gains' holds pickled objects, which are refused\n  {PLAIN}\n"
    (toy.root / "in.npz").write_bytes(pickle.dumps(Intruder(mark)))
    assert refused(toy) == f"error: in.npz: is no npz, an archive of arrays by name\n  {PLAIN}\n"
    assert not mark.exists()
    pickle.loads((toy.root / "in.npz").read_bytes())
    assert mark.exists()  # it would have, had anyone loaded it


def whole(path: Path) -> bytes:
    np.savez(path, a=np.arange(1000))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        ("truncated", "is an npz that is cut short or damaged"),
        ("text", "is no npz, an archive of arrays by name"),
        ("empty", "is empty"),
        ("folder", "is a folder"),
    ],
)
def test_a_file_that_is_no_npz(toy: Project, damage: str, fact: str) -> None:
    path = toy.root / "in.npz"
    content = bytearray(whole(path))
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("tokens: [1, 2, 3]\n")
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()
    assert refused(toy) == f"error: in.npz: {fact}\n  {PLAIN}\n"


def test_a_flipped_bit(toy: Project, feeds: Feeds) -> None:
    path = toy.root / "in.npz"
    np.savez(path, **feeds())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("gains.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 170] ^= 1  # behind the headers of the entry and of the array
    path.write_bytes(content)
    assert refused(toy) == f"error: in.npz: 'gains' is cut short or damaged\n  {PLAIN}\n"


def test_one_array_is_not_an_npz(toy: Project) -> None:
    with open(toy.root / "in.npz", "wb") as file:
        np.save(file, np.arange(3))
    assert refused(toy) == (f"error: in.npz: is one array, not an npz of named arrays\n  {PLAIN}\n")


def test_an_npz_with_something_else_in_it(toy: Project, feeds: Feeds) -> None:
    np.savez(toy.root / "in.npz", **feeds())
    with zipfile.ZipFile(toy.root / "in.npz", "a") as archive:
        archive.writestr("readme", "hello")
    assert refused(toy) == f"error: in.npz: 'readme' is no array in .npy form\n  {PLAIN}\n"


def test_arrays_without_names(toy: Project) -> None:
    np.savez(toy.root / "in.npz", np.ones((1, 5), np.int64))
    names = "**{'tokens': …, 'present': …, 'gains': …}"
    assert refused(toy) == (
        "error: in.npz: has 'arr_0', an array saved without a name\n"
        f"  save arrays by name: np.savez('in.npz', {names})\n"
    )


def test_no_file_at_all(toy: Project) -> None:
    assert refused(toy) == "error: in.npz: there is no such file\n  feeds=/path/to/in.npz\n"


def test_no_folder_at_all(toy: Project, feeds: Feeds) -> None:
    np.savez(toy.root / "in.npz", **feeds())
    err = toy.fails("task=run", "folder=absent", "feeds=in.npz", "output=out.npz")
    assert err == "error: absent: no manifest.json here\n  give a folder that `autovoice` has built\n"


def test_nothing_given(toy: Project) -> None:
    usage = "autovoice task=run feeds=in.npz output=out.npz"
    assert toy.fails("task=run") == f"error: task=run needs feeds= and output=\n  {usage}\n"
