"""Optimization profiles over buckets: every size in exactly one, whatever follows covered, tuned where asked."""

from __future__ import annotations

from typing import Any

import pytest

from autovoice.dims.expressions import evaluate
from autovoice.errors import ConfigError
from autovoice.graph.wiring import Graph
from autovoice.plan.rules.profiles import engine_profiles
from autovoice.spec import POINTS, Dim, Tensor
from autovoice.spec.fields import Profile
from autovoice.voice.clock import frame_count, output_length
from tests.builders import component, composed_graph, graph_of, wire


def profiles(*dims: Dim, shape: tuple[str | int, ...] = ("frames",), **more: tuple[str | int, ...]) -> list[Profile]:
    """Of a component that reads x, and more wires of other shapes."""
    wires: list[str | Tensor] = [wire("x", *shape), *(wire(n, *s) for n, s in more.items())]
    graph = graph_of(component("a", ["x", *more], [wire("y", 1)]), inputs=wires, dims=dims)
    return engine_profiles(graph, graph.components[0])


def spans(found: list[Profile], name: str = "x", axis: int = 0) -> list[tuple[int, ...]]:
    """(min, opt, max) of one axis in each profile."""
    return [tuple(p[name][point][axis] for point in POINTS) for p in found]


def holding(found: list[Profile], **shapes: list[int]) -> int:
    """How many profiles hold these shapes."""

    def inside(p: Profile) -> bool:
        axes = ((p[n]["min"][i], size, p[n]["max"][i]) for n, s in shapes.items() for i, size in enumerate(s))
        return all(low <= size <= high for low, size, high in axes)

    return sum(inside(p) for p in found)


# -- one dim ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        pytest.param(Dim("frames", 2, 4, 8), [(2, 4, 8)], id="none"),
        pytest.param(Dim("frames", 2, 4, 8, buckets=(3, 6)), [(2, 3, 3), (4, 6, 6), (7, 8, 8)], id="two"),
        pytest.param(Dim("frames", 2, 7, 8, buckets=(6, 3)), [(2, 3, 3), (4, 6, 6), (7, 7, 8)], id="opt_in_the_rest"),
        pytest.param(Dim("frames", 2, 3, 8, buckets=(4,)), [(2, 4, 4), (5, 8, 8)], id="opt_in_a_bucket"),
        pytest.param(Dim("frames", 2, 4, 8, buckets=(8,)), [(2, 8, 8)], id="max"),
        pytest.param(Dim("frames", 2, 4, 8, buckets=(2,)), [(2, 2, 2), (3, 4, 8)], id="min"),
        pytest.param(Dim("frames", 2, 4, 8, buckets=(2, 8, 8, 2)), [(2, 2, 2), (3, 8, 8)], id="both_ends_twice"),
        pytest.param(Dim("frames", 2, 4, 8, buckets=(6, 7)), [(2, 6, 6), (7, 7, 7), (8, 8, 8)], id="neighbours"),
        pytest.param(Dim("frames", 4, 4, 4, buckets=(4,)), [(4, 4, 4)], id="fixed"),
        pytest.param(
            Dim("frames", 8, 32, 64, multiple=8, buckets=(16, 32)),
            [(8, 16, 16), (24, 32, 32), (40, 64, 64)],
            id="steps",
        ),
    ],
)
def test_a_bucket_reaches_from_the_one_below_to_its_own_size(dim: Dim, expected: list[tuple[int, ...]]) -> None:
    found = profiles(dim)
    assert spans(found) == expected
    for size in range(dim.min, dim.max + 1, dim.multiple):
        assert holding(found, x=[size]) == 1


def test_every_combination_of_several_bucketed_dims() -> None:
    dims = [Dim("batch", 1, 1, 4, buckets=(1,)), Dim("frames", 2, 4, 8, buckets=(4,))]
    found = profiles(*dims, shape=("batch", 80, "frames"))
    assert len(found) == 4
    assert all(holding(found, x=[b, 80, f]) == 1 for b in range(1, 5) for f in range(2, 9))
    assert found[0] == {"x": {"min": [1, 80, 2], "opt": [1, 80, 4], "max": [1, 80, 4]}}


def test_buckets_of_what_a_component_does_not_read_make_no_profiles() -> None:
    dims = [Dim("batch", 1, 1, 4, buckets=(1, 2)), Dim("frames", 2, 4, 8)]
    assert spans(profiles(*dims)) == [(2, 4, 8)]


def test_arithmetic_in_a_shape_is_of_the_buckets_sizes() -> None:
    found = profiles(Dim("frames", 2, 4, 8, buckets=(3,)), shape=("256*frames",))
    assert spans(found) == [(512, 768, 768), (1024, 1024, 2048)]


def test_a_bucket_at_which_a_size_is_not_whole_is_told() -> None:
    with pytest.raises(ConfigError) as raised:
        profiles(Dim("frames", 2, 4, 8, buckets=(3,)), shape=("frames/2",))
    assert str(raised.value) == (
        "dims.frames.buckets: 'frames/2' is 1.5, not a whole number\n  sizes at which every axis of a is a whole number"
    )


# -- what is computed from it, and what follows it ---------------------------------------------------


