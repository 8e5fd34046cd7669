"""Accuracy and precision that were asked for and not delivered fail the build, and nothing is published."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import onnxruntime
import pytest

if TYPE_CHECKING:
    from tests.conftest import Project


def refused(project: Project, *overrides: str) -> str:
    """The message; no folder has come or gone."""
    before = {p.name: p.stat().st_mtime_ns for p in (project.outputs / "chime").iterdir()}
    err = project.fails(*overrides)
    assert {p.name: p.stat().st_mtime_ns for p in (project.outputs / "chime").iterdir()} == before
    return err


def test_a_component_below_its_gate(toy: Project) -> None:
    err = refused(toy, "gate.component.snr_db.fp32=190")
    fact, fix = err.splitlines()[:2]
    assert re.fullmatch(
        r"error: (embedder|synth)\.verify: snr_db 1\d\d\.\d+ of '(features|signal|energy)' at (min|opt|max|between) "
        r"\[[\d, ]+\], the gate asks ≥ 190",
        fact,
    )
    name = fact.removeprefix("error: ").partition(".")[0]
    assert "in float32 the engine computes something else" in fix
    assert "precision=" not in fix  # there is no higher one
    loosened = re.findall(r"or (gate\.component\.snr_db\.fp32=1\d\d)$", fix)
    assert loosened
    assert f"++component.{name}.export.simplify=false" in fix or "not at" in fix
    toy.ok(*loosened, f"targets=[{name}]")


def test_the_whole_pipeline_below_its_gate(toy: Project) -> None:
    err = refused(toy, "gate.end_to_end.snr_db.fp32=190")
    assert re.match(r"error: end_to_end: snr_db 1\d\d\.\d+ of '(limited|energy)' at \w+ \[\d+, \d+\], .* ≥ 190\n", err)
    assert "1 of 1 steps failed; 0 finished and are kept" in err


def test_an_error_above_its_gate(toy: Project) -> None:
    """For max_abs and relative_l2 less is better."""
    err = refused(toy, "+gate.component.max_abs={fp32:1e-12}", "targets=[embedder]")
    assert re.match(
        r"error: embedder\.verify: max_abs \d[\d.e-]+ of 'features' at \w+ \[.*\], the gate asks ≤ 1e-12\n", err
    )
    toy.ok("+gate.component.max_abs={fp32:0.001}", "targets=[embedder]")


def test_a_gate_that_failed_is_tried_again(toy: Project) -> None:
    refused(toy, "gate.end_to_end.snr_db.fp32=190")
    assert toy.plan("gate.end_to_end.snr_db.fp32=190")["end_to_end"] == ("run", "gates.snr_db 50 → 190")
    assert "nothing to do" in toy.ok()


def test_a_file_of_another_precision_than_asked(toy: Project) -> None:
    """A precision that promises float32 and lowers to float16."""
    err = refused(toy, "precision=half", "precision.type=float32", "targets=[embedder]")
    assert err.startswith("error: embedder.build: asked float32, but 1 of 1 heavy nodes are not: ")
    assert "(MatMul) is float16\n  ++component.embedder.keep.nodes=[…] names them, if that is intended\n" in err


def test_a_kept_node_that_does_not_exist(toy: Project) -> None:
    err = refused(toy, "precision=half", "+component.synth.keep.nodes=[node_convolutoin]")
    assert err.startswith(
        "error: synth.lower: keep.nodes: 'node_convolutoin' matches nothing\n  did you mean 'node_convolution'?"
    )


def test_a_kept_operator_that_onnx_does_not_have(toy: Project) -> None:
    err = refused(toy, "precision=half", "+component.synth.keep.op_types=[ConvTranspos]")
    assert err.startswith(
        "error: synth.lower: keep.op_types: ONNX has no operator 'ConvTranspos'\n  did you mean 'ConvTranspose'?"
    )


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime has CUDA"
)
def test_a_provider_that_is_not_here(toy: Project) -> None:
    err = refused(toy, "backend.options.providers=[CUDAExecutionProvider]", "targets=[embedder]")
    assert err.startswith("error: embedder.build: onnxruntime has no CUDAExecutionProvider here\n  available: ")


def test_an_option_of_a_components_own_is_told_by_its_own_path(toy: Project) -> None:
    """While it is planned."""
    own = "component.synth.options.onnxruntime.intra_op_num_threads"
    err = refused(toy, f"+{own}=four", "task=plan")
    assert err == f"error: {own}: 'four'\n  a whole number; 0 takes one per core\n"
