"""The sizes at which everything is compared, and the npz files between steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from autovoice.spec import POINTS as PROFILE
from autovoice.spec.ports import SentPort, roles, sent
from autovoice.store.npz import read_npz, write_npz

POINTS = (*PROFILE, "between")


def save_point(folder: Path, point: str, arrays: Mapping[str, np.ndarray]) -> None:
    with open(folder / f"{point}.npz", "wb") as file:
        write_npz(file, arrays)


def load_point(folder: Path, point: str) -> dict[str, np.ndarray]:
    return read_npz(folder / f"{point}.npz")


def feeds_at(point: str, reads: Mapping[str, SentPort], needs: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """A component's inputs by its own names, from what its producers' references sent."""
    return sent(reads, {role: load_point(needs[role], point) for role in roles(reads)})
