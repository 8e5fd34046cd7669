"""A build that finds something else than it was planned with plans again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from autovoice.command import builds
from autovoice.command.builds import BuildFailed, Built, build
from autovoice.command.invocation import Invocation
from autovoice.config.compose import compose
from autovoice.errors import ConfigError
from autovoice.execution.driver import run_plan
from autovoice.execution.job import run_job
from autovoice.store import hashing

OUTPUT = {"onnx_name": "y", "dtype": "float32", "shape": ["rows", "columns"]}
PIPELINE = {
    "dims": {"rows": {"min": 1, "opt": 2, "max": 3}, "columns": {"min": 1, "opt": 2, "max": 3}},
    "pipeline": {"name": "limit", "inputs": {"x": {"dtype": "float32", "shape": ["rows", "columns"]}}},
    "component": {"limiter": {"onnx": "limiter.onnx", "inputs": {"x": "x"}, "outputs": {"limited": OUTPUT}}},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limiter: Callable[..., None]) -> Path:
    """One ONNX file as a pipeline, in the folder of the command; nothing is known of any file."""
    monkeypatch.chdir(tmp_path)
    for name, empty in {"_KNOWN": {}, "_CHANGED": set(), "_LINKED": {}}.items():
        monkeypatch.setattr(hashing, name, empty)
    limiter(tmp_path / "limiter.onnx")
    (tmp_path / "conf/pipeline").mkdir(parents=True)
    (tmp_path / "conf/pipeline/limit.yaml").write_text(f"# @package _global_\n{json.dumps(PIPELINE)}\n")
    return tmp_path


def invocation(project: Path) -> Invocation:
    composed = compose(project / "conf", ["pipeline=limit", "export.simplify=false"])
    return Invocation(composed.data, composed.overrides, composed.lookup)


def built(project: Path) -> Built:
    one = invocation(project)
    with ThreadPoolExecutor(1) as executor, one.store.in_use():
        return build(one, executor)


def operator(project: Path, made: Built) -> str:
    import onnx

    (node,) = onnx.load(made.folder / "limiter.onnx").graph.node
    return str(node.op_type)


def believed(project: Path, name: str, digest: str) -> None:
    """Have a file be known by another file's digest, as where its times were put back."""
    path = project / name
    hashing._KNOWN[str(path)] = (hashing._identity(path.stat()), digest)


def test_a_digest_that_is_wrong_is_dropped_and_the_build_plans_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    believed(project, "limiter.onnx", "0" * 64)
    made = built(project)
    right = hashing.uncached_sha256(project / "limiter.onnx")
    (limiter,) = made.account.components
    assert limiter.exports["limiter"].inputs["files"] == {"onnx": right}
    assert capsys.readouterr().out.splitlines().count(f" {project}/limiter.onnx: {AGAIN}") == 1
    assert made.account.ran == made.account.steps.keys()
    assert not invocation(project).plan.to_run


AGAIN = "not what was planned with; planned again"


def test_what_was_built_already_is_found_when_it_plans_again(
    project: Path, capsys: pytest.CaptureFixture[str], limiter: Callable[..., None]
) -> None:
    """The digest of the file before in place of this one's: its export is in the store."""
    first = built(project)
    assert operator(project, first) == "Tanh"
    old = hashing.uncached_sha256(project / "limiter.onnx")
    limiter(project / "limiter.onnx", op="Sigmoid")
    believed(project, "limiter.onnx", "0" * 64)
    assert operator(project, built(project)) == "Sigmoid"
    limiter(project / "limiter.onnx", op="Tanh")
    believed(project, "limiter.onnx", "1" * 64)
    again = built(project)
    assert operator(project, again) == "Tanh"
    assert not again.account.ran
    assert old == hashing.uncached_sha256(project / "limiter.onnx")
    assert capsys.readouterr().out.count(AGAIN) == 2


def test_a_file_that_keeps_changing_is_todays_error(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limiter: Callable[..., None]
) -> None:
    plans = changing(monkeypatch, lambda n: limiter(project / "limiter.onnx", op=f"Op{n}"))
    with pytest.raises(BuildFailed) as raised:
        built(project)
    assert len(plans) == 3
    fact, fix, *_ = str(raised.value).splitlines()
    assert fact.startswith("limiter.")
    assert fact.endswith(f"{project}/limiter.onnx changed while it was being read")
    assert "run the same command again" in fix
    assert capsys.readouterr().out.count(AGAIN) == 2


def test_a_file_that_goes_away_meanwhile_is_the_configurations_fault(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing(monkeypatch, lambda n: (project / "limiter.onnx").unlink(missing_ok=True))
    with pytest.raises(ConfigError, match=r"component\.limiter\.onnx"):
        built(project)


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[int], Any]) -> list[int]:
    """Change something each time that a plan was made and is to be run; the list grows with the plans."""
    plans: list[int] = []

    def run(*arguments: Any) -> Any:
        plans.append(len(plans))
        change(len(plans))
        return run_plan(*arguments, run=run_job)

    monkeypatch.setattr(builds, "run_plan", run)
    return plans


def test_with_everything_built_nothing_is_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to the store nor to the folder: both may be another user's, or a read-only disk's."""
    built(project)

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("wrote something")

    one = invocation(project)
    for target in (
        "autovoice.store.switch.make_folder",
        "autovoice.store.artefacts.make_folder",
        "autovoice.store.atomic._locked_part",
    ):
        monkeypatch.setattr(target, refuse)
    with one.store.in_use():
        assert build(one).written == []


def test_a_published_copy_with_a_flipped_bit_and_its_time_put_back_is_restored(project: Path) -> None:
    made = built(project)
    path = made.folder / "limiter.onnx"
    content, times = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert built(project).written == []
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "limiter.onnx" in built(project).written
    assert path.read_bytes() == content
