"""What is refused when a build is planned, with what to use instead; versions are numbers, never text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from packaging.version import Version

from autovoice.backends.tensorrt import environment
from autovoice.backends.tensorrt.options import build_options, session_options
from autovoice.backends.tensorrt.versions import RTX, TENSORRT, check_supported, features, installed
from autovoice.errors import BuildError
from autovoice.machine.gpus import Gpu
from autovoice.spec import RUNS_HERE, Backend

H200 = Gpu("NVIDIA H200", "9.0", 140 << 30, "GPU-1")
TURING = Gpu("NVIDIA T4", "7.5", 16 << 30, "GPU-2")


def backend(**options: Any) -> Backend:
    return Backend("b", "autovoice.backends.tensorrt.backend.TensorRT", ("float32",), options)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Any:
    def be(version: str = "10.6.0", *gpus: Gpu) -> None:
        monkeypatch.setattr(environment, "installed", lambda tool: Version(version))
        monkeypatch.setattr(environment, "gpus", lambda: gpus)
        monkeypatch.setattr(environment, "why_none", lambda: "there is no NVIDIA driver")

    return be


def test_version_and_gpu_are_what_an_engine_depends_on(here: Any) -> None:
    here("10.6.0", H200)
    assert environment.tensorrt(backend(), "float16") == {
        "tensorrt": "10.6.0",
        "gpu": "NVIDIA H200",
        "compute_capability": "9.0",
        "implicit_int8": True,
    }
    here("11.1.0", H200)
    assert environment.tensorrt(backend(), "float16")["implicit_int8"] is False


@pytest.mark.parametrize(
    ("gpu", "precision", "fact"),
    [
        (TURING, "bfloat16", "bfloat16 needs compute capability 8.0, NVIDIA T4 has 7.5"),
        (TURING, "float8", "float8 needs compute capability 8.9, NVIDIA T4 has 7.5"),
        (TURING, "tfloat32", "tfloat32 needs compute capability 8.0, NVIDIA T4 has 7.5"),
    ],
)
def test_types_that_a_gpu_cannot_compute(here: Any, gpu: Gpu, precision: str, fact: str) -> None:
    here("10.6.0", gpu)
    with pytest.raises(BuildError) as raised:
        environment.tensorrt(backend(), precision)
    assert raised.value.fact == fact
    assert "precision=fp16" in raised.value.fix


def test_without_a_gpu_tensorrt_says_what_can_be_used_instead(here: Any) -> None:
    here("10.6.0")
    with pytest.raises(BuildError) as raised:
        environment.tensorrt(backend(), "float16")
    assert "there is no NVIDIA driver" in raised.value.fact
    assert "backend=onnxruntime" in raised.value.fix


def test_ahead_of_time_engines_run_here_or_not(here: Any) -> None:
    here("1.7.1")
    named = backend(compute_capabilities=["7.5", "8.9"])
    assert environment.tensorrt_rtx(named, "float16")[RUNS_HERE] is False
    here("1.7.1", TURING)
    assert environment.tensorrt_rtx(named, "float16")[RUNS_HERE] is True
    assert environment.tensorrt_rtx(backend(), "float16")["compute_capabilities"] == ["7.5"]
    here("1.7.1", H200)
    with pytest.raises(BuildError, match=r"has no compute capability 9\.0"):
        environment.tensorrt_rtx(backend(), "float16")


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "10.5.0", "12.0.0"])
def test_versions_outside_the_range_are_refused_with_the_range(version: str) -> None:
    with pytest.raises(BuildError) as raised:
        check_supported(TENSORRT, Version(version))
    assert raised.value.fact == f"tensorrt {version} is not supported"
    assert "10.6 ≤ version < 12" in raised.value.fix


@pytest.mark.parametrize("version", ["10.6.0", "10.15.1.29", "11.0.0"])
def test_versions_inside_the_range(version: str) -> None:
    """As text, 10.15 would come before 10.6."""
    check_supported(TENSORRT, Version(version))


def test_what_each_version_has() -> None:
    old, new, rtx = (
        features(tool, Version(v)) for tool, v in ((TENSORRT, "10.15.1"), (TENSORRT, "11.0.0"), (RTX, "1.7.1"))
    )
    assert (old.implicit_int8, new.implicit_int8, rtx.implicit_int8) == (True, False, False)
    assert (old.strongly_typed_flag, new.strongly_typed_flag, rtx.strongly_typed_flag) == (True, False, True)
    assert (old.timing_cache, new.timing_cache, rtx.timing_cache) == (True, True, False)
    assert (old.ahead_of_time, new.ahead_of_time, rtx.ahead_of_time) == (False, False, True)


def test_an_absent_tool_names_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("autovoice.backends.tensorrt.versions.version", none)
    with pytest.raises(BuildError) as raised:
        installed(TENSORRT)
    assert raised.value.fix.startswith("pip install 'autovoice[tensorrt]'")


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"workspace": 1}, "backend.options: unknown key 'workspace'"),
        ({"workspace_mb": 0}, "backend.options.workspace_mb: 0"),
        ({"workspace_mb": "512"}, "backend.options.workspace_mb: '512'"),
        ({"workspace_mb": True}, "backend.options.workspace_mb: True"),
        ({"builder_optimization_level": 6}, "backend.options.builder_optimization_level: 6"),
        ({"hardware_compatibility": "ampere"}, "backend.options.hardware_compatibility: 'ampere'"),
        ({"timing_cache": 1}, "backend.options.timing_cache: 1"),
        ({"compute_capabilities": 8.9}, "backend.options.compute_capabilities: 8.9"),
        ({"compute_capabilities": None}, "backend.options.compute_capabilities: None"),
        ({"compute_capabilities": "8.9"}, "backend.options.compute_capabilities: '8.9'"),
        ({"avg_timing_iterations": 0}, "backend.options: avg_timing_iterations 0, max_aux_streams -1"),
    ],
)
def test_wrong_options(options: dict[str, Any], fact: str) -> None:
    with pytest.raises(BuildError) as raised:
        build_options(options)
    assert raised.value.fact == fact
    assert raised.value.fix


def test_a_list_that_is_none_is_told_with_an_example() -> None:
    with pytest.raises(BuildError, match=r"8\.9\n  a list, as \['8\.9'\]"):
        build_options({"compute_capabilities": 8.9})
    assert build_options({"compute_capabilities": [8.9, "8.9", "7.5"]}).compute_capabilities == ("8.9", "7.5")


@pytest.mark.parametrize(
    ("session", "said"),
    [
        ({"cuda_graphs": "maybe"}, "backend.session.cuda_graphs: 'maybe'\n  true or false"),
        ({"max_cuda_graphs": 0}, "backend.session.max_cuda_graphs: 0\n"),
        ({"cuda_graph": True}, "backend.session: unknown key 'cuda_graph'\n  did you mean 'cuda_graphs'?"),
    ],
)
def test_a_session_is_checked_while_a_build_is_planned(session: dict[str, Any], said: str) -> None:
    for ask in (environment.tensorrt, environment.tensorrt_rtx):
        with pytest.raises(BuildError) as raised:
            ask(replace(backend(), session=session), "float16")
        assert str(raised.value).startswith(said)


@pytest.mark.parametrize(("said", "meant"), [("89", "8.9"), ("sm_120", "12.0"), ("12", "12.0"), ("SM75", "7.5")])
def test_a_capability_in_another_notation(here: Any, said: str, meant: str) -> None:
    here()
    with pytest.raises(
        BuildError, match=rf"no compute capability {said}\n  did you mean '{meant}'\? it builds for 7\.5"
    ):
        environment.tensorrt_rtx(backend(compute_capabilities=[said]), "float32")


def test_a_type_that_a_target_lacks_names_those_that_have_it(here: Any) -> None:
    here()
    with pytest.raises(BuildError) as raised:
        environment.tensorrt_rtx(backend(compute_capabilities=["7.5", "8.9"]), "float8")
    assert str(raised.value) == (
        "float8 needs compute capability 8.9, the target has 7.5\n"
        '  backend.options.compute_capabilities=\'["8.9", "12.0", "12.1"]\' are those that have it; or precision=fp16'
    )


def test_session_options() -> None:
    assert session_options({"workspace_mb": 1, "max_cuda_graphs": 3}).max_cuda_graphs == 3
    with pytest.raises(BuildError, match="max_cuda_graphs: 0"):
        session_options({"max_cuda_graphs": 0})
