"""One vector a row, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from autovoice.models.pooling import MaskedMean

MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 0], [1, 1, 1, 1, 1]])
HIDDEN = np.random.default_rng(0).standard_normal((3, 5, 7), dtype=np.float32)


def pooled(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return MaskedMean()(torch.from_numpy(hidden), torch.from_numpy(mask)).numpy()


def by_hand(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    means = np.stack([row[counts].mean(0) for row, counts in zip(hidden.astype(np.float64), mask != 0, strict=True)])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", ["int64", "int32", "bool", "float32", "float64"])
def test_positions_that_count_are_averaged(dtype: str) -> None:
    got = pooled(HIDDEN, MASK.astype(dtype))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, by_hand(HIDDEN, MASK), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("mask", [MASK * 7, MASK * -1, MASK * 0.25], ids=["7", "-1", "0.25"])
def test_anything_but_zero_counts_once(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(pooled(HIDDEN, mask), pooled(HIDDEN, MASK))


def test_what_is_masked_changes_nothing() -> None:
    changed = HIDDEN.copy()
    changed[MASK == 0] = 1e6
    np.testing.assert_array_equal(pooled(changed, MASK), pooled(HIDDEN, MASK))


def test_a_position_more_changes_something() -> None:
    more = MASK.copy()
    more[0, 3] = 1
    assert np.abs(pooled(HIDDEN, more)[0] - pooled(HIDDEN, MASK)[0]).max() > 1e-3
    np.testing.assert_array_equal(pooled(HIDDEN, more)[1:], pooled(HIDDEN, MASK)[1:])


@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
def test_a_row_without_positions_is_zero_and_harms_no_other(dtype: str) -> None:
    mask = MASK.copy()
    mask[1] = 0
    got = pooled(HIDDEN, mask.astype(dtype))
    assert not got[1].any()
    np.testing.assert_allclose(got[[0, 2]], by_hand(HIDDEN, MASK)[[0, 2]], atol=1e-6)


def test_rows_are_independent_of_padding() -> None:
    wide = np.pad(HIDDEN, ((0, 0), (0, 4), (0, 0)), constant_values=3)
    np.testing.assert_allclose(pooled(wide, np.pad(MASK, ((0, 0), (0, 4)))), pooled(HIDDEN, MASK), atol=1e-6)


def test_half_precision_stays_half() -> None:
    got = MaskedMean()(torch.from_numpy(HIDDEN).half(), torch.from_numpy(MASK))
    assert got.dtype == torch.float16
    np.testing.assert_allclose(got.float().numpy(), by_hand(HIDDEN, MASK), atol=2e-3)


def test_export(check_export) -> None:
    def feeds(batch: int, positions: int) -> dict[str, torch.Tensor]:
        mask = torch.arange(positions).repeat(batch, 1) < torch.arange(1, batch + 1).unsqueeze(1)
        return {"hidden": torch.randn(batch, positions, 6), "mask": mask.long()}

    axes = {"hidden": {0: "batch", 1: "frames"}, "mask": {0: "batch", 1: "frames"}}
    check_export(MaskedMean(), feeds, axes, "pooled")
