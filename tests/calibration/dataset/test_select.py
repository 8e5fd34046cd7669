from __future__ import annotations

import math

import numpy as np
import pytest

from autovoice.calibration.dataset.select import (
    cover,
    coverage_of,
    features_of,
    place,
    places_of,
    quotas,
    random,
    standardised,
)

FRAMES = {"min": 16, "opt": 256, "max": 1024, "formula": None}
#: (size, centre) of three clusters: most candidates look alike, as recordings of one voice do
CLUSTERS = ((180, 0.0), (15, 8.0), (5, -8.0))


def lopsided(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(places, features, which cluster) of 200 candidates."""
    rng = np.random.default_rng(seed)
    which = rng.permutation(np.repeat(np.arange(3), [size for size, _ in CLUSTERS]))
    centres = np.array([[centre, 0.0, 0.0] for _, centre in CLUSTERS])
    return rng.random(200), centres[which] + rng.standard_normal((200, 3)) * 0.3, which


def radius(features: np.ndarray, chosen: list[int]) -> float:
    """How far the worst served candidate is from the nearest chosen one."""
    points = standardised(features)
    return float(np.linalg.norm(points[:, None] - points[None, chosen], axis=2).min(axis=1).max())


@pytest.mark.parametrize("seed", range(5))
def test_coverage_reaches_every_cluster_and_every_tenth_of_the_lengths(seed: int) -> None:
    places, features, which = lopsided(seed)
    chosen = cover(places, features, 20, seed)
    assert len(set(chosen)) == 20
    assert set(which[chosen]) == {0, 1, 2}
    assert np.bincount((places[chosen] * 10).astype(int), minlength=10).tolist() == [2] * 10


@pytest.mark.parametrize("seed", range(5))
def test_coverage_leaves_less_unserved_than_chance(seed: int) -> None:
    places, features, _ = lopsided(seed)
    by_chance = [radius(features, random(200, 20, s)) for s in range(20)]
    assert radius(features, cover(places, features, 20, seed)) < min(by_chance)


def test_coverage_takes_the_longest_and_the_shortest() -> None:
    places, features, _ = lopsided()
    assert cover(places, features, 1, 0) == [int(places.argmax())]
    assert set(cover(places, features, 2, 0)) == {int(places.argmin()), int(places.argmax())}


def test_the_same_seed_chooses_the_same() -> None:
    places, features, _ = lopsided()
    assert cover(places, features, 20, 7) == cover(places, features, 20, 7)
    assert random(200, 20, 7) == random(200, 20, 7) != random(200, 20, 8)


def test_the_seed_decides_among_equals() -> None:
    same = np.zeros(50), np.ones((50, 4))
    assert cover(*same, 5, 0) != cover(*same, 5, 1)


@pytest.mark.parametrize("wanted", [1, 2, 3, 9, 10, 11, 199, 200, 500])
def test_any_number_is_given_once_each_and_in_order(wanted: int) -> None:
    places, features, _ = lopsided()
    for chosen in (cover(places, features, wanted, 0), random(200, wanted, 0)):
        assert chosen == sorted(set(chosen))
        assert len(chosen) == min(wanted, 200)


def test_one_length_alone_still_spreads_activations() -> None:
    _, features, which = lopsided()
    assert set(which[cover(np.zeros(200), features, 4, 0)]) == {0, 1, 2}


@pytest.mark.parametrize(
    ("available", "wanted", "given"),
    [
        ([5, 5, 5], 6, [2, 2, 2]),
        ([5, 5, 5], 7, [2, 2, 3]),  # what is left goes to the longest
        ([1, 9, 0], 6, [1, 5, 0]),
        ([0, 1, 1], 2, [0, 1, 1]),
    ],
)
def test_strata_share_equally_what_they_have(available: list[int], wanted: int, given: list[int]) -> None:
    assert quotas(np.array(available), wanted).tolist() == given


def test_constant_features_say_nothing() -> None:
    rng = np.random.default_rng(0)
    features = np.stack([np.full(9, 16000.0) + rng.random(9) * 1e-9, rng.random(9) * 1e-9, np.zeros(9)], axis=1)
    scaled = standardised(features)
    assert not scaled[:, [0, 2]].any()  # 1e-9 of 16000 is rounding
    assert scaled[:, 1].std() == pytest.approx(1)  # and alone it is a small number


def test_features_of_a_tensor() -> None:
    assert features_of(np.array([[-3, -1], [1, 3]], np.int32))[:3] == [0, math.sqrt(5), 3]
    assert features_of(np.array([True, False]))[:3] == [0.5, 0.5, 1]
    assert features_of(np.linspace(0, 1, 101, dtype=np.float32))[3:] == pytest.approx([0.01, 0.25, 0.5, 0.75, 0.99])


def test_places_are_logarithmic() -> None:
    assert [place(n, FRAMES) for n in (16, 128, 1024)] == pytest.approx([0, 0.5, 1])
    assert place(16, FRAMES | {"max": 16}) == 0


def test_places_follow_free_dims_that_differ() -> None:
    dims = {"frames": FRAMES, "batch": FRAMES | {"min": 1, "max": 2}, "half": FRAMES | {"formula": "frames//2"}}
    sizes = [{"frames": n, "batch": 1, "half": n // 2} for n in (32, 128, 512)]
    assert places_of(sizes, dims) == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    assert places_of(sizes[:1] * 3, dims).tolist() == [0, 0, 0]


def test_coverage_of_a_profile() -> None:
    dims = {"frames": FRAMES, "batch": FRAMES | {"min": 1, "opt": 1, "max": 1}}
    found = coverage_of([{"frames": n, "batch": 1} for n in (512, 32, 64)], dims)
    assert found["frames"] == {
        "seen": [32, 512],
        "profile": [16, 1024],
        "opt": 256,
        "covered": round(4 / 6, 3),
        "counts": [0, 1, 0, 1, 0, 0, 0, 0, 1, 0],
    }
    assert (found["batch"]["covered"], found["batch"]["counts"][0]) == (1.0, 3)
