"""What a checkpoint file may be called and hold: names behind wrappers, shared weights, files of other kinds."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from autovoice.errors import CheckpointError
from autovoice.modules.weights import load_checkpoint
from autovoice.store.hashing import file_sha256


class Tied(nn.Module):
    """A table whose rows are its output's weights too."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)
        self.mix = nn.Linear(3, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.table.weight


def saved(path: Path, data: Any) -> Path:
    torch.save(data, path)
    return path


def refused(module: nn.Module, path: Path, **options: Any) -> CheckpointError:
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(module, path, **options)
    assert len(str(raised.value).splitlines()) == 2
    return raised.value


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in theirs)


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["net.decoder", "a.b.c", "1.x", "dotted.name.x"])
def test_dotted_keys_reach_what_is_nested(tmp_path: Path, key: str) -> None:
    """Names with dots of their own among them, and numbers."""
    net = nn.Linear(3, 2)
    state = net.state_dict()
    data = {"net": {"decoder": state}, "a.b": {"c": state}, 1: {"x": state}, "dotted": {"name.x": state, "name": 3}}
    loaded = nn.Linear(3, 2)
    load_checkpoint(loaded, saved(tmp_path / "s.pth", data), key=key)
    assert same(loaded, net)


def test_the_advice_names_what_lies_below(tmp_path: Path) -> None:
    path = saved(tmp_path / "s.pth", {"net": {"decoder": nn.Linear(3, 2).state_dict(), "encoder": {}}, "epoch": 1})
    error = refused(nn.Linear(3, 2), path, key="net")
    typed = f"component.<name>.checkpoint='{{path: {path}, key: net.decoder}}'"
    assert error.fix == f"set key to the state dict to load, as {typed}; available: net.decoder"
    assert "did you mean 'net.decoder'?" in refused(nn.Linear(3, 2), path, key="net.decodr").fix


def test_what_contains_itself_is_looked_at_so_far(tmp_path: Path) -> None:
    data: dict[str, Any] = {"epoch": 1}
    data["self"] = data
    assert "holds no tensors" in refused(nn.Linear(3, 2), saved(tmp_path / "s.pth", data)).fact


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["_orig_mod.{0}.{1}", "{0}._orig_mod.{1}", "module.{0}.{1}", "module._orig_mod.{0}._orig_mod.{1}", "{0}.{1}"],
)
def test_names_behind_wrappers(tmp_path: Path, name: str) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    state = {name.format(*n.split(".")): v for n, v in net.state_dict().items()}
    loaded = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    assert load_checkpoint(loaded, saved(tmp_path / "s.pth", state))["loaded"] == 4
    assert same(loaded, net)


def test_a_module_that_is_called_module_keeps_its_name(tmp_path: Path) -> None:
    net, loaded = (nn.ModuleDict({"module": nn.Linear(3, 2)}) for _ in range(2))
    load_checkpoint(loaded, saved(tmp_path / "s.pth", net.state_dict()))
    assert same(loaded, net)


def test_compiled_parts_take_a_plain_file(tmp_path: Path) -> None:
    """The wrapper is on the module's side."""
    net, loaded = nn.Sequential(nn.Linear(3, 2)), nn.Sequential()
    loaded.add_module("0", torch.compile(nn.Linear(3, 2)))
    assert list(loaded.state_dict()) == ["0._orig_mod.weight", "0._orig_mod.bias"]
    load_checkpoint(loaded, saved(tmp_path / "s.pth", net.state_dict()))
    assert torch.equal(loaded.state_dict()["0._orig_mod.weight"], net[0].weight)


def test_averages_beside_weights_are_both_offered(tmp_path: Path) -> None:
    state = nn.Linear(3, 2).state_dict()
    held = {f"{head}.{n}": v for head in ("ema_model", "online_model") for n, v in state.items()}
    fix = refused(nn.Linear(3, 2), saved(tmp_path / "s.pth", held | {"step": torch.ones(1)})).fix
    assert fix.startswith("set one of the prefixes online_model., ema_model., below which the file has")
    loaded = nn.Linear(3, 2)
    load_checkpoint(loaded, tmp_path / "s.pth", prefix="ema_model.")
    assert torch.equal(loaded.weight, state["weight"])


# -- shared weights, types -------------------------------------------------------------------------


@pytest.mark.parametrize("absent", ["head.weight", "table.weight"])
def test_weights_that_the_module_shares_are_there_once(tmp_path: Path, absent: str) -> None:
    net, loaded = Tied(), Tied()
    state = {n: v.clone() for n, v in net.state_dict().items() if n != absent}
    save_file(state, tmp_path / "s.safetensors")
    assert load_checkpoint(loaded, tmp_path / "s.safetensors") == {"loaded": 4, "missing": 0, "extra": 0}
    assert same(loaded, net)


