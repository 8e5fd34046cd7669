"""Weights in several files, and what an index may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autovoice.errors import CheckpointError, ConfigError
from autovoice.modules.weights import load_checkpoint
from autovoice.plan.planner import make_plan
from autovoice.plan.rules.step import weights
from autovoice.plan.shards import is_index, shards_of
from autovoice.spec import Checkpoint
from autovoice.store.artefacts import Store
from tests.builders import component, graph_of


def write(folder: Path, suffix: str = "safetensors", **changes: Any) -> tuple[Path, nn.Linear]:
    """A Linear in two files and their index."""
    net = nn.Linear(3, 2)
    files = {"weight": f"net-00001-of-00002.{suffix}", "bias": f"net-00002-of-00002.{suffix}"}
    for name, file in files.items():
        held = {name: net.state_dict()[name].clone()}
        save_file(held, folder / file) if suffix == "safetensors" else torch.save(held, folder / file)
    index = folder / f"net.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": files | changes}))
    return index, net


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_files_of_an_index_are_read_together(tmp_path: Path, suffix: str) -> None:
    index, net = write(tmp_path, suffix)
    loaded = nn.Linear(3, 2)
    assert load_checkpoint(loaded, index) == {"loaded": 2, "missing": 0, "extra": 0}
    torch.testing.assert_close(loaded.weight, net.weight)
    torch.testing.assert_close(loaded.bias, net.bias)


def with_checkpoint(path: Path) -> Any:
    return component("c", checkpoint=Checkpoint(path, None, "", True))


def test_every_file_counts_in_the_keys_by_content(tmp_path: Path) -> None:
    index, _ = write(tmp_path)
    c = with_checkpoint(index)
    assert list(weights(c)) == ["checkpoint", *(f"checkpoint file net-0000{i}-of-00002.safetensors" for i in (1, 2))]
    keys = []
    for _ in range(2):
        plan = make_plan(graph_of(c), Store(tmp_path / "store"))
        keys.append(next(p.key for p in plan.steps if p.step.kind == "export"))
        save_file({"bias": torch.ones(2)}, tmp_path / "net-00002-of-00002.safetensors")
    assert keys[0] != keys[1]


def test_one_file_alone_offers_the_index(tmp_path: Path) -> None:
    index, _ = write(tmp_path)
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(nn.Linear(3, 2), tmp_path / "net-00001-of-00002.safetensors")
    assert raised.value.fix == f"it is one file of several: component.<name>.checkpoint={index}"


@pytest.mark.parametrize("place", ["../secret.safetensors", "/etc/passwd", "", 3, None, "a/../../b", "x\0"])
def test_an_index_reaches_nothing_outside_its_folder(tmp_path: Path, place: Any) -> None:
    index, _ = write(tmp_path, weight=place)
    with pytest.raises(CheckpointError, match="does not lie below its folder"):
        shards_of(index)


def test_a_missing_file_is_told_before_anything_runs(tmp_path: Path) -> None:
    index, _ = write(tmp_path)
    (tmp_path / "net-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConfigError) as raised:
        weights(with_checkpoint(index))
    assert str(raised.value) == (
        f"component.c.checkpoint: '{index}' names 2 files, of which 1 are not there: net-00002-of-00002.safetensors\n"
        f"  fetch them into {tmp_path} too"
    )


@pytest.mark.parametrize(
    ("held", "fact"), [({}, "lacks bias"), ({"bias": torch.ones(2), "scale": torch.ones(1)}, "also holds scale")]
)
def test_files_of_another_model(tmp_path: Path, held: dict[str, Any], fact: str) -> None:
    index, _ = write(tmp_path)
    save_file(held or {"other": torch.ones(1)}, tmp_path / "net-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=fact):
        load_checkpoint(nn.Linear(3, 2), index)


@pytest.mark.parametrize(
    "text",
    ["{}", '{"weight_map": {}}', '{"weight_map": []}', '{"a": ', "{" * 5000, '{"weight_map": {"a": 1}}'],
    ids=str,
)
def test_what_is_no_index(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.index.json"
    path.write_text(text)
    with pytest.raises(CheckpointError):
        shards_of(path)


def test_weights_are_no_index(tmp_path: Path) -> None:
    """The length of this header begins with the byte of a brace."""
    path = tmp_path / "net.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(0x7B).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert path.read_bytes()[:1] == b"{"
    assert not is_index(path)
    assert shards_of(path) == {}
    assert shards_of(tmp_path / "absent") == {}
