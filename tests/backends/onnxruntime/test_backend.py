"""How sessions of ONNX Runtime are set up."""

from __future__ import annotations

from pathlib import Path

import pytest

from autovoice.backends.onnxruntime.backend import OnnxRuntime
from autovoice.spec import WORKER
from tests.conftest import write_limiter


@pytest.fixture
def limiter(tmp_path: Path) -> Path:
    write_limiter(tmp_path / "limiter.onnx")
    return tmp_path / "limiter.onnx"


def entry(path: Path, name: str) -> str | None:
    """What a session was told under this name, None where nothing."""
    options = OnnxRuntime({})._session(path).get_session_options()
    try:
        found: str = options.get_session_config_entry(name)
    except RuntimeError:
        return None
    return found


def test_threads_spin_while_their_engine_runs_and_leave_the_cores_to_the_next(limiter: Path) -> None:
    assert entry(limiter, "session.force_spinning_stop") == "1"
    assert entry(limiter, "session.intra_op.allow_spinning") is None


def test_steps_that_run_side_by_side_do_not_spin(limiter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER, "1")
    assert entry(limiter, "session.intra_op.allow_spinning") == "0"
