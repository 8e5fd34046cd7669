"""The command that uses a file of the group `experiment`, for wherever the file lies."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from autovoice.config.compose import compose, user_tree
from autovoice.config.experiment import usage
from tests.builders import write_tree

FOUND = "# @package _global_\nworkers: 7\n"
PIPELINE = "# @package _global_\npipeline: {name: mine}\nkeep_going: true\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tree(tmp_path, {"conf/pipeline/mine.yaml": PIPELINE, "else/where/x.txt": ""})


def typed(command: str) -> list[str]:
    """What stands behind `autovoice` once everything before has run."""
    before, _, arguments = command.rpartition("autovoice ")
    subprocess.run(["sh", "-c", before.removesuffix("&& ") or ":"], check=True)
    return shlex.split(arguments)


@pytest.mark.parametrize(
    "file",
    ["conf/experiment/found.yaml", "found.yaml", "else/where/found.yaml", "else/experiment/found.yaml", "a b=c.yaml"],
)
@pytest.mark.parametrize("own", [True, False], ids=["own_tree", "no_tree"])
def test_the_command_finds_the_file(here: Path, file: str, own: bool) -> None:
    write_tree(here, {file: FOUND})
    given = ("pipeline=mine",) if own else ()
    tree = Path("conf") if own else None
    compose(tree, given)
    overrides = [
        *given,
        "targets=[c]",
        f"output={file}",
        "task=search",
        "seed=5",
        "dims.batch.max=3" if not own else "+a=1",
    ]
    option, folder, *arguments = typed(usage(Path(file), user_tree(), overrides))
    assert option == "--config-dir"
    data = compose(Path(folder), arguments).data
    assert (data["workers"], data["task"], data["targets"]) == (7, "build", [])
    assert data["keep_going"] == own  # the pipeline is found beside it
    assert data["a"] == 1 if own else data["dims"]["batch"]["max"] == 3


def test_what_was_found_stands_on_other_experiments(here: Path) -> None:
    write_tree(here, {"conf/experiment/found.yaml": FOUND, "conf/experiment/first.yaml": "# @package _global_\nb: 2\n"})
    command = usage(Path("conf/experiment/found.yaml"), Path("conf"), ["pipeline=mine", "experiment=first"])
    assert command == "autovoice --config-dir conf pipeline=mine experiment='[first, found]'"
    data = compose(Path("conf"), typed(command)[2:]).data
    assert (data["b"], data["workers"]) == (2, 7)


def test_again_over_itself(here: Path) -> None:
    file = Path("conf/experiment/found.yaml")
    assert usage(file, Path("conf"), ["experiment=found"]) == "autovoice --config-dir conf experiment=found"
