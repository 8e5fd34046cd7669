"""The command line as a user has it: a project of their own, outside this repository, built by YAML alone.

`tests/toy` is that project: the package `chime` (token ids to a signal), the package `faulty` (modules that are
wrong), and their configuration. It is copied away before use, so that no test writes into the repository.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.campaigns.interrupts import heeds_interrupts
from tests.warm import warm

TOY = Path(__file__).parent / "toy"
#: every test that builds keeps gigabytes of libraries in memory
MOST_WORKERS = 4
#: what the store remembers to be quick, and does without
MEMORY = ("hashes.json", "imports.json")
CHIME = ("--config-dir", "conf", "pipeline=chime")


@dataclass(frozen=True)
class Result:
    """What one command said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Project:
    """A folder to run `python -m autovoice` in, its own package on PYTHONPATH."""

    root: Path
    given: tuple[str, ...] = CHIME

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def store(self) -> Path:
        return self.outputs / "store"

    @property
    def folder(self) -> Path:
        """Where a plain build of the toy pipeline stands."""
        return self.outputs / "chime" / "onnxruntime-fp32"

    @property
    def manifest(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / "manifest.json").read_bytes())
        return data

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.root / "src"), "TOY": str(self.root)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command, running, in a process group of its own as from a terminal."""
        command = [sys.executable, "-m", "autovoice", *self.given, *arguments]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=heeds_interrupts,
        )

    def run(self, *arguments: str, timeout: float = 300) -> Result:
        """The command, to its end: forked from a process that has imported everything (`tests/warm.py`)."""
        return Result(*warm().run([*self.given, *arguments], self.root, self.environment, timeout))

    def ok(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        result = self.run(*arguments)
        assert result.code == 0, result.err or result.out
        return result.out

    def fails(self, *arguments: str) -> str:
        """The message of a command that fails as a user's mistake does: exit code 1, two lines a fact, no more."""
        result = self.run(*arguments)
        assert result.code == 1, result.err or result.out
        assert "Traceback" not in result.out + result.err
        assert self.half_written() == []
        return result.err

    def plan(self, *arguments: str) -> dict[str, tuple[str, str]]:
        """`task=plan` as {step: (run or reuse, why)}."""
        return parsed_plan(self.ok("task=plan", *arguments))

    def python(self, code: str) -> str:
        """What a program prints in a new interpreter, in this folder."""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.root, env=self.environment, text=True, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # -- what is on the disk ----------------------------------------------------------------------

    def records(self) -> list[dict[str, Any]]:
        """Every record in the store."""
        return [json.loads(p.read_bytes()) for p in sorted(self.store.glob("objects/*/*/record.json"))]

    def exports(self) -> Counter[str]:
        """How many exported graphs the store holds, by the class they were made from."""
        made = (r["inputs"]["fields"] for r in self.records() if r["inputs"]["kind"] == "export")
        return Counter(fields["model"]["target"].rpartition(".")[2] for fields in made)

    def runs(self) -> Counter[str]:
        """How often each step has run, by its logs."""
        return Counter(p.name.split("-")[0] for p in (self.store / "logs").glob("*.log"))

    def artefact(self, step: str) -> Path:
        """The folder in the store of a step of the plain build."""
        key = self.manifest["steps"][step]
        return self.store / "objects" / key[:2] / key

    def half_written(self) -> list[str]:
        """What an interrupted or failed command may not leave behind."""
        tmp = self.store / "tmp"
        parts = [p for p in self.outputs.rglob(".*") if p.name != ".gitkeep"] if self.outputs.is_dir() else []
        left = [*(tmp.iterdir() if tmp.is_dir() else ()), *parts]
        left += [p for p in self.store.glob("objects/*/*") if not (p / "record.json").is_file()]
        return [str(p.relative_to(self.root)) for p in left]

    def files(self) -> dict[str, bytes]:
        """Content of everything under outputs but what is only memory."""
        paths = (p for p in self.outputs.rglob("*") if p.is_file() and p.name not in MEMORY)
        return {str(p.relative_to(self.outputs)): p.read_bytes() for p in paths}

    def pipeline(self, name: str, components: Mapping[str, Any], inputs: Mapping[str, Any]) -> Project:
        """This project at another pipeline, written as YAML: JSON is YAML too."""
        data = {"defaults": [{"/dims": "chime"}], "pipeline": {"name": name, "inputs": inputs}, "component": components}
        file = self.root / "conf" / "pipeline" / f"{name}.yaml"
        file.write_text(f"# @package _global_\n{json.dumps(data, indent=1)}\n")
        return replace(self, given=("--config-dir", "conf", f"pipeline={name}"))

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


@pytest.fixture(autouse=True, scope="session")
def _locks_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Steps that time something want the machine for themselves: that of this test process, not of its neighbours."""
    os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("locks"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`."""
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


def parsed_plan(text: str) -> dict[str, tuple[str, str]]:
    """Lines such as ` synth  lower, build  run  needs export`; a component's name stands on its first line only."""
    steps: dict[str, tuple[str, str]] = {}
    component = ""
    for line in text.splitlines():
        if m := re.fullmatch(r" (\w*) +(\w+(?:, \w+)*) +(run|reuse) +(\S.*)", line):
            component = m[1] or component
            for step in m[2].split(", "):
                steps[step if component == "pipeline" else f"{component}.{step}"] = (m[3], m[4])
    return steps


def write_limiter(
    path: Path, op: str = "Tanh", rows: str | int | None = "rows", columns: str | None = "columns"
) -> None:
    """An ONNX file as another tool leaves it: axes under its own names, or None for no name."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [rows, columns]) for n in "xy")
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], "squash")], "limiter", [x], [y])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def make_project(root: Path) -> Project:
    shutil.copytree(TOY, root, ignore=shutil.ignore_patterns("__pycache__"))
    write_limiter(root / "weights" / "limiter.onnx")
    return Project(root)


def copied(project: Project, root: Path) -> Project:
    """A copy to damage: own files, with times kept and hard links among them as they were."""
    subprocess.run(["cp", "-a", str(project.root), str(root)], check=True)
    return Project(root)


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project, built once for all tests. Never use it but to copy it or to read from it."""
    project = make_project(tmp_path_factory.mktemp("toy") / "project")
    said = project.run()
    assert said.code == 0, said.err
    (project.root / "first_build.txt").write_text(said.out)
    return project


@pytest.fixture(scope="module")
def toy_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The toy project as cloned, for all tests of a file that look at one build."""
    return make_project(tmp_path_factory.mktemp("toy") / "project")


@pytest.fixture
def fresh(tmp_path: Path) -> Project:
    """The toy project as cloned: nothing built."""
    return make_project(tmp_path / "project")


@pytest.fixture
def toy(master: Project, tmp_path: Path) -> Project:
    """The toy project, built, to do with as a test likes."""
    return copied(master, tmp_path / "project")


@pytest.fixture
def feeds() -> Callable[..., dict[str, np.ndarray]]:
    """feeds(length, n): seeded inputs of the toy pipeline."""

    def make(length: int = 5, n: int = 1) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(length)
        return {
            "tokens": rng.integers(0, 32, (n, length)),
            "present": rng.random((n, length)) < 0.8,
            "gains": rng.standard_normal((n, 8), dtype=np.float32),
        }

    return make


@pytest.fixture(scope="session")
def read_plan() -> Callable[[str], dict[str, tuple[str, str]]]:
    return parsed_plan


@pytest.fixture(scope="session")
def limiter() -> Callable[..., None]:
    """limiter(path, op, rows, columns): write the toy's ONNX file."""
    return write_limiter
