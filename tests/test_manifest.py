from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autovoice.errors import ArtefactError
from autovoice.manifest import SCHEMA, dump, read_manifest

GOOD = {
    "schema": SCHEMA,
    "pipeline": "toy",
    "dims": {},
    "tensors": {},
    "inputs": [],
    "outputs": [],
    "components": [{"name": "a", "file": "a.onnx"}],
    "contract": {"mel": "log → dB"},
}


def folder(tmp_path: Path, content: bytes | Any) -> Path:
    (tmp_path / "manifest.json").write_bytes(content if isinstance(content, bytes) else dump(content))
    return tmp_path


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
        pytest.param(b"[]", "schema None, this version reads 1\n  build it again with this version", id="list"),
        pytest.param(without("schema"), "schema None, this version reads 1", id="no_schema"),
        pytest.param({**GOOD, "schema": SCHEMA + 1}, "schema 2, this version reads 1", id="newer"),
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


@pytest.mark.parametrize(
    "file", ["../a.onnx", "/etc/passwd", "sub/a.onnx", ".hidden", "", "a.onnx\n", "a b.onnx", "..", None]
)
def test_a_file_name_that_leads_out_of_the_folder(file: str | None, tmp_path: Path) -> None:
    data = json.loads(dump(GOOD))
    data["components"].append({"name": "b", "file": file})
    with pytest.raises(ArtefactError) as raised:
        read_manifest(folder(tmp_path, data))
    assert raised.value.fact == f"{tmp_path}/manifest.json: file '{file}' is not a plain name in this folder"


@pytest.mark.parametrize("components", [5, [5], [{}], {"a": 1}], ids=["number", "numbers", "no_file", "mapping"])
def test_components_of_another_form(components: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"its components are not what was written\n  it was edited or cut short"):
        read_manifest(folder(tmp_path, {**GOOD, "components": components}))
