from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from autovoice.calibration.observe import HALF, Histogram, Observed, observe, observed_arrays, observed_from
from autovoice.errors import CalibrationError
from autovoice.store.npz import read_npz, write_npz
from tests.onnx_models import model, node, saved, two_layers, value

SMALLEST = 2.0**-149  # of float32


def histogram(*parts: Sequence[float] | np.ndarray) -> Histogram:
    made = Histogram()
    for part in parts:
        made.add(np.asarray(part, np.float32))
    return made


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    write_npz(buffer, arrays)
    return buffer.getvalue()


def same(a: Histogram, b: Histogram) -> bool:
    return a.exponent == b.exponent and np.array_equal(a.counts, b.counts)


def contents(h: Histogram) -> dict[float, int]:
    """{lower edge of the bin: count}, of the bins with anything in them."""
    return {float(h.edges()[i]): int(h.counts[i]) for i in np.flatnonzero(h.counts)}


# -- histograms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_counts_depend_on_the_values_alone(seed: int) -> None:
    """Not on their order, on how they came in parts, nor on how the parts were shared and merged."""
    rng = np.random.default_rng(seed)
    scales = 2.0 ** rng.integers(-140, 120, 400)
    values = (rng.standard_normal(400) * scales).astype(np.float32)
    values[rng.random(400) < 0.1] = 0
    whole = histogram(values)
    mixed = rng.permutation(values)
    parts = np.split(mixed, np.sort(rng.integers(0, 401, rng.integers(1, 9))))
    assert same(histogram(*parts), whole)
    shards = [histogram(*parts[i::3]) for i in range(3)]
    merged = Histogram()
    for i in rng.permutation(3):
        merged.merge(shards[i])
    assert same(merged, whole)
    assert whole.counts.sum() == 400


@pytest.mark.parametrize("small_first", [True, False])
def test_merging_histograms_of_far_exponents(small_first: bool) -> None:
    small, large = [1e-30, -2e-30, 3e-30], [1e30, -2e30]
    pair = [histogram(small), histogram(large)]
    assert pair[0].exponent < pair[1].exponent
    one, other = pair if small_first else pair[::-1]
    before = (other.exponent, other.counts.copy())
    one.merge(other)
    assert same(one, histogram(small + large))
    assert other.exponent == before[0]
    assert np.array_equal(other.counts, before[1])


@pytest.mark.parametrize("seed", range(5))
def test_every_value_lies_between_the_edges_of_its_bin(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.3, 2.0 ** (9 * seed - 20), 5000).astype(np.float32)
    h = histogram(values)
    expected, _ = np.histogram(values.astype(np.float64), h.edges())
    assert np.array_equal(h.counts, expected)
    assert len(h.edges()) == len(h.counts) + 1 == 2 * HALF + 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1.0], {1.0: 1}, id="a_power_of_two_is_a_lower_edge"),
        pytest.param([2.0, 1.0, 1.0], {2.0: 1, 1.0: 2}, id="edges"),
        pytest.param([1.0, np.nextafter(np.float32(1), np.float32(0))], {1.0: 1, 1.0 - 2.0**-10: 1}, id="just_below"),
        pytest.param([-1.0], {-1.0: 1}, id="negative"),
        pytest.param([-1.0, -1.0 - 2.0**-20], {-1.0: 1, -1.0 - 2.0**-10: 1}, id="just_below_a_negative_edge"),
        pytest.param([-0.0, 0.0, 0.0], {0.0: 3}, id="zeros_only"),
        pytest.param([SMALLEST, -SMALLEST], {SMALLEST: 1, -SMALLEST: 1}, id="smallest_denormal"),
        pytest.param([3 * SMALLEST, 0], {3 * SMALLEST: 1, 0.0: 1}, id="denormal"),
        pytest.param([], {}, id="nothing"),
    ],
)
def test_bins_by_hand(values: list[float], expected: dict[float, int]) -> None:
    assert contents(histogram(values)) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_number_there_is(sign: int) -> None:
    largest = float(np.finfo(np.float32).max)
    h = histogram([sign * largest])
    assert np.isfinite(h.edges()).all()
    assert list(np.flatnonzero(h.counts)) == [2 * HALF - 1 if sign > 0 else 0]


@pytest.mark.parametrize("largest", [1.0, 1.5, np.nextafter(np.float32(2), np.float32(0)), 1e-20, 3e37])
def test_the_largest_magnitude_uses_the_upper_half_of_the_bins(largest: float) -> None:
    (index,) = np.flatnonzero(histogram([largest]).counts)
    assert index - HALF >= HALF / 2


def test_values_of_any_shape_and_of_half_precision() -> None:
    values = np.array([[1, -2], [0.5, 4]], np.float16)
    h = Histogram()
    h.add(values)
    assert same(h, histogram(values.ravel()))


def test_zeros_do_not_narrow_what_was_counted() -> None:
    assert same(histogram([5.0], [0.0]), histogram([0.0, 5.0]))


def test_widening_by_more_than_all_bins() -> None:
    """Positive values end in the bin above zero, negative ones in the one below."""
    h = histogram([SMALLEST, 7 * SMALLEST, -SMALLEST], [1e38])
    assert (h.counts[HALF], h.counts[HALF - 1], h.counts.sum()) == (2, 1, 4)


# -- observe ---------------------------------------------------------------------------------------


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """x → a → b → y, any number of rows."""
    return saved(two_layers(np.random.default_rng(0)), tmp_path / "m.onnx")


