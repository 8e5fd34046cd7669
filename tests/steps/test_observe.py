from __future__ import annotations

from autovoice.calibration.observe import observed_from
from autovoice.store.npz import read_npz
from tests.steps.bench import Bench, observe_fields

NEEDS = {"export": "encoder.export", "samples": "samples"}


def test_extrema_of_every_tensor_that_a_policy_could_quantize(bench: Bench) -> None:
    bench.exported("encoder")
    samples = bench.sampled(4)
    ran = bench.run("observe", observe_fields(), NEEDS)
    assert ran.result == {"tensors": 4, "samples": 4}
    found = observed_from(read_npz(ran.folder / "observed.npz"))
    assert found.low.keys() == {"x", "a", "b", "y"}
    given = [read_npz(p)["x"] for p in samples.folder.glob("*.npz")]
    assert (found.low["x"], found.high["x"]) == (min(x.min() for x in given), max(x.max() for x in given))
    assert found.histograms == {}


def test_values_are_counted_where_a_method_asks_for_it(bench: Bench) -> None:
    bench.exported("encoder")
    bench.sampled(2)
    fields = observe_fields() | {"histograms": {"b": True, "default": False}}
    found = observed_from(read_npz(bench.run("observe", fields, NEEDS).folder / "observed.npz"))
    assert found.histograms.keys() == {"b"}
    assert found.histograms["b"].counts.sum() == 2 * 3 * 8


def test_shards_share_the_samples(bench: Bench) -> None:
    bench.exported("encoder")
    bench.sampled(5)
    parts = [bench.run(f"part{i}", observe_fields(shard=(i, 3)), NEEDS, kind="observe") for i in range(3)]
    assert sum(p.result["samples"] for p in parts) == 5
    assert all(p.result["samples"] for p in parts)
