from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autovoice.errors import ArtefactError
from autovoice.runtime.manifest import SCHEMA, dump, read_manifest, sealed

Edit = Callable[[Any], object]

ENGINE = {
    "name": "a",
    "file": "a.onnx",
    "sha256": "0" * 64,
    "backend": {"name": "onnxruntime", "loader": "onnxruntime", "options": {}},
    "inputs": {"x": "x"},
    "outputs": {"y": {"wire": "y"}},
}
GOOD = sealed(
    {
        "schema": SCHEMA,
        "pipeline": "toy",
        "dims": {"n": {"min": 1, "opt": 2, "max": 4}},
        "tensors": {
            "x": {"dtype": "float32", "shape": ["n", 3], "default": 0.5},
            "y": {"dtype": "float32", "shape": ["2*n"]},
        },
        "inputs": ["x"],
        "outputs": ["y"],
        "components": [ENGINE],
        "contract": {"mel": "log → dB"},
    }
)


def folder(tmp_path: Path, content: bytes | Any) -> Path:
    (tmp_path / "manifest.json").write_bytes(content if isinstance(content, bytes) else dump(content))
    return tmp_path


def edited(edit: Edit) -> dict[str, Any]:
    """With a change that its digest vouches for."""
    data = copy.deepcopy(GOOD)
    edit(data)
    return sealed(data)


def test_reads_what_was_dumped(tmp_path: Path) -> None:
    assert read_manifest(folder(tmp_path, GOOD)) == GOOD


def test_dumped_for_people_too() -> None:
    text = dump(GOOD).decode()
    assert text.endswith("}\n")
    assert "log → dB" in text
    assert text.splitlines()[1] == f' "schema": {SCHEMA},'


