"""What `task=doctor` says of tools: from the metadata of a distribution, the configuration and backends alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from autovoice.backends.tensorrt.versions import RTX, TENSORRT
from autovoice.backends.tensorrt.versions import Tool as VersionedTool
from autovoice.command import requirements
from autovoice.command.requirements import Tool, tools
from autovoice.spec import Backend

REQUIRES = [
    "numpy>=1.26",
    "torch==2.13.0",
    "hydra-core<1.4",
    "engine-maker>=2; extra == 'maker'",
    "driver-python<14,>=12.9; extra == 'maker'",
    'bells>=1; extra == "sound"',
    "engine-maker>=2; extra == 'dev'",
    "driver-python; extra == 'dev'",
    "pytest>=8; extra == 'dev'",
]
THERE = {"numpy": "2.0", "torch": "2.13.0", "driver-core": "13.0"}
MAKER = Backend("maker", "", (), needs={"engine-maker": (), "driver-python": ("driver-core",)})


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(requirements, "tool_version", lambda name: THERE.get(name, "absent"))


def test_what_autovoice_itself_requires() -> None:
    assert tools({}, []) == [
        Tool("numpy", "2.0", "inputs, reference, reference_onnx, …", "pip install autovoice"),
        Tool("torch", "2.13.0", "export, reference", "pip install autovoice"),
        Tool("hydra-core", "", "autovoice itself", "pip install autovoice"),
    ]


def test_an_extra_is_for_what_the_configuration_says() -> None:
    assert tools({"sound": "task=ring"}, [])[3:] == [Tool("bells", "", "task=ring", "pip install 'autovoice[sound]'")]


def test_a_backend_is_added_by_the_least_extra_that_has_all_it_needs() -> None:
    assert tools({}, [MAKER])[3:] == [
        Tool("engine-maker", "", "backend=maker", "pip install 'autovoice[maker]'"),
        Tool("driver-python", "13.0", "backend=maker", "pip install 'autovoice[maker]'"),
    ]


def test_what_no_extra_has_is_added_by_its_own_name() -> None:
    own = Backend("own", "", (), needs={"own-tool": ()})
    assert tools({}, [own])[3:] == [Tool("own-tool", "", "backend=own", "pip install own-tool")]


def test_what_several_need_stands_there_once() -> None:
    torch = Backend("torch", "", (), needs={"torch": ()})
    assert tools({}, [torch, torch])[1] == Tool(
        "torch", "2.13.0", "export, reference, backend=torch", "pip install autovoice"
    )


@pytest.mark.parametrize("tool", [TENSORRT, RTX], ids=lambda t: t.name)
def test_a_backends_file_names_every_distribution_that_its_code_looks_for(tool: VersionedTool) -> None:
    file = Path(__file__).parents[2] / "conf" / "backend" / f"{tool.name}.yaml"
    needs = yaml.safe_load(file.read_text())["needs"]
    assert any({name, *others} == set(tool.distributions) for name, others in needs.items())
