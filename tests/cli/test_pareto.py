"""Sweeps that weigh accuracy, time and size against each other, and what is timed for them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project, Result

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

BEST = "hydra.sweeper.direction=[maximize,minimize,minimize]"
OPTUNA = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=0", "timed=true")
#: every combination once; not where builds fail, Optuna's grid ends in an error if the last one does
GRID = ("-m", "hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_jobs=1", "timed=true")
SYNTH = "component.synth.precision=choice({})"
LIMITER = "component.limiter.precision=choice(fp32,half)"
FIGURE = r"\d[\d.e+-]*"


def jobs(out: str) -> list[list[str]]:
    return [line.removeprefix("── ").split() for line in out.splitlines() if line.startswith("── ")]


def front(out: str) -> list[tuple[str, tuple[float, ...], str]]:
    """(`*` or "", figures, overrides) of the table that a sweep ends with, which says how many are on the front."""
    *_, table = out.rstrip().split("\n\n")
    header, *rows, footer = table.splitlines()
    assert header.split() == ["snr_db", "ms", "megabytes", "overrides"]
    found = []
    for row in rows:
        m = re.fullmatch(rf" ([* ])  ({FIGURE}) +({FIGURE}) +({FIGURE}) +(\S.*)", row)
        assert m, row
        found.append((m[1].strip(), (float(m[2]), float(m[3]), float(m[4])), m[5]))
    marked = [mark for mark, *_ in found].count("*")
    assert footer == f" * on the Pareto front, {marked} of {len(found)} builds"
    return found


def manifests(project: Project, out: str) -> list[dict[str, Any]]:
    paths = dict.fromkeys(re.findall(r"outputs/chime/\S+/manifest\.json", out))
    return [json.loads((project.root / path).read_bytes()) for path in paths]


def test_a_sweep_that_optimises_ends_with_the_front(toy: Project) -> None:
    out = toy.ok(*GRID, BEST, SYNTH.format("fp32,half"), LIMITER, "hydra.sweeper.n_trials=4")
    assert len(jobs(out)) == 4
    rows = front(out)
    choices = {f"component.{name}.precision={p}" for name in ("synth", "limiter") for p in ("fp32", "half")}
    assert len({overrides for *_, overrides in rows}) == 4
    assert {part for *_, overrides in rows for part in overrides.split()} == choices
    assert rows[0][0] == "*"
    found = manifests(toy, out)
    assert len(found) == 4
    assert sorted(ms for _, (_, ms, _), _ in rows) == sorted(float(f"{m['latency']['ms']:.4g}") for m in found)
    (sweep,) = (toy.outputs / "sweeps").iterdir()
    best = (sweep / "optimization_results.yaml").read_text()
    assert best.count("params:") == [mark for mark, *_ in rows].count("*")
    assert toy.half_written() == []


def test_builds_that_fail_do_not_stop_it(toy: Project) -> None:
    """The synth in half misses a gate that the limiter in half, whose outputs are the same, meets."""
    result = toy.run(
        *OPTUNA,
        BEST,
        SYNTH.format("fp32,half"),
        LIMITER,
        "gate.component.snr_db.half=100",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.max_failure_rate=1.0",
    )
    assert result.code == 1
    assert "Traceback" not in result.err
    tried = jobs(result.out)
    assert len(tried) == 6
    wrong = sorted(" ".join(job) for job in tried if "component.synth.precision=half" in job)
    assert 0 < len(wrong) < 6
    assert sorted(re.findall(r"^failed: (.*)$", result.err, re.MULTILINE)) == wrong
    assert result.err.count("error: synth.verify: snr_db") == len(wrong)
    assert {overrides.split()[-1] for *_, overrides in front(result.out)} == {
        "component.limiter.precision=fp32",
        "component.limiter.precision=half",
    }


def refused(result: Result) -> set[str]:
    """The messages of a sweep in which nothing was built."""
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "manifest.json" not in result.out
    assert "Pareto" not in result.out
    return set(re.findall(r"^error: .*\n  .*$", result.err, re.MULTILINE))


def test_directions_that_are_not_the_objectives(toy: Project) -> None:
    wrong = "hydra.sweeper.direction=[maximize,minimize,maximize]"
    got = refused(toy.run(*OPTUNA, wrong, LIMITER, "hydra.sweeper.n_trials=2"))
    assert got == {
        "error: hydra.sweeper.direction is ['maximize', 'minimize', 'maximize'], "
        "objectives are ['snr_db', 'ms', 'megabytes']\n"
        "  hydra.sweeper.direction=[maximize,minimize,minimize], or another list of objectives"
    }


def test_two_objectives_without_a_time(toy: Project) -> None:
    out = toy.ok(
        *GRID,
        "timed=false",
        "objectives=[megabytes,snr_db]",
        "hydra.sweeper.direction=[minimize,maximize]",
        LIMITER,
        "hydra.sweeper.n_trials=2",
    )
    assert "\n    snr_db  megabytes  overrides\n" in out
    (sweep,) = (toy.outputs / "sweeps").iterdir()
    saved = [json.loads(p.read_bytes())["objectives"] for p in sorted(sweep.glob("*/objectives.json"))]
    assert [set(s) for s in saved] == [{"snr_db", "megabytes"}] * 2
    values = re.findall(r"values:\n((?:  - .*\n)+)", (sweep / "optimization_results.yaml").read_text())
    told = {tuple(float(v) for v in re.findall(r"- (\S+)", one)) for one in values}
    assert told <= {(s["megabytes"], s["snr_db"]) for s in saved}
    assert told


def test_a_plain_sweep_ends_with_the_front_too(toy: Project) -> None:
    out = toy.ok("-m", "precision=fp32,half", "timed=true")
    rows = front(out)
    assert {overrides for *_, overrides in rows} == {"precision=fp32", "precision=half"}
    (precise,) = (figures for mark, figures, overrides in rows if overrides == "precision=fp32" and mark)
    assert precise[0] == max(figures[0] for _, figures, _ in rows)


# -- timed=true ------------------------------------------------------------------------------------


def last_manifest(project: Project, out: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((project.root / Path(out.splitlines()[-1])).read_bytes())
    return data


def test_a_timed_build_tells_the_time_of_the_whole(toy: Project) -> None:
    out = toy.ok("timed=true")
    latency = last_manifest(toy, out)["latency"]
    assert latency["point"] == "opt"
    assert 5 <= latency["rounds"] <= 30
    assert list(latency["component_ms"]) == ["embedder", "synth", "limiter"]
    assert 0 < max(latency["component_ms"].values()) <= latency["ms"]
    assert re.search(rf"\n component .* latency +time\n(?:.*\n)+ end to end .* {latency['ms']:.4g} ms +\S", out)
    assert toy.plan("timed=true")["latency"][0] == "reuse"


def test_what_is_not_timed_says_nothing_of_it(master: Project) -> None:
    assert master.manifest["latency"] is None
    built = (master.root / "first_build.txt").read_text()
    assert " latency " not in built
    assert "latency" not in built


# -- one objective ---------------------------------------------------------------------------------


def test_a_sweep_of_one_objective(toy: Project) -> None:
    one = ("objectives=[megabytes]", "hydra.sweeper.direction=minimize", "hydra.sweeper.n_trials=2")
    assert "2 builds" in toy.ok(*GRID, *one, LIMITER)
