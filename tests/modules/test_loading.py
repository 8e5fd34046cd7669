"""What a target may make: modules, in whatever they are wrapped; not what has no Python code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from autovoice.errors import ExportError
from autovoice.modules.loading import load_module, unwrapped

if TYPE_CHECKING:
    from autovoice.spec.fields import ModuleField

SCRIPTED = "export it with torch.onnx.export(module, args, 'model.onnx', dynamo=False), and give onnx: model.onnx"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lin(x)
        return y


class Holder(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.again = part, part
        self.row = nn.Sequential(part)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.part(x)
        return y


def in_parallel() -> nn.Module:
    return nn.DataParallel(nn.DataParallel(Net()))


def scripted() -> nn.Module:
    made: nn.Module = torch.jit.script(Net().eval())
    return made


def holds_scripted() -> nn.Module:
    return Holder(scripted())


def a_script_function() -> Any:
    return torch.jit.trace(lambda x: x + 1, torch.ones(1))


def a_state_dict() -> dict[str, Tensor]:
    return Net().state_dict()


def a_program() -> Any:
    return torch.export.export(Net(), (torch.ones(1, 8),))


def loaded(name: str) -> nn.Module:
    made: ModuleField = {"model": {"target": f"{__name__}.{name}", "kwargs": {}}, "checkpoint": None, "seed": 0}
    return load_module(made, ["x"], {})[0]


class OptimizedModule(nn.Module):
    """As torch.compile makes it, without the seconds that importing the compiler takes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._orig_mod = inner

    def forward(self, *args: Any) -> Any:
        return self._orig_mod(*args)


OptimizedModule.__module__ = "torch._dynamo.eval_frame"


def compiled() -> nn.Module:
    return OptimizedModule(nn.DataParallel(Net()))


@pytest.mark.parametrize("name", ["Net", "in_parallel", "compiled"])
def test_the_module_itself(name: str) -> None:
    module = loaded(name)
    assert type(module) is Net
    assert list(module.state_dict()) == ["lin.weight", "lin.bias"]
    assert not module.training


def test_parts_are_unwrapped_wherever_they_are_held() -> None:
    net = Net()
    module = unwrapped(Holder(OptimizedModule(net)))
    assert isinstance(module, Holder)
    assert module.part is module.again is module.row[0] is net
    assert "part.lin.weight" in module.state_dict()


def test_what_is_compiled_in_place_runs_as_it_is_written() -> None:
    net = Net()
    net._compiled_call_impl = lambda x: x.broken
    assert unwrapped(net)(torch.ones(1, 8)).shape == (1, 8)


def test_a_class_of_ones_own_by_that_name_is_no_wrapper() -> None:
    kind = type("DataParallel", (Net,), {})
    assert type(unwrapped(kind())) is kind


@pytest.mark.parametrize(
    ("name", "fact", "fix"),
    [
        ("scripted", "what {} made is TorchScript, which has no Python code to export", SCRIPTED),
        ("holds_scripted", "'part' of {} is TorchScript, which has no Python code to export", SCRIPTED),
        ("a_script_function", "{} made a ScriptFunction, not a torch.nn.Module", SCRIPTED),
        (
            "a_state_dict",
            "{} made a OrderedDict, not a torch.nn.Module",
            "weights are given as `checkpoint:` beside it",
        ),
        ("a_program", "{} made a ExportedProgram, not a torch.nn.Module", "what torch.onnx.export makes of it"),
    ],
)
def test_what_is_no_module(name: str, fact: str, fix: str) -> None:
    with pytest.raises(ExportError) as e:
        loaded(name)
    assert e.value.fact == fact.format(f"{__name__}.{name}")
    assert e.value.fix.endswith(fix)