TENSORS = ["a", "b", "x", "y"]


def samples(*rows: int) -> list[tuple[str, dict[str, np.ndarray]]]:
    rng = np.random.default_rng(1)
    return [(f"s{i}", {"x": rng.standard_normal((n, 8), np.float32) * (i + 1)}) for i, n in enumerate(rows)]


def computed(layers: Path, given: Sequence[tuple[str, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    """Every value of every tensor over all samples, by ONNX Runtime on the model with these as outputs."""
    import onnx
    import onnxruntime as ort

    made = onnx.load(layers)
    made.graph.output.extend([value("a", "n", 8), value("b", "n", 8)])
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = [dict(zip("aby", session.run(["a", "b", "y"], f), strict=True)) | f for _, f in given]
    return {t: np.concatenate([r[t].ravel() for r in rows]) for t in TENSORS}


@pytest.mark.parametrize("counted", [[], TENSORS, ["b", "y"]], ids=["extrema", "all_counted", "some_counted"])
def test_extrema_are_those_of_all_samples_of_any_length(counted: list[str], layers: Path) -> None:
    given = samples(3, 1, 50)
    truth = computed(layers, given)
    found = observe(layers, TENSORS, counted, given)
    assert found.samples == 3
    assert found.low == {t: float(v.min()) for t, v in truth.items()}
    assert found.high == {t: float(v.max()) for t, v in truth.items()}
    assert sorted(found.histograms) == sorted(counted)
    for name, got in found.histograms.items():
        assert same(got, histogram(truth[name]))


def test_the_models_file_is_only_read(layers: Path) -> None:
    before = layers.read_bytes()
    observe(layers, TENSORS, ["a"], samples(2))
    assert layers.read_bytes() == before


@pytest.mark.parametrize("shards", [2, 3, 5])
def test_shards_merged_are_one_run_exactly(shards: int, layers: Path) -> None:
    given = samples(4, 9, 2, 7, 1, 30, 3)
    merged = Observed()
    for i in range(shards):
        merged.merge(observe(layers, TENSORS, ["a", "y"], given[i::shards]))
    whole = observe(layers, TENSORS, ["a", "y"], given)
    assert npz_bytes(observed_arrays(merged)) == npz_bytes(observed_arrays(whole))


def test_a_shard_without_samples_changes_nothing(layers: Path) -> None:
    whole = observe(layers, TENSORS, ["a"], samples(2, 3))
    before = npz_bytes(observed_arrays(whole))
    whole.merge(observe(layers, TENSORS, ["a"], []))
    assert npz_bytes(observed_arrays(whole)) == before


def test_there_and_back_again(layers: Path, tmp_path: Path) -> None:
    found = observe(layers, TENSORS, ["a", "x"], samples(5, 2))
    path = tmp_path / "observed.npz"
    path.write_bytes(npz_bytes(observed_arrays(found)))
    back = observed_from(read_npz(path))
    assert (back.samples, back.low, back.high) == (2, found.low, found.high)
    assert back.histograms.keys() == {"a", "x"}
    assert all(same(back.histograms[n], found.histograms[n]) for n in "ax")


def test_nothing_there_and_back_again() -> None:
    assert observed_from(observed_arrays(Observed())) == Observed()


def test_nothing_to_watch_still_counts_samples(layers: Path) -> None:
    assert observe(layers, [], [], samples(1, 1)) == Observed(samples=2)


@pytest.fixture
def logarithm(tmp_path: Path) -> Path:
    """x → log → y, where log of 0 is -inf, and y is finite again."""
    nodes = [node("Log", "x", "log"), node("Sigmoid", "log", "y")]
    return saved(model(nodes, [value("x", "n")], [value("y", "n")]), tmp_path / "log.onnx")


@pytest.mark.parametrize("counted", [[], ["log"]], ids=["extrema", "counted"])
@pytest.mark.parametrize("bad", [0.0, -1.0], ids=["inf", "nan"])
def test_a_value_that_is_not_finite_names_sample_and_tensor(counted: list[str], bad: float, logarithm: Path) -> None:
    given = [("fine", {"x": np.ones(3, np.float32)}), ("00007.npz", {"x": np.array([1, bad, 2], np.float32)})]
    with pytest.raises(CalibrationError) as raised:
        observe(logarithm, ["log", "y"], counted, given)
    assert raised.value.fact == "sample 00007.npz: 'log' has values that are not finite"
    assert "give samples unpadded" in raised.value.fix


def test_a_sample_that_the_model_cannot_run(layers: Path) -> None:
    with pytest.raises(CalibrationError, match=r"sample wide: the model cannot run it\n  .*x"):
        observe(layers, TENSORS, [], [("wide", {"x": np.ones((2, 9), np.float32)})])


def test_a_half_precision_graph(tmp_path: Path) -> None:
    from tests.onnx_models import HALF as FLOAT16

    made = model([node("Relu", "x", "y")], [value("x", 3, dtype=FLOAT16)], [value("y", 3, dtype=FLOAT16)])
    found = observe(saved(made, tmp_path / "h.onnx"), ["x"], [], [("s", {"x": np.array([-1, 0, 2], np.float16)})])
    assert (found.low, found.high) == ({"x": -1.0}, {"x": 2.0})


def test_extending_keeps_the_widest() -> None:
    found = Observed()
    for low, high in [(-1.0, 2.0), (-3.0, 1.0), (0.0, 5.0)]:
        found.extend("t", low, high)
    assert (found.low["t"], found.high["t"]) == (-3.0, 5.0)
