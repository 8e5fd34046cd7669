"""What a sweep is told of a build, and its Pareto front."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from autovoice.errors import ArtefactError, AutovoiceError, StoreError
from autovoice.publish.sweep import FILE, check_objectives, objective_values, objectives, pareto, prepare, save
from autovoice.runtime.manifest import NAME, dump, sealed
from tests.folders import entry, manifest

ALL = ["snr_db", "ms", "megabytes"]
BEST = ["maximize", "minimize", "minimize"]
Snr = Mapping[str, Mapping[str, float]]


# -- the folder ------------------------------------------------------------------------------------


def test_a_prepared_folder_is_empty(tmp_path: Path) -> None:
    for _ in range(2):
        prepare(tmp_path / "sweeps" / "1")
    assert list((tmp_path / "sweeps" / "1").iterdir()) == []


@pytest.mark.parametrize("refusing", ["mkdir", "write_bytes"])
def test_a_folder_that_cannot_be_written(refusing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, refusing, refused)
    with pytest.raises(StoreError) as raised:
        prepare(tmp_path)
    assert str(raised.value) == (
        f"hydra.sweep.dir: {tmp_path}: the file system is read-only\n"
        "  sweep elsewhere: paths.outputs=/another/folder, or hydra.sweep.dir=/another/folder alone"
    )


# -- objectives ------------------------------------------------------------------------------------


def built(folder: Path, snr: Snr, sizes: Sequence[int], latency: dict[str, Any] | None = None) -> Path:
    """A built folder that says this of itself: {point: {wire: dB}}, bytes of each component."""
    parity = {p: {w: {"snr_db": db, "cosine": 0.5} for w, db in wires.items()} for p, wires in snr.items()}
    components = [entry(f"c{i}", b"", size=size) for i, size in enumerate(sizes)]
    data = manifest(components, end_to_end={"parity": parity}, latency=latency)
    (folder / NAME).write_bytes(dump(data))
    return folder


def test_objectives_are_the_worst_parity_the_sum_of_sizes_and_the_time_of_the_whole(tmp_path: Path) -> None:
    snr = {"min": {"a": 40.0, "b": 35.0}, "max": {"a": 31.4159, "b": 60.0}}
    latency = {"point": "opt", "rounds": 30, "ms": 12.5, "component_ms": {"c0": 9.0, "c1": 3.0}}
    found = objectives(built(tmp_path, snr, [1_500_000, 250_400], latency))
    assert found == {"snr_db": 31.42, "megabytes": 1.75, "ms": 12.5}


def test_without_a_measured_time_there_is_no_ms(tmp_path: Path) -> None:
    assert objectives(built(tmp_path, {"opt": {"a": 40.0}}, [1000])) == {"snr_db": 40.0, "megabytes": 0.001}


def test_of_engines_that_cannot_run_here_the_size_alone_is_known(tmp_path: Path) -> None:
    folder = built(tmp_path, {}, [1000])
    data = json.loads((folder / NAME).read_bytes())
    (folder / NAME).write_bytes(dump(sealed({**data, "end_to_end": None})))
    assert objectives(folder) == {"megabytes": 0.001}
    assert objective_values({"megabytes": 0.001}, ["megabytes"]) == [0.001]
    with pytest.raises(AutovoiceError, match=r"nothing measured 'snr_db' of this build, .*\n  leave it out, or "):
        objective_values({"megabytes": 0.001}, ["megabytes", "snr_db"])


def test_the_objectives_of_a_folder_that_was_not_built(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no manifest\.json here"):
        objectives(tmp_path)


# -- what a sweeper may ask for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "directions", "timed"),
    [
        (ALL, BEST, True),
        (["snr_db", "megabytes"], ["maximize", "minimize"], False),
        (["megabytes", "snr_db"], ["minimize", "maximize"], False),
        (["ms"], ["minimize"], True),
        (["ms"], "minimize", True),
        (["snr_db"], "maximize", False),
    ],
)
def test_what_can_be_optimised(names: list[str], directions: Any, timed: bool) -> None:
    check_objectives(names, directions, timed)


def refusal(names: Sequence[str], directions: Any, timed: bool = True) -> list[str]:
    with pytest.raises(AutovoiceError) as e:
        check_objectives(names, directions, timed)
    return str(e.value).splitlines()


@pytest.mark.parametrize(
    ("directions", "shown"),
    [
        (["maximize", "minimize", "maximize"], "['maximize', 'minimize', 'maximize']"),
        (["maximize", "minimize"], "['maximize', 'minimize']"),
        ([*BEST, "minimize"], "['maximize', 'minimize', 'minimize', 'minimize']"),
        ("maximize", "['maximize']"),
        (None, "[]"),
    ],
    ids=["another", "too few", "too many", "one", "none"],
)
def test_directions_that_are_not_the_objectives(directions: Any, shown: str) -> None:
    assert refusal(ALL, directions) == [
        f"hydra.sweeper.direction is {shown}, objectives are ['snr_db', 'ms', 'megabytes']",
        "  hydra.sweeper.direction=[maximize,minimize,minimize], or another list of objectives",
    ]


def test_ms_needs_a_build_that_is_timed() -> None:
    assert refusal(ALL, BEST, timed=False) == [
        "objectives: nothing measures 'ms' in these builds",
        "  timed=true, or leave it out",
    ]


def test_directions_as_the_sweeper_has_them() -> None:
    direction = pytest.importorskip("hydra_plugins.hydra_optuna_sweeper.config").Direction
    check_objectives(ALL, [direction.maximize, direction.minimize, direction.minimize], True)
    assert "['maximize', 'maximize']" in refusal(ALL, [direction.maximize] * 2)[0]


def test_a_direction_that_nobody_gave() -> None:
    direction = pytest.importorskip("hydra_plugins.hydra_optuna_sweeper.config").Direction
    assert refusal(ALL, direction.minimize)[0].startswith("hydra.sweeper.direction is ['minimize'], ")


# -- the front -------------------------------------------------------------------------------------

Jobs = Sequence[tuple[Sequence[str], dict[str, float]]]


def front(folder: Path, jobs: Jobs) -> str:
    for number, (overrides, found) in enumerate(jobs):
        place = folder / str(number)
        place.mkdir()
        save(place, overrides, found)
    return pareto(folder)


def rows_of(text: str) -> list[list[str]]:
    """Rows of the table without header and footer: `*` or "", then figures, then overrides."""
    return [[line[1:2].strip(), *line[2:].split()] for line in text.splitlines()[1:-1]]


def values(snr_db: float, ms: float, megabytes: float) -> dict[str, float]:
    return {"snr_db": snr_db, "ms": ms, "megabytes": megabytes}


def test_the_whole_table(tmp_path: Path) -> None:
    jobs = [
        (["p=a", "timed=True"], values(60, 10, 4)),
        (["p=b", "timed=True"], values(20.126, 3, 1)),
        (["p=c", "timed=True"], values(19, 3, 1.5)),
    ]
    assert front(tmp_path, jobs).splitlines() == [
        "    snr_db  ms  megabytes  overrides",
        " *  20.13   3   1          p=b",
        " *  60      10  4          p=a",
        "    19      3   1.5        p=c",
        " * on the Pareto front, 2 of 3 builds",
    ]


@pytest.mark.parametrize(
    ("worse", "stays"),
    [
        (values(59, 10, 4), False),
        (values(60, 11, 4), False),
        (values(60, 10, 5), False),
        (values(61, 10, 4.1), True),
        (values(59, 9.9, 4), True),
        (values(59, 11, 3.9), True),
    ],
    ids=["less snr", "slower", "larger", "more snr", "faster", "smaller"],
)
def test_one_is_beaten_by_what_is_nowhere_worse_and_somewhere_better(
    tmp_path: Path, worse: dict[str, float], stays: bool
) -> None:
    rows = rows_of(front(tmp_path, [(["p=first"], values(60, 10, 4)), (["p=second"], worse)]))
    marks = {row[-1]: row[0] for row in rows}
    assert marks == {"p=first": "*", "p=second": "*" if stays else ""}


def test_equal_builds_are_both_on_the_front(tmp_path: Path) -> None:
    text = front(tmp_path, [(["p=a"], values(60, 10, 4)), (["p=b"], values(60, 10, 4))])
    assert [row[0] for row in rows_of(text)] == ["*", "*"]
    assert "2 of 2 builds" in text


def test_the_same_job_twice_is_told_once(tmp_path: Path) -> None:
    jobs = [(["p=a"], values(60, 10, 4)), (["p=b"], values(20, 3, 1)), (["p=a"], values(60, 10, 4))]
    text = front(tmp_path, jobs)
    assert sorted(row[-1] for row in rows_of(text)) == ["p=a", "p=b"]
    assert text.endswith("2 of 2 builds")


def test_one_build_has_no_front(tmp_path: Path) -> None:
    assert front(tmp_path, [(["p=a"], values(60, 10, 4))] * 3) == ""


def test_no_build_has_no_front(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    assert pareto(tmp_path) == ""


def test_failed_jobs_are_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "failed").write_text("p=c\n")
    assert "2 of 2 builds" in front(tmp_path, [(["p=a"], values(60, 10, 4)), (["p=b"], values(20, 3, 1))])


def test_what_not_every_job_measured_is_left_out(tmp_path: Path) -> None:
    """By ms the second would stand on the front; by what both have, it is beaten."""
    jobs = [(["p=a", "timed=False"], {"snr_db": 60.0, "megabytes": 1.0}), (["p=b", "timed=True"], values(50, 1, 2))]
    assert front(tmp_path, jobs).splitlines() == [
        "    snr_db  megabytes  overrides",
        " *  60      1          p=a timed=False",
        "    50      2          p=b timed=True",
        " * on the Pareto front, 1 of 2 builds",
    ]


def test_overrides_that_all_jobs_have_are_left_out(tmp_path: Path) -> None:
    jobs = [(["pipeline=x", f"p={p}", f"q={q}", "timed=True"], values(p, q, 1)) for p in (1, 2) for q in (3, 4)]
    rows = rows_of(front(tmp_path, jobs))
    assert sorted(row[4:] for row in rows) == [["p=1", "q=3"], ["p=1", "q=4"], ["p=2", "q=3"], ["p=2", "q=4"]]


def test_a_sweep_of_more_than_ten_jobs_is_read_whole(tmp_path: Path) -> None:
    text = front(tmp_path, [([f"p={i}"], values(i, i, i)) for i in range(12)])
    assert [row[-1] for row in rows_of(text)] == [f"p={i}" for i in range(12)]
    assert text.endswith("12 of 12 builds")


def test_what_is_saved_of_a_job_is_plain_json(tmp_path: Path) -> None:
    save(tmp_path, ("p=a", "timed=True"), values(60, 10, 4))
    assert json.loads((tmp_path / FILE).read_text()) == {
        "overrides": ["p=a", "timed=True"],
        "objectives": {"snr_db": 60, "ms": 10, "megabytes": 4},
    }


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000], ids=["empty", "list", "keys", "deep"])
def test_what_a_sweep_has_not_written(content: str, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / FILE).write_text(content)
    with pytest.raises(AutovoiceError) as raised:
        pareto(tmp_path)
    assert raised.value.fact.startswith(f"{tmp_path / '0' / FILE}: is not what a sweep has written: ")
    assert raised.value.fix == "remove it, or sweep again"
