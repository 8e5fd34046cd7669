from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autovoice.dims.binding import Binder
from autovoice.errors import FeedError
from autovoice.spec import Dim

DIMS = {
    "batch": Dim("batch", 1, 1, 2),
    "frames": Dim("frames", 4, 8, 16, multiple=2),
    "samples": Dim("samples", 100, 200, 400, profile="25*frames"),
    # declared before what it reads: the order of the configuration is the user's
    "hops": Dim("hops", 5, 10, 20, formula="blocks//2"),
    "blocks": Dim("blocks", 10, 20, 40, formula="samples//10"),
}
TENSORS: dict[str, dict[str, Any]] = {
    "audio": {"dtype": "float32", "shape": ["batch", "samples"]},
    "f0": {"dtype": "float32", "shape": ["batch", 1, "frames"]},
    "voiced": {"dtype": "bool", "shape": ["batch", "frames"], "default": True},
    "rate": {"dtype": "int32", "shape": [1], "default": 16000},
}


HOW = "give a numpy array, or one in GPU memory: torch's, cupy's"


def feeds(batch: int = 1, frames: int = 8, samples: int = 200) -> dict[str, np.ndarray]:
    return {"audio": np.zeros((batch, samples), np.float32), "f0": np.zeros((batch, 1, frames), np.float32)}


def binder(**more: dict[str, Any]) -> Binder:
    return Binder(TENSORS | more, DIMS)


def refused(given: dict[str, Any], **more: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(FeedError) as raised:
        binder(**more).bind(given)
    return raised.value.fact, raised.value.fix


def f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


# -- what fits -------------------------------------------------------------------------------------


def test_defaults_are_filled_at_the_size_of_what_was_given() -> None:
    bound = binder().bind(feeds(batch=2, frames=6))
    assert bound.keys() == TENSORS.keys()
    assert (bound["voiced"].dtype, bound["voiced"].shape, bound["voiced"].all()) == (np.bool_, (2, 6), True)
    assert (bound["rate"].dtype, bound["rate"].tolist()) == (np.int32, [16000])


def test_what_is_given_wins_over_its_default_and_is_not_copied() -> None:
    given = feeds() | {"voiced": np.zeros((1, 8), bool), "rate": np.array([8000], np.int32)}
    bound = binder().bind(given)
    assert all(bound[name] is array for name, array in given.items())


@pytest.mark.parametrize(("frames", "samples"), [(4, 100), (16, 400)], ids=["min", "max"])
def test_the_ends_of_the_profile_fit(frames: int, samples: int) -> None:
    assert binder().bind(feeds(frames=frames, samples=samples))["voiced"].shape == (1, frames)


def test_a_default_may_have_a_derived_size() -> None:
    later = {"dtype": "float32", "shape": ["hops", "2*frames"], "default": 0.5}
    assert binder(later=later).bind(feeds(samples=345))["later"].shape == (17, 16)


def test_a_derived_axis_that_agrees() -> None:
    tensors = {"later": {"dtype": "float32", "shape": ["hops"]}}
    assert binder(**tensors).bind(feeds(samples=345) | {"later": f32(17)})["later"].shape == (17,)


# -- names -----------------------------------------------------------------------------------------


def test_an_unknown_name() -> None:
    assert refused(feeds() | {"voicd": f32(1)}) == (
        "there is no input 'voicd'",
        "did you mean 'voiced'? available: audio, f0, rate, voiced",
    )


def test_a_missing_input() -> None:
    assert refused({"audio": f32(1, 200)}) == ("input 'f0' is missing", "given: audio; inputs: audio, f0, rate, voiced")


def test_nothing_given() -> None:
    assert refused({})[1] == "given: none; inputs: audio, f0, rate, voiced"


# -- one tensor ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "array", "fact", "fix"),
    [
        pytest.param(
            "f0",
            [[0.0] * 8],
            "input 'f0' is a list",
            HOW,
            id="list",
        ),
        pytest.param(
            "f0",
            np.zeros((1, 1, 8)),
            "input 'f0' is float64, expected float32",
            "f0.astype(np.float32)",
            id="dtype",
        ),
        pytest.param(
            "voiced", f32(1, 8), "input 'voiced' is float32, expected bool", "voiced.astype(np.bool)", id="bool"
        ),
        pytest.param(
            "f0",
            f32(1, 8),
            "input 'f0' has shape [1, 8], expected [batch, 1, frames]",
            "3 axes, got 2",
            id="rank",
        ),
        pytest.param(
            "f0", f32(1, 2, 8), "input 'f0' axis 1 is 2, expected 1", "shape [batch, 1, frames]", id="fixed_axis"
        ),
        pytest.param(
            "f0",
            f32(1, 1, 18),
            "input 'f0' axis 2 (frames) is 18, the built profile is 4 … 16",
            "build for it with dims.frames.max=…",
            id="above_max",
        ),
        pytest.param(
            "f0",
            f32(1, 1, 2),
            "input 'f0' axis 2 (frames) is 2, the built profile is 4 … 16",
            "build for it with dims.frames.min=…",
            id="below_min",
        ),
        pytest.param(
            "f0",
            f32(1, 1, 0),
            "input 'f0' axis 2 (frames) is 0, the built profile is 4 … 16",
            "build for it with dims.frames.min=…",
            id="empty",
        ),
        pytest.param(
            "audio",
            f32(1, 401),
            "input 'audio' axis 1 (samples) is 401, the built profile is 100 … 400",
            "build for it with dims.frames.max=…",
            id="profile_that_follows",
        ),
        pytest.param(
            "f0",
            f32(1, 1, 7),
            "input 'f0' axis 2 (frames) is 7, expected a multiple of 2",
            "pad it",
            id="multiple",
        ),
    ],
)
def test_one_tensor(name: str, array: Any, fact: str, fix: str) -> None:
    assert refused(feeds() | {name: array}) == (fact, fix)