def test_what_is_not_shared_is_missing(tmp_path: Path) -> None:
    save_file({n: v.clone() for n, v in Tied().state_dict().items() if n != "mix.weight"}, tmp_path / "s.safetensors")
    assert "1 of 4 parameters missing (mix.weight)" in refused(Tied(), tmp_path / "s.safetensors").fact


def test_two_values_for_one_weight_are_refused(tmp_path: Path) -> None:
    state = {n: v.clone() for n, v in Tied().state_dict().items()}
    state["head.weight"] += 1
    assert refused(Tied(), saved(tmp_path / "s.pth", state)).fact.startswith(
        "table.weight and head.weight are one weight of the module, and two in "
    )


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (torch.ones(2, 3, dtype=torch.float16), True),
        (torch.ones(2, 3, dtype=torch.float64), True),
        (torch.ones(2, 3, dtype=torch.int64), True),
        (torch.ones(2, 3, dtype=torch.int8), False),
        (torch.ones(2, 3, dtype=torch.complex64), False),
    ],
    ids=lambda v: str(getattr(v, "dtype", v)),
)
def test_types_that_mean_the_same_numbers(tmp_path: Path, value: torch.Tensor, taken: bool) -> None:
    path = saved(tmp_path / "s.pth", {"weight": value, "bias": torch.ones(2)})
    if taken:
        load_checkpoint(nn.Linear(3, 2), path)
    else:
        kind = str(value.dtype).removeprefix("torch.")
        assert refused(nn.Linear(3, 2), path).fact == f"weight is {kind} in '{path}', float32 in the module"


# -- other files -----------------------------------------------------------------------------------


def scripted(path: Path) -> None:
    torch.jit.script(nn.Linear(3, 2)).save(str(path))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/config.json", "{}")


def tarred(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("model_weights.ckpt"), io.BytesIO())


KINDS = {
    "script": (scripted, "is a TorchScript archive", "its weights alone: python -c "),
    "zip": (
        zipped,
        "is a zip archive of something else",
        "unpack it, and give the file of weights in it",
    ),
    "tar": (tarred, "is a tar archive", "tar -xf "),
    "npz": (lambda p: np.savez(p.open("wb"), weight=np.ones(1)), "is an .npz file of arrays", "python -c "),
    "page": (lambda p: p.write_text("<!DOCTYPE html>"), "is a web page", "fetch it again"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_files_of_other_kinds_are_named(tmp_path: Path, name: str) -> None:
    write, fact, fix = KINDS[name]
    path = tmp_path / "net.pt"
    write(path)
    error = refused(nn.Linear(3, 2), path)
    assert fact in error.fact
    assert error.fix.startswith(fix)


def typed(fix: str) -> Path:
    """Run the command that is advised; the file that is to be given then."""
    command, then = fix[fix.index("python -c ") :].split(", then ")
    python, *arguments = shlex.split(command)
    assert python == "python"
    subprocess.run([sys.executable, *arguments], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    (override,) = shlex.split(then.partition("; or ")[0])
    return Path(override.partition("=")[2].removeprefix('"').removesuffix('"'))


@pytest.mark.filterwarnings("ignore")
def test_the_weights_of_a_script_are_taken_out_as_advised(tmp_path: Path) -> None:
    path = tmp_path / "it's=a net.pt"
    scripted(path)
    (tmp_path / "it's=a net.safetensors").touch()  # nothing is written over
    made = typed(refused(nn.Linear(3, 2), path).fix)
    assert made == tmp_path / "it's=a net-2.safetensors"
    assert load_checkpoint(nn.Linear(3, 2), made)["loaded"] == 2


def test_a_whole_module_is_converted_as_advised(tmp_path: Path) -> None:
    net, loaded = Tied(), Tied()
    error = refused(loaded, saved(tmp_path / "net.pt", net))
    assert "is a pickle that would run code on loading (it imports tests.modules.test_checkpoint.Tied)" in error.fact
    load_checkpoint(loaded, typed(error.fix))
    assert same(loaded, net)


def test_weights_under_another_ending_are_read_by_content(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    save_file(net.state_dict(), tmp_path / "net.pt")
    saved(tmp_path / "net.safetensors", net.state_dict())
    for name in ("net.pt", "net.safetensors"):
        loaded = nn.Linear(3, 2)
        load_checkpoint(loaded, tmp_path / name)
        assert same(loaded, net)


@pytest.mark.parametrize("size", [9, 1 << 20, 1 << 40])
def test_a_header_longer_than_the_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + b"{")
    assert "is not a readable safetensors file (9 bytes)" in refused(nn.Linear(3, 2), path).fact


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    assert refused(nn.Linear(3, 2), tmp_path / "pipe.pt").fact.endswith("is no regular file")
    with pytest.raises(OSError, match="is no regular file"):
        file_sha256(tmp_path / "pipe.pt")
