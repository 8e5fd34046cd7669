"""A CUDA that is not there, for every test of this folder that asks for one."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.tensorrt.calibrating import Build, Calibrating
from tests.fakes.cuda import FakeCuda, installed


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    """Nothing may have gone wrong on it, and everything be given back."""
    with installed(FakeCuda()) as fake:
        yield fake
        if fake.leaks:  # an error that was caught holds what its frames held
            gc.collect()
        assert fake.faults == []
        assert fake.leaks == {}


@pytest.fixture
def build(cuda: FakeCuda, tmp_path: Path) -> Build:
    return Build(Calibrating(cuda), tmp_path)