def test_a_derived_axis_outside_its_profile_names_what_it_follows() -> None:
    tensor = {"dtype": "float32", "shape": ["blocks"]}
    assert refused(feeds() | {"later": f32(41)}, later=tensor) == (
        "input 'later' axis 0 (blocks) is 41, the built profile is 10 … 40",
        "build for it with dims.samples.max=…",
    )


def test_a_dim_that_follows_two_names_both() -> None:
    dims = {"a": Dim("a", 1, 1, 9), "b": Dim("b", 1, 1, 9), "c": Dim("c", 2, 2, 18, formula="b+a")}
    with pytest.raises(FeedError, match=r"build for it with dims\.a\.max=… and dims\.b\.max=…"):
        Binder({"x": {"dtype": "float32", "shape": ["c"]}}, dims).bind({"x": f32(19)})


# -- tensors together ------------------------------------------------------------------------------


def test_inputs_that_share_a_symbol_must_agree() -> None:
    assert refused(feeds() | {"audio": f32(2, 200)}) == (
        "input 'f0' axis 0 (batch) is 1, but input 'audio' has 2",
        "inputs that share 'batch' must agree",
    )


def test_a_symbol_twice_in_one_tensor_must_agree_with_itself() -> None:
    square = {"x": {"dtype": "float32", "shape": ["frames", "frames"]}}
    with pytest.raises(FeedError) as raised:
        Binder(square, DIMS).bind({"x": f32(8, 6)})
    assert raised.value.fact == "input 'x' axis 1 (frames) is 6, but input 'x' has 8"


def test_a_derived_axis_must_follow_its_formula() -> None:
    tensor = {"dtype": "float32", "shape": ["blocks"]}
    assert refused(feeds(samples=345) | {"later": f32(33)}, later=tensor) == (
        "blocks is 33, but samples//10 is 34",
        "at samples=345",
    )


def test_a_dim_derived_from_a_derived_one_must_follow_too() -> None:
    tensor = {"dtype": "float32", "shape": ["hops"]}
    assert refused(feeds(samples=345) | {"later": f32(16)}, later=tensor) == (
        "hops is 16, but blocks//2 is 17",
        "at blocks=34",
    )


def test_arithmetic_in_a_shape_must_hold() -> None:
    tensor = {"dtype": "float32", "shape": ["batch", "25*frames + 1"]}
    assert refused(feeds(frames=8) | {"later": f32(1, 200)}, later=tensor) == (
        "input 'later' axis 1 is 200, expected 25*frames + 1 = 201",
        "at frames=8",
    )


def test_a_formula_that_leaves_a_remainder() -> None:
    tensor = {"dtype": "float32", "shape": ["samples/100"]}
    assert refused(feeds(samples=250) | {"later": f32(2)}, later=tensor) == (
        "'samples/100' is 2.5, not a whole number",
        "at samples=250",
    )


def test_a_default_whose_size_nobody_tells() -> None:
    tensors = {k: TENSORS[k] for k in ("voiced", "rate")}
    with pytest.raises(FeedError) as raised:
        Binder(tensors, DIMS).bind({"rate": np.array([8000], np.int32)})
    assert str(raised.value) == (
        "input 'voiced' has a default, but no size: [batch, frames]\n"
        "  no other input given has these dims; give this one too"
    )


def test_a_symbol_that_stands_in_arithmetic_alone_is_found_and_bounded() -> None:
    tensors = {"audio": {"dtype": "float32", "shape": ["batch", "256*frames"]}}
    alone = Binder(tensors, DIMS)
    assert alone.bind({"audio": np.zeros((1, 256 * 8), np.float32)})["audio"].shape == (1, 2048)
    for size, point in ((256 * 18, "max"), (256 * 2, "min"), (256 * 8 + 1, "max")):
        with pytest.raises(FeedError) as raised:
            alone.bind({"audio": np.zeros((1, size), np.float32)})
        assert raised.value.fact == f"input 'audio' axis 1 (256*frames) is {size}, which no frames of 4 … 16 gives"
        assert f"dims.frames.{point}=…" in raised.value.fix
    with pytest.raises(FeedError, match="expected a multiple of 2"):
        alone.bind({"audio": np.zeros((1, 256 * 7), np.float32)})