def test_a_derived_dim_is_computed_from_the_bucket() -> None:
    dims = [Dim("frames", 2, 4, 8, buckets=(3,)), Dim("half", 1, 2, 4, formula="frames//2")]
    found = profiles(*dims, shape=("half",), y2=("frames",))
    assert spans(found) == [(1, 1, 1), (2, 2, 4)]
    assert all(holding(found, x=[f // 2], y2=[f]) == 1 for f in range(2, 9))


FRAMES = Dim("frames", 10, 40, 80, buckets=(20, 50))


def following(low: int = 25, high: int = 200, **more: Any) -> Dim:
    """2.5 samples a frame."""
    return Dim("samples", low, 100, high, profile="ceil(frames*5/2)", **more)


def test_what_follows_reaches_beyond_its_bucket_by_one_size_of_what_it_follows() -> None:
    found = profiles(FRAMES, following(), shape=("samples",), y2=("frames",))
    assert spans(found, "y2") == [(10, 20, 20), (21, 50, 50), (51, 80, 80)]
    assert spans(found) == [(25, 50, 53), (48, 125, 128), (123, 200, 200)]


def test_every_number_of_samples_and_the_frames_it_makes_are_in_one_profile_together() -> None:
    found = profiles(FRAMES, following(), shape=("samples",), y2=("frames",))
    alone = profiles(FRAMES, following(), shape=("samples",))
    for samples in range(25, 201):
        assert holding(alone, x=[samples]) >= 1
        for frames in {samples * 2 // 5, -(-samples * 2 // 5)}:  # however they are counted
            assert holding(found, x=[samples], y2=[frames]) == 1


def test_bounds_of_its_own_are_reached_by_the_outermost_buckets() -> None:
    found = profiles(FRAMES, following(5, 300), shape=("samples",))
    assert spans(found) == [(5, 50, 53), (48, 125, 128), (123, 200, 300)]
    found = profiles(FRAMES, following(60, 110), shape=("samples",))
    assert spans(found) == [(60, 60, 60), (60, 110, 110), (110, 110, 110)]


def test_buckets_of_its_own_count_for_what_follows() -> None:
    found = profiles(FRAMES, following(buckets=(100,)), shape=("samples",))
    assert spans(found) == [(25, 100, 100), (101, 200, 200)]


def test_multiples_of_what_follows() -> None:
    dim = Dim("samples", 24, 96, 200, profile="ceil(frames*5/2)", multiple=8)
    found = profiles(FRAMES, dim, shape=("samples",))
    assert spans(found) == [(24, 48, 56), (48, 120, 128), (120, 200, 200)]


def test_what_follows_by_way_of_others() -> None:
    dims = [
        FRAMES,
        Dim("ticks", 20, 80, 160, formula="2*frames"),
        Dim("samples", 60, 240, 480, profile="3*ticks"),
        Dim("words", 61, 241, 481, profile="samples+1"),
    ]
    found = profiles(*dims, shape=("words",))
    assert spans(found) == [(61, 121, 127), (115, 301, 307), (295, 481, 481)]


def test_what_follows_two_bucketed_dims() -> None:
    a, b = Dim("a", 1, 2, 4, buckets=(2,)), Dim("b", 1, 2, 3, buckets=(1,))
    found = profiles(a, b, Dim("area", 1, 4, 12, profile="a*b"), shape=("area",), y2=("a",), z=("b",))
    assert len(found) == 4
    assert all(holding(found, x=[i * j], y2=[i], z=[j]) == 1 for i in range(1, 5) for j in range(1, 4))


# -- the shipped tree ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voice() -> Graph:
    return composed_graph("dims.frames.buckets=[128,512]")


def test_no_buckets_are_as_if_nobody_had_heard_of_them() -> None:
    """Neither dims nor profiles know them, so that no key of a step does."""
    empty, absent = composed_graph(), composed_graph("~dims.frames.buckets", "~dims.batch.buckets")
    assert empty.dims == absent.dims
    assert [len(engine_profiles(empty, c)) for c in empty.components] == [1] * len(empty.components)


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000, 11025])
def test_every_recording_is_in_a_profile_of_every_component(voice: Graph, rate: int) -> None:
    found = {c.name: engine_profiles(voice, c) for c in voice.components}
    assert all(len(p) == 3 for p in found.values())
    ends = [f * 256 * rate / 22050 for f in (16, 17, 127, 128, 129, 511, 512, 513, 1024)]
    sources = {n for end in ends for n in range(int(end) - 3, int(end) + 4)}
    checked = 0
    for source in sorted(sources):
        frames, samples = frame_count(source, rate, 22050, 256), output_length(source, rate, 16000)
        if not (16 <= frames <= 1024 and voice.dims["samples"].min <= samples <= voice.dims["samples"].max):
            continue
        sizes = {"batch": 1, "frames": frames, "samples": samples, "content_frames": (samples - 80) // 320}
        for c in voice.components:
            shapes = {i.local: [evaluate(a, sizes) for a in voice.tensors[i.wire].shape] for i in c.inputs}
            assert holding(found[c.name], **shapes) >= 1, (source, c.name, shapes)
            if any("frames" in voice.tensors[i.wire].shape for i in c.inputs):
                assert holding(found[c.name], **shapes) == 1
            checked += 1
    assert checked > 200


def test_points_of_the_inputs_belong_together_in_one_profile(voice: Graph) -> None:
    from autovoice.measure.points import POINTS as ALL
    from autovoice.plan.rules.pipeline import inputs
    from autovoice.steps.inputs import sizes_at

    dims = inputs(voice).fields["dims"]
    conditioner = next(c for c in voice.components if c.name == "conditioner")
    found = engine_profiles(voice, conditioner)
    for point in ALL:
        sizes = sizes_at(point, dims)
        sizes["content_frames"] = (sizes["samples"] - 80) // 320
        shapes = {i.local: [evaluate(a, sizes) for a in voice.tensors[i.wire].shape] for i in conditioner.inputs}
        assert holding(found, **shapes) == 1, point
    between = sizes_at("between", dims)
    assert between["samples"] == -(-between["frames"] * 256 * 16000 // 22050)