def test_a_folder_that_was_never_built(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as raised:
        read_manifest(tmp_path)
    assert str(raised.value) == f"{tmp_path}: no manifest.json here\n  give a folder that `autovoice` has built"


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in GOOD.items() if k != key}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "cannot be read: Expecting value", id="empty"),
        pytest.param(dump(GOOD)[:40], "cannot be read: ", id="cut"),
        pytest.param(b"\xff\xfe\x00", "cannot be read: ", id="not_text"),
        pytest.param(b"[" * 100_000, "cannot be read: it is nested too deeply\n  build it again", id="deep"),
        pytest.param(b"[" * 500 + b"]" * 500, "cannot be read: it is nested too deeply", id="deeper_than_written"),
        pytest.param(b'{"schema": 2, "schema": 2}', "cannot be read: the key 'schema' is there twice", id="twice"),
        pytest.param(b'{"schema": ' + b"9" * 5000 + b"}", "cannot be read: ", id="huge_number"),
        pytest.param(b"[]", "schema None, this version reads 2\n  build it again with this version", id="list"),
        pytest.param(without("schema"), "schema None, this version reads 2", id="no_schema"),
        pytest.param({**GOOD, "schema": 1}, "schema 1, this version reads 2\n  build it again with this", id="older"),
        pytest.param({**GOOD, "schema": SCHEMA + 1}, "schema 3, this version reads 2", id="newer"),
        *(
            pytest.param(without(k), f"has no '{k}'\n  it was edited or cut short; build it again", id=f"no_{k}")
            for k in GOOD
            if k != "schema"
        ),
    ],
)
def test_refused(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as raised:
        read_manifest(folder(tmp_path, content))
    assert str(raised.value).startswith(f"{tmp_path}/manifest.json: {message}")
    assert len(str(raised.value).splitlines()) == 2


# -- its digest ------------------------------------------------------------------------------------


def test_another_layout_is_the_same_manifest(tmp_path: Path) -> None:
    text = json.dumps(dict(reversed(GOOD.items())), separators=(" ,", "  : "), ensure_ascii=True)
    assert read_manifest(folder(tmp_path, f"\n{text}\n".encode())) == GOOD


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["tensors"]["x"].update(default=0.25),
        lambda d: d["tensors"]["x"].update(default=None),
        lambda d: d["dims"]["n"].update(max=5),
        lambda d: d["contract"].update(mel="log"),
        lambda d: d.update(note="looks harmless"),
        lambda d: d.update(digest="0" * 64),
        lambda d: d.update(digest=None),
    ],
    ids=["default", "no_default", "max", "contract", "more", "digest", "no_digest"],
)
def test_another_value_is_noticed(edit: Edit, tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    edit(data)
    with pytest.raises(ArtefactError) as raised:
        read_manifest(folder(tmp_path, data))
    assert str(raised.value) == (
        f"{tmp_path}/manifest.json: was edited or damaged: its content is not what its digest says\n"
        "  copy the whole folder again, or build it again"
    )


def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    content = json.dumps(GOOD).encode()
    for place in range(0, len(content), 7):
        for bit in (0, 5):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            try:
                got = read_manifest(folder(tmp_path, bytes(damaged)))
            except ArtefactError:
                continue
            assert got == GOOD


# -- its form --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", ["../a.onnx", "/etc/passwd", "sub/a.onnx", ".hidden", "", "a.onnx\n", "a b.onnx", "..", None]
)
def test_a_file_name_that_leads_out_of_the_folder(file: str | None, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as raised:
        read_manifest(folder(tmp_path, edited(lambda d: d["components"].append({**ENGINE, "name": "b", "file": file}))))
    assert raised.value.fact == (
        f"{tmp_path}/manifest.json: is not what was written: file {file!r} is not a plain name in this folder"
    )


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        pytest.param(lambda d: d.update(components=5), "components is 5", id="number"),
        pytest.param(lambda d: d.update(components=[]), "components is []", id="none"),
        pytest.param(lambda d: d.update(components=[5]), "components[0] is 5", id="numbers"),
        pytest.param(lambda d: d.update(components=[{}]), "components[0].name is None", id="empty"),
        pytest.param(lambda d: d["components"].append(ENGINE), "component 'a' is there twice", id="twice"),
        pytest.param(
            lambda d: d["components"].append({**ENGINE, "name": "b"}), "file 'a.onnx' is there twice", id="file_twice"
        ),
        pytest.param(lambda d: d["components"][0].update(name="../a"), "components[0].name is '../a'", id="name"),
        pytest.param(lambda d: d["components"][0].update(backend=None), "components[0].backend is None", id="backend"),
        pytest.param(
            lambda d: d["components"][0]["backend"].update(options=[1]),
            "components[0].backend.options is [1]",
            id="options",
        ),
        pytest.param(lambda d: d.update(steps=[]), "steps is []", id="steps"),
        pytest.param(lambda d: d.update(steps={"a": "../../etc"}), "steps.a is '../../etc'", id="step_key"),
        pytest.param(lambda d: d.update(pipeline="a\x1b[2Jb"), "pipeline is 'a\\x1b[2Jb'", id="escape"),
        pytest.param(lambda d: d["dims"]["n"].update(max=10**30), f"dims.n.max is {10**30}", id="huge"),
        pytest.param(lambda d: d["dims"]["n"].update(max=1e400), "dims.n.max is inf", id="infinite"),
        pytest.param(lambda d: d["dims"]["n"].update(formula="n+1"), "dims.n is computed from itself", id="circle"),
        pytest.param(lambda d: d["dims"]["n"].update(formula="(" * 400), "dims.n.formula is '((((", id="brackets"),
        pytest.param(lambda d: d["tensors"]["x"].update(dtype="O"), "tensors.x.dtype is 'O'", id="dtype"),
        pytest.param(lambda d: d["tensors"]["x"].update(dtype=["f"]), "tensors.x.dtype is ['f']", id="dtype_list"),
        pytest.param(lambda d: d["tensors"]["x"].update(shape=["m"]), "tensors.x.shape is 'm'", id="no_dim"),
        pytest.param(lambda d: d["tensors"]["x"].update(shape="n"), "tensors.x.shape is 'n'", id="no_list"),
        pytest.param(lambda d: d["tensors"]["x"].update(default=[1]), "tensors.x.default is [1]", id="default"),
        pytest.param(lambda d: d["components"][0].update(inputs={"x": "z"}), "a reads 'z', which nothing", id="wire"),
        pytest.param(lambda d: d.update(outputs=["z"]), "there is no tensor 'z'", id="output"),
    ],
)
def test_content_of_another_form(edit: Edit, fault: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as raised:
        read_manifest(folder(tmp_path, edited(edit)))
    fact, fix = str(raised.value).splitlines()
    assert fact.startswith(f"{tmp_path}/manifest.json: is not what was written: {fault}")
    assert fix == "  it was edited or cut short; build it again"


@pytest.mark.parametrize(
    "name", ["x" * 100_000, "\x1b[2J\nerror: other", "\ud800"], ids=["long", "control", "surrogate"]
)
def test_a_name_is_quoted_on_one_line_without_control_characters(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as raised:
        read_manifest(folder(tmp_path, json.dumps(edited(lambda d: d["dims"].update({name: 5}))).encode()))
    fact, _ = str(raised.value).splitlines()
    assert "is not what was written: dims." in fact
    assert fact.isprintable()
    assert len(fact) < 600


# -- what is no file -------------------------------------------------------------------------------


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_link(path: Path) -> None:
    (path.parent / "other.json").write_bytes(dump(GOOD))
    path.symlink_to("other.json")


@pytest.mark.parametrize(
    ("make", "said"),
    [(a_pipe, "is a pipe"), (a_device, "is a link"), (a_link, "is a link"), (Path.mkdir, "is a folder")],
    ids=["pipe", "device", "link", "folder"],
)
def test_only_a_regular_file_is_read(make: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    make(tmp_path / "manifest.json")
    with pytest.raises(ArtefactError) as raised:
        read_manifest(tmp_path)
    assert str(raised.value) == (
        f"{tmp_path}/manifest.json: cannot be read: {said}, not a regular file\n  build it again"
    )


def test_no_more_is_read_than_a_manifest_may_have(tmp_path: Path) -> None:
    with open(tmp_path / "manifest.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtefactError, match="cannot be read: has more than 64 MiB"):
        read_manifest(tmp_path)
