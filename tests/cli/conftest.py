"""The int8 project, built once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Project, make_project
from tests.tones import NPZ, copied_to, make_tones


@pytest.fixture(scope="session")
def tones_built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """The project, and what its first int8 build said. Only to copy, or to read from."""
    project = make_tones(make_project(tmp_path_factory.mktemp("tones") / "project"))
    return project, project.ok(*NPZ)


@pytest.fixture(scope="session")
def tones(tones_built: tuple[Project, str]) -> Project:
    return tones_built[0]


@pytest.fixture(scope="session")
def first(tones_built: tuple[Project, str]) -> str:
    return tones_built[1]


@pytest.fixture
def built(tones: Project, tmp_path: Path) -> Project:
    """A copy of the project, built in int8."""
    return copied_to(tmp_path / "project", tones)
