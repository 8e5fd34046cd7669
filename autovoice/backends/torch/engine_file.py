"""The engine file: a module's state as safetensors, and how to make the module again, as JSON in its metadata.

No pickle: loading makes the module by its constructor (which also makes the buffers that are not part of the state)
and copies the tensors in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from autovoice.backends.engine import Engine
from autovoice.backends.torch.allowed_targets import check_model
from autovoice.backends.torch.record import KEY, Record, read_record
from autovoice.errors import ArtefactError, BuildError, ExportError, nearest
from autovoice.modules.loading import load_module

if TYPE_CHECKING:
    from autovoice.spec.fields import ModuleField

#: layers whose weights are held in the compute type; everything else adapts to what flows through it
HEAVY_LAYERS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def write_engine(path: Path, module: nn.Module, record: Record) -> dict[str, Tensor]:
    """Write state and record; the state as written. Raises BuildError for state that is not tensors."""
    state = {}
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise BuildError(
                f"{record.target} keeps a {type(value).__name__} in its state, as '{name}'",
                "a torch engine stores tensors alone: keep it out of get_extra_state()",
            )
        state[name] = value.detach().clone().contiguous()  # tied weights share memory, which the format refuses
    save_file(state, path, {KEY: json.dumps(asdict(record))})
    return state


def read_engine(engine: Engine) -> tuple[nn.Module, Record]:
    """The module with its weights, on the CPU, in eval mode. Raises ArtefactError."""
    record, state = read_record(engine), _state(engine)
    check_model(record.model, ArtefactError)
    module = module_of(record)
    in_dtype(module, record.dtype)
    _check_fits(engine, record, state, module.state_dict())
    module.load_state_dict(state)
    return module, record


def module_of(record: Record) -> nn.Module:
    """The module as its constructor makes it, weight norm folded; random numbers of the process stay as they were."""
    made: ModuleField = {"model": record.model, "checkpoint": None, "seed": record.seed}
    with torch.random.fork_rng(devices=[]):
        try:
            module, _ = load_module(made, record.inputs, {})
        except ExportError as e:
            fix = "a torch engine needs the model's code as it was when built: use that version, or build it again"
            raise ArtefactError(e.fact, fix) from e
    return cast(nn.Module, module)


def in_dtype(module: nn.Module, dtype: str) -> None:
    """Hold the weights of convolutions and linear layers in `dtype`, in place."""
    for layer in module.modules():
        if dtype == "float16" and isinstance(layer, HEAVY_LAYERS):
            layer.half()


def _state(engine: Engine) -> dict[str, Tensor]:
    try:
        with safe_open(os.fspath(engine), "pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise ArtefactError(f"{engine}: is not a torch engine that can be read: {e}", "build it again") from e


def _check_fits(engine: Engine, record: Record, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    fix = "the model's code is another one than when it was built: use that version, or build it again"
    where = f"{engine.name} does not fit {record.target}"
    for name in wanted:
        if name not in state:
            raise ArtefactError(f"{where}: it has no '{name}'", f"{fix}; {nearest(name, state)}")
        if state[name].shape != wanted[name].shape:
            shapes = f"{list(state[name].shape)} in the file, {list(wanted[name].shape)} in the module"
            raise ArtefactError(f"{where}: '{name}' is {shapes}", fix)
    for name in state:
        if name not in wanted:
            raise ArtefactError(f"{where}: the module has no '{name}'", f"{fix}; {nearest(name, wanted)}")
