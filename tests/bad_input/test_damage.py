"""A store and folders that something else has written to: noticed, told, mended, never loaded."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from autovoice import Pipeline
from autovoice.errors import ArtefactError
from autovoice.runtime.manifest import sealed

if TYPE_CHECKING:
    from tests.conftest import Project

Change = Callable[[Path], None]


def rewrite(path: Path, content: bytes, keep_time: bool = False) -> None:
    """New content under the same inode, as a failing disk or a careless script leaves it."""
    stat = path.stat()
    os.chmod(path, 0o644)
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def truncate(path: Path) -> None:
    rewrite(path, path.read_bytes()[:-7])


def flip(path: Path, keep_time: bool = False) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, bytes(content), keep_time)


def flip_and_restore_time(path: Path) -> None:
    flip(path, keep_time=True)


CHANGES = [truncate, flip, flip_and_restore_time]


# -- the store -------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_artefact_is_built_again(toy: Project, change: Change) -> None:
    whole = {p.name: p.read_bytes() for p in toy.folder.iterdir()}
    change(toy.artefact("synth.build") / "engine.onnx")  # the file in the folder is a hard link of it
    planned = toy.plan()
    damaged = ("run", "its artefact in the store is damaged")
    assert {step for step, said in planned.items() if said == damaged} == {  # in float32 these share one file
        *("synth.export", "synth.lower", "synth.build")
    }
    assert {said for said in planned.values() if said != damaged} == {("reuse", "unchanged")}
    toy.ok()
    assert (toy.folder / "synth.onnx").read_bytes() == whole["synth.onnx"]
    assert "nothing to do" in toy.ok()
    Pipeline.load(toy.folder).close()


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_engine_is_never_loaded(toy: Project, change: Change) -> None:
    change(toy.folder / "synth.onnx")
    with pytest.raises(ArtefactError) as caught:
        Pipeline.load(toy.folder)
    fact, fix = str(caught.value).splitlines()
    assert fact.startswith(f"{toy.folder / 'synth.onnx'}: is not the file that was built (sha256 ")
    assert fix == "  run the build again; it restores the file in its own folder"


def test_a_flipped_bit_does_not_travel_into_the_next_step(toy: Project) -> None:
    """With the time of its content restored, that of the change tells, and the content is read."""
    flip_and_restore_time(toy.artefact("synth.export") / "model.onnx")
    out = toy.ok("component.synth.precision=half")
    assert re.search(r"^ synth +export +run +its artefact in the store is damaged$", out, re.M)
    assert "nothing to do" in toy.ok("component.synth.precision=half")


def test_a_flipped_bit_that_loading_has_refused_is_mended_by_the_next_build(toy: Project) -> None:
    path = toy.folder / "synth.onnx"
    whole = path.read_bytes()
    flip_and_restore_time(path)
    with pytest.raises(ArtefactError, match="is not the file that was built"):
        Pipeline.load(toy.folder)
    toy.ok()
    assert path.read_bytes() == whole
    Pipeline.load(toy.folder).close()


def test_a_flipped_bit_is_never_restored_from_the_store(toy: Project) -> None:
    """The file in the folder is a hard link of the one in the store: both are damaged, their times as they were."""
    path = toy.artefact("synth.build") / "engine.onnx"
    whole = path.read_bytes()
    flip_and_restore_time(path)
    assert "its artefact in the store is damaged" in toy.ok()
    assert (toy.folder / "synth.onnx").read_bytes() == whole
    Pipeline.load(toy.folder).close()


def test_a_flipped_bit_in_a_folder_is_refused_by_run(toy: Project) -> None:
    flip_and_restore_time(toy.folder / "synth.onnx")
    np.savez(toy.root / "in.npz", tokens=np.ones((1, 4), np.int64), gains=np.ones((1, 8), np.float32))
    err = toy.fails("task=run", f"folder={toy.folder}", "feeds=in.npz", "output=out.npz")
    assert "synth.onnx: is not the file that was built" in err
    assert not (toy.root / "out.npz").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"key": 1}'], ids=repr)
def test_a_damaged_record_is_an_absent_artefact(toy: Project, content: bytes) -> None:
    rewrite(toy.artefact("synth.verify") / "record.json", content)
    assert toy.plan()["synth.verify"] == ("run", "its artefact in the store is damaged")
    toy.ok()
    assert "nothing to do" in toy.ok()


def test_an_artefact_that_is_gone_is_built_again(toy: Project) -> None:
    shutil.rmtree(toy.artefact("embedder.build"))
    planned = toy.plan()
    assert planned["embedder.build"] == ("run", "its artefact is gone from the store")
    assert planned["embedder.verify"] == ("reuse", "unchanged")
    toy.ok()
    assert "nothing to do" in toy.ok()


@pytest.mark.parametrize("name", ["hashes.json", "imports.json", "last/chime.json"])
def test_the_memory_of_the_store_is_not_its_truth(toy: Project, name: str) -> None:
    for content in (b"\x00garbage", b"[1, 2]", b'{"inputs": 3}'):
        (toy.store / name).write_bytes(content)
        assert "nothing to do" in toy.ok()
        assert "1 to run" in toy.ok("task=plan", "targets=[synth]")


# -- the folder ------------------------------------------------------------------------------------


def test_an_edited_engine_is_restored(toy: Project) -> None:
    whole = (toy.folder / "limiter.onnx").read_bytes()
    (toy.folder / "limiter.onnx").unlink()
    (toy.folder / "limiter.onnx").write_bytes(b"something else")
    with pytest.raises(ArtefactError, match="is not the file that was built"):
        Pipeline.load(toy.folder)
    path = "outputs/chime/onnxruntime-fp32/manifest.json"
    assert toy.ok() == f"chime on onnxruntime, fp32: restored limiter.onnx, manifest.json, 17 steps reused → {path}\n"
    assert (toy.folder / "limiter.onnx").read_bytes() == whole
    assert "nothing to do" in toy.ok()


def test_a_removed_engine_is_told_and_restored(toy: Project) -> None:
    (toy.folder / "limiter.onnx").unlink()
    with pytest.raises(ArtefactError) as caught:
        Pipeline.load(toy.folder)
    assert str(caught.value) == (
        f"{toy.folder / 'limiter.onnx'}: No such file or directory\n  copy the whole folder, or build it again"
    )
    assert "restored limiter.onnx" in toy.ok()
    Pipeline.load(toy.folder).close()


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """With a digest that vouches for the change, as a newer version or a forger writes it."""
    path = folder / "manifest.json"
    data = edit(json.loads(path.read_bytes()))
    path.write_text(json.dumps(sealed(data) if isinstance(data, dict) else data))


def manifest_with(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda data: {**data, **changes}


def first_file(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda data: {**data, "components": [{**data["components"][0], "file": name}, *data["components"][1:]]}


def without(part: str, *keys: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """`part` of the manifest, or its first element, without a key."""

    def edit(data: dict[str, Any]) -> dict[str, Any]:
        data = copy.deepcopy(data)
        node = data[part][0] if isinstance(data[part], list) else data[part]
        for key in keys[:-1]:
            node = node[key]
        del node[keys[-1]]
        return data

    return edit


EDITS = {
    "another schema": (manifest_with(schema=3), "schema 3, this version reads 2"),
    "no schema": (lambda d: {k: v for k, v in d.items() if k != "schema"}, "schema None, this version reads 2"),
    "no tensors": (lambda d: {k: v for k, v in d.items() if k != "tensors"}, "has no 'tensors'"),
    "a list": (lambda d: [d], "schema None, this version reads 2"),
    "a path out of the folder": (
        first_file("../synth.onnx"),
        "is not what was written: file '../synth.onnx' is not a plain name in this folder",
    ),
    "an absolute path": (
        first_file("/etc/passwd"),
        "is not what was written: file '/etc/passwd' is not a plain name in this folder",
    ),
    "a folder": (first_file(".."), "is not what was written: file '..' is not a plain name in this folder"),
    "no hash": (without("components", "sha256"), "is not what was written: components[0]: the sha256 of "),
    "no backend": (without("components", "backend"), "is not what was written: components[0].backend is None"),
    "no loader": (without("components", "backend", "loader"), "is not what was written: components[0].backend.loader"),
    "no tensor": (without("tensors", "features"), "is not what was written: there is no tensor 'features'"),
    "no bound": (without("dims", "length", "max"), "is not what was written: dims.length.max is None"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_manifest_is_refused_and_restored(toy: Project, name: str) -> None:
    path = toy.folder / "manifest.json"
    whole = json.loads(path.read_bytes())
    edit, fact = EDITS[name]
    edit_manifest(toy.folder, edit)
    with pytest.raises(ArtefactError) as caught:
        Pipeline.load(toy.folder)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}: {fact}")
    assert "build it again" in lines[1]
    assert "restored manifest.json" in toy.ok()
    again = json.loads(path.read_bytes())
    assert {**again, "created": "", "digest": ""} == {**whole, "created": "", "digest": ""}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"schema": 1'], ids=repr)
def test_a_manifest_that_is_not_json_is_refused(toy: Project, content: bytes) -> None:
    (toy.folder / "manifest.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"manifest\.json: cannot be read: ") as caught:
        Pipeline.load(toy.folder)
    assert str(caught.value).splitlines()[-1] == "  build it again"
    assert "restored manifest.json" in toy.ok()


def test_a_folder_that_was_never_built(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        Pipeline.load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no manifest.json here\n  give a folder that `autovoice` has built"


def test_a_backend_that_is_not_installed(toy: Project) -> None:
    edit_manifest(toy.folder, lambda d: json.loads(json.dumps(d).replace('"loader": "onnxruntime"', '"loader": "os"')))
    with pytest.raises(ArtefactError) as caught:
        Pipeline.load(toy.folder)
    assert str(caught.value) == (
        "backend 'os' is not installed here\n  available: onnxruntime, tensorrt, tensorrt_rtx, torch"
    )
