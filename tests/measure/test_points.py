from __future__ import annotations

from pathlib import Path

import numpy as np

from autovoice.measure.points import POINTS, feeds_at, load_point, save_point
from tests.builders import sent


def test_the_profiles_points_and_one_between() -> None:
    assert POINTS == ("min", "opt", "max", "between")


def test_feeds_by_own_names_from_whoever_sends_them(tmp_path: Path) -> None:
    for name, wire in (("inputs", "f0"), ("encoder", "features")):
        (tmp_path / name).mkdir()
        save_point(tmp_path / name, "opt", {wire: np.full(2, len(name)), "other": np.zeros(1)})
    assert load_point(tmp_path / "inputs", "opt").keys() == {"f0", "other"}
    reads = {"pitch": sent("inputs", "f0"), "x": sent("reference:encoder", "features")}
    needs = {"inputs": tmp_path / "inputs", "reference:encoder": tmp_path / "encoder"}
    assert {n: v.tolist() for n, v in feeds_at("opt", reads, needs).items()} == {"pitch": [6, 6], "x": [7, 7]}
