"""`task=sensitivity` and `task=search` as a user has them: which nodes 8 bits hurt, and a policy that meets the gate.

The pipeline is one matrix product, `opener`, and a component two of whose six layers do not survive 8 bits, `narrow`
and `edge`: the channel that counts is a thousandth of the others and has weights a thousand times theirs.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from tests.onnx_models import model, node, saved, value

if TYPE_CHECKING:
    from tests.conftest import Project

MODULE = '''"""Features to a mix of them."""

import torch
from torch import nn


class Wounded(nn.Module):
    """features float32 [n, length, 8] → mixed float32 [n, 8, length]."""

    def __init__(self, width):
        super().__init__()
        self.head = nn.Linear(8, width)
        self.first = nn.Linear(width, width)
        self.narrow = nn.Linear(width, width // 4)
        self.wide = nn.Linear(width // 4, width)
        self.second = nn.Linear(width, width)
        self.edge = nn.Conv1d(width, 8, 3, padding=1)
        with torch.no_grad():
            wound(self.first, self.narrow)
            wound(self.second, self.edge)

    def forward(self, features):
        x = torch.relu(self.first(torch.relu(self.head(features))))
        x = torch.relu(self.wide(torch.relu(self.narrow(x))))
        return self.edge(torch.relu(self.second(x)).transpose(1, 2))


def wound(before, layer):
    """A channel a thousand times too small, and weights as much too large: neither fits among the others."""
    before.weight[0] /= 1000
    before.bias[0] = 0.0005
    layer.weight[:, 0] *= 1000
'''
OWN = {key: f"${{{key}}}" for key in ("precision", "backend", "calibration", "gate")}
INPUTS = {"raw": {"dtype": "float32", "shape": ["n", "length", 8]}}
GAINS = {"dtype": "float32", "shape": ["n", 8]}
#: an ONNX file of one matrix product
OPENER = {
    "onnx": "weights/opener.onnx",
    "inputs": {"x": "raw"},
    "outputs": {"features": {"onnx_name": "y", "dtype": "float32", "shape": ["n", "length", 8]}},
    **OWN,
}
WOUNDED = {
    "model": {"_target_": "tones.wounded.Wounded", "width": 96},
    "inputs": ["features"],
    "outputs": {"mixed": {"dtype": "float32", "shape": ["n", 8, "length"]}},
    **OWN,
}
#: an ONNX file that holds nothing to quantize
SHAPER = {
    "onnx": "weights/shaper.onnx",
    "inputs": {"x": "gains"},
    "outputs": {"shaped": {"onnx_name": "y", "dtype": "float32", "shape": ["n", 8]}},
    **OWN,
}
#: an ONNX file of two inputs
JOIN = {
    "onnx": "weights/join.onnx",
    "inputs": ["features", "shaped"],
    "outputs": {"joined": {"dtype": "float32", "shape": ["n", "length", 8]}},
    **OWN,
}
UNTOUCHED = {"quantize": {"op_types": []}}
HARMFUL = ["edge.weight", "narrow.weight"]
LAYERS = {*HARMFUL, "head.weight", "first.weight", "wide.weight", "second.weight"}
#: multiply-accumulates of each layer a frame
MACS = {
    "head.weight": 8 * 96,
    "first.weight": 96 * 96,
    "narrow.weight": 96 * 24,
    "wide.weight": 24 * 96,
    "second.weight": 96 * 96,
    "edge.weight": 96 * 8 * 3,
}
INT8 = ("precision=int8", "calibration=synthetic")
GATE = "gate.component.snr_db.int8={}"
TOLD = re.compile(
    r"^(?:# )?(\w+): (\d+) of (\d+) nodes stay in floating point, ([\d.]+)% of the work is int8: "
    r"(\S+) dB → (\S+) dB \((min|opt|max|between)\), (\d+) policies measured$",
    re.MULTILINE,
)
PUBLISHED = re.compile(r"(\S+/manifest\.json)$", re.MULTILINE)


@pytest.fixture(scope="module")
def wounds(toy_project: Project) -> Project:
    """The pipeline; what one test builds the next one reuses. `found.yaml` and others appear in conf/experiment."""
    package = toy_project.root / "src" / "tones"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "wounded.py").write_text(MODULE)
    (toy_project.root / "conf" / "experiment").mkdir(exist_ok=True)
    weight = np.random.default_rng(3).standard_normal((8, 8), dtype=np.float32) / 3
    ends = [value("x", "n", "length", 8)], [value("y", "n", "length", 8)]
    saved(model([node("MatMul", "x w", "y")], *ends, {"w": weight}), toy_project.root / "weights" / "opener.onnx")
    return toy_project.pipeline("wounds", {"opener": OPENER, "wounded": WOUNDED}, INPUTS)


def search(project: Project, name: str, gate: float, *more: str) -> str:
    """What a search prints that writes the experiment `name`."""
    return project.ok(*INT8, GATE.format(gate), "task=search", f"output=conf/experiment/{name}.yaml", *more)


def experiment(project: Project, name: str) -> str:
    return (project.root / "conf" / "experiment" / f"{name}.yaml").read_text()


def policy(text: str, component: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["component"][component]["quantize"]
    return found


def told(text: str) -> dict[str, tuple[str, ...]]:
    """{component: (kept, of, share, before, after, point, policies)}."""
    return {m[0]: m[1:] for m in TOLD.findall(text)}


def searched(project: Project, component: str, gate: float) -> dict[str, Any]:
    """The artefact of a search."""
    for record in project.store.glob("objects/*/*/search.json"):
        fields = json.loads((record.parent / "record.json").read_bytes())["inputs"]["fields"]
        wires = {o["wire"] for o in fields["outputs"].values()}
        if fields["gates"]["snr_db"] == gate and wires == {{"wounded": "mixed", "opener": "features"}[component]}:
            data: dict[str, Any] = json.loads(record.read_bytes())
            return data
    raise AssertionError(f"no search of {component} at {gate} dB")


def worst(project: Project, out: str, component: str) -> tuple[float, dict[str, Any]]:
    """The smallest SNR that a build's manifest tells, and how many nodes run in which type."""
    data = json.loads((project.root / PUBLISHED.findall(out)[-1]).read_bytes())
    found = next(c for c in data["components"] if c["name"] == component)
    snr = min(p["snr_db"] for wires in found["parity"].values() for p in wires.values())
    return snr, found["precision"]["delivered"]["heavy"]


def rankings(project: Project, out: str) -> list[list[dict[str, Any]]]:
    """What the sensitivity.json that a command names hold."""
    return [json.loads((project.root / p).read_bytes()) for p in re.findall(r"^(\S+/sensitivity\.json)$", out, re.M)]


def columns(out: str, component: str) -> list[str]:
    """The header of a component's table, without the component's name."""
    line = next(line for line in out.splitlines() if re.match(rf" {component}  +weight", line))
    return re.split(r"  +", line.strip())[1:]


# -- sensitivity ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refused(wounds: Project) -> str:
    """What the plain build says of its gate."""
    return wounds.fails(*INT8, GATE.format(30))


@pytest.fixture(scope="module")
def ranked(wounds: Project, refused: str) -> str:
    return wounds.ok(*INT8, "task=sensitivity")


def test_every_node_is_printed_worst_first(wounds: Project, ranked: str) -> None:
    opener, wounded = rankings(wounds, ranked)
    assert len(opener) == 1
    assert {w for r in wounded for w in r["weights"]} == LAYERS
    assert [r["snr_db"] for r in wounded] == sorted(r["snr_db"] for r in wounded)
    assert sorted(w for r in wounded[:2] for w in r["weights"]) == HARMFUL
    table = ranked[ranked.index("\n wounded ") :].splitlines()[2:8]
    total = sum(r["macs"] for r in wounded)
    for line, r in zip(table, wounded, strict=True):
        row = [r["node"], *r["weights"], f"{r['snr_db']:.1f} dB", f"{r['macs'] / total:.1%}", "yes"]
        assert re.split(r"  +", line.strip()) == row


def test_the_ranking_tells_what_each_node_is(wounds: Project, ranked: str) -> None:
    _, wounded = rankings(wounds, ranked)
    keys = {"node", "op_type", "weights", "snr_db", "pipeline_snr_db", "macs", "chosen"}
    assert all(r.keys() == keys and r["chosen"] is True for r in wounded)
    assert {r["weights"][0]: r["op_type"] for r in wounded} == dict.fromkeys(LAYERS, "MatMul") | {"edge.weight": "Conv"}
    frames = {r["macs"] / MACS[r["weights"][0]] for r in wounded}
    assert len(frames) == 1
    assert frames.pop().is_integer()
    assert max(r["snr_db"] for r in wounded[:2]) < 30 < 45 < min(r["snr_db"] for r in wounded[2:])


def test_damage_at_the_end_is_told_where_something_follows(wounds: Project, ranked: str) -> None:
    opener, wounded = rankings(wounds, ranked)
    assert columns(ranked, "opener") == ["weight", "alone", "at the end", "work", "in the policy"]
    assert columns(ranked, "wounded") == ["weight", "alone", "work", "in the policy"]
    assert isinstance(opener[0]["pipeline_snr_db"], float)
    assert f" {opener[0]['pipeline_snr_db']:.1f} dB " in ranked
    assert opener[0]["pipeline_snr_db"] != opener[0]["snr_db"]
    assert {r["pipeline_snr_db"] for r in wounded} == {None}


def test_samples_of_a_component_tell_nothing_of_the_end(wounds: Project, ranked: str) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        wounds.root / "data.npz",
        **{
            "opener/x": rng.standard_normal((12, 1, 7, 8), dtype=np.float32),
            "wounded/features": rng.standard_normal((12, 1, 7, 8), dtype=np.float32),
        },
    )
    out = wounds.ok("precision=int8", "calibration=npz", "calibration.files=data.npz", "task=sensitivity")
    for name, ranking in zip(("opener", "wounded"), rankings(wounds, out), strict=True):
        assert columns(out, name) == ["weight", "alone", "work", "in the policy"]
        assert {r["pipeline_snr_db"] for r in ranking} == {None}
    assert {r["weights"][0]: r["macs"] for r in ranking} == {w: 7 * m for w, m in MACS.items()}


def test_a_second_run_executes_nothing(wounds: Project, ranked: str) -> None:
    before = wounds.runs()
    again = wounds.ok(*INT8, "task=sensitivity")
    assert wounds.runs() == before
    assert again == ranked[ranked.index(" opener  ") :]


def test_targets_select(wounds: Project, ranked: str) -> None:
    before = wounds.runs()
    out = wounds.ok(*INT8, "task=sensitivity", "targets=[opener]")
    assert out == ranked[ranked.index(" opener  ") : ranked.index(" wounded  ")]
    assert wounds.runs() == before
    err = wounds.fails(*INT8, "task=sensitivity", "targets=[wonded]")
    assert err == ("error: targets: unknown component 'wonded'\n  did you mean 'wounded'? available: opener, wounded\n")


def test_what_the_policy_leaves_out_is_ranked_too(wounds: Project, ranked: str) -> None:
    out = wounds.ok(*INT8, "task=sensitivity", "targets=[wounded]", "+component.wounded.quantize.exclude=[edge.*]")
    [ranking] = rankings(wounds, out)
    assert [{**r, "chosen": True} for r in ranking] == rankings(wounds, ranked)[1]
    assert {r["weights"][0] for r in ranking if not r["chosen"]} == {"edge.weight"}
    assert re.search(r"edge\.weight .* no$", out, re.MULTILINE)


NOTHING = "precision=int8, and quantize.op_types of the component not empty"


@pytest.mark.parametrize("task", ["sensitivity", "search"])
def test_nothing_is_quantized(wounds: Project, task: str) -> None:
    chosen = (f"task={task}", "output=conf/experiment/nothing.yaml")
    assert wounds.fails(*chosen) == f"error: targets: no component quantizes anything\n  {NOTHING}\n"
    err = wounds.fails(*chosen, *INT8, "targets=[wounded]", "+component.wounded.quantize.op_types=[]")
    assert err == f"error: targets: wounded: quantizes nothing\n  {NOTHING}\n"
    assert not (wounds.root / "conf" / "experiment" / "nothing.yaml").exists()


# -- search ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(wounds: Project, ranked: str) -> str:
    return search(wounds, "found", 30)


def test_everything_in_8_bits_does_not_meet_the_gate(refused: str) -> None:
    fact = (
        r"error: wounded\.verify: snr_db (-?\d+\.\d+) of 'mixed' at \w+ \[\d, 8, \d+\], the gate asks ≥ 30\n  .*search"
    )
    assert float(re.match(fact, refused)[1]) < 10  # type: ignore[index]


def test_exactly_the_harmful_nodes_are_excluded(wounds: Project, found: str) -> None:
    text = experiment(wounds, "found")
    every = {"op_types": ["Conv", "MatMul", "Gemm"], "include": [], "exclude": [], "first": True, "last": True}
    assert policy(text, "wounded") == every | {"exclude": HARMFUL}
    assert policy(text, "opener") == every
    assert yaml.safe_load(text).keys() == {"component"}
    assert text.startswith("# @package _global_\n# autovoice --config-dir conf ")
    assert "\n# Found by task=search:\n# opener: 0 of 1 nodes" in text


def test_the_search_says_what_it_found(wounds: Project, refused: str, found: str) -> None:
    lines = told(found)
    assert told(experiment(wounds, "found")) == lines
    kept, every, share, before, after, point, policies = lines["wounded"]
    result = searched(wounds, "wounded", 30)
    assert (kept, every) == ("2", "6")
    assert float(share) == pytest.approx(100 * (1 - sum(MACS[w] for w in HARMFUL) / sum(MACS.values())), abs=0.06)
    assert f"snr_db {result['before']['snr_db']:.6g} of 'mixed'" in refused
    assert (before, after) == (f"{result['before']['snr_db']:.1f}", f"{result['worst']['snr_db']:.1f}")
    assert point == result["worst"]["point"]
    assert int(policies) == len(result["tried"]) <= 10
    assert lines["opener"][:3] == ("0", "1", "100.0")


def test_less_would_not_have_met_the_gate(wounds: Project, found: str) -> None:
    """What was measured says so of each of the two."""
    result = searched(wounds, "wounded", 30)
    met = {frozenset(t["excluded"]): t["met"] for t in result["tried"]}
    assert met[frozenset(result["excluded"])]
    assert len(result["excluded"]) == 2
    assert [met[frozenset({n})] for n in result["excluded"]] == [False, False]


def test_the_policy_found_builds_and_is_as_good_as_told(wounds: Project, found: str) -> None:
    out = wounds.ok(*INT8, GATE.format(30), "experiment=found")
    for name, heavy in (("wounded", {"int8": 4, "float32": 2}), ("opener", {"int8": 1})):
        snr, delivered = worst(wounds, out, name)
        assert snr == pytest.approx(searched(wounds, name, 30)["worst"]["snr_db"], abs=1e-3)
        assert delivered == heavy
    assert re.search(rf"\n wounded +int8 +int8 4/6 Conv/MatMul .* {told(found)['wounded'][4]} dB ≥ 30 ", out)


def test_a_second_search_executes_nothing_and_writes_the_same(wounds: Project, found: str) -> None:
    before, text = wounds.runs(), experiment(wounds, "found")
    (wounds.root / "conf" / "experiment" / "found.yaml").unlink()
    out = search(wounds, "found", 30)
    assert wounds.runs() == before
    assert experiment(wounds, "found") == text
    assert out == found[found.index("opener: ") :]


def test_a_search_from_what_was_found_excludes_nothing_more(wounds: Project, found: str) -> None:
    out = search(wounds, "further", 30, "experiment=found", "targets=[wounded]")
    assert policy(experiment(wounds, "further"), "wounded") == policy(experiment(wounds, "found"), "wounded")
    kept, every, share, before, after, *_ = told(out)["wounded"]
    assert (kept, every, share) == ("0", "4", told(found)["wounded"][2])
    assert before == after == told(found)["wounded"][4]


def test_targets_select_what_is_written(wounds: Project, found: str) -> None:
    search(wounds, "one", 30, "targets=[wounded]")
    data = yaml.safe_load(experiment(wounds, "one"))["component"]
    assert data == {"wounded": {"quantize": policy(experiment(wounds, "found"), "wounded")}}


def test_a_gate_that_is_met_excludes_nothing(wounds: Project, found: str) -> None:
    loose = [f"gate.component.{k}.int8={v}" for k, v in LOOSE.items()]
    out = search(wounds, "loose", -90, *loose)
    for name, count in (("opener", 1), ("wounded", 6)):
        assert policy(experiment(wounds, "loose"), name)["exclude"] == []
        kept, every, share, before, after, *_ = told(out)[name]
        assert (kept, every, share, before) == ("0", str(count), "100.0", after)
    assert told(out)["wounded"][3] == told(found)["wounded"][3]


LOOSE = {"cosine": -1, "pooled_cosine": -1, "relative_l2": 99}


def test_where_8_bits_never_meet_the_gate_all_is_float32(wounds: Project, ranked: str) -> None:
    out = search(wounds, "never", 80)
    text = experiment(wounds, "never")
    for name, count in (("opener", 1), ("wounded", 6)):
        assert policy(text, name)["op_types"] == []
        assert told(out)[name][:3] == (str(count), str(count), "0.0")
    built = wounds.ok(*INT8, GATE.format(80), "experiment=never")
    for name, count in (("opener", 1), ("wounded", 6)):
        snr, delivered = worst(wounds, built, name)
        assert snr == pytest.approx(searched(wounds, name, 80)["worst"]["snr_db"], abs=1e-3)
        assert snr > 80
        assert delivered == {"float32": count}
        assert re.search(rf"\n {name} +int8 +fp32.*, by policy ", built)


# -- mistakes -------------------------------------------------------------------------------------------

WRONG_OUTPUTS = {
    "none": (
        [],
        "output: task=search needs a file to write to",
        "output=my/conf/experiment/quantized.yaml; then experiment=quantized selects it",
    ),
    "another suffix": (["output=conf/found.yml"], "output: conf/found.yml is no .yaml file", "output=conf/found.yaml"),
    "no suffix": (["output=conf/found"], "output: conf/found is no .yaml file", "output=conf/found.yaml"),
    "no folder": (
        ["output=nowhere/found.yaml"],
        "output: nowhere/found.yaml cannot be written: there is no folder nowhere",
        "mkdir -p nowhere",
    ),
}


@pytest.mark.parametrize("name", WRONG_OUTPUTS)
def test_an_output_that_cannot_be(wounds: Project, name: str) -> None:
    """Said before anything runs."""
    given, fact, fix = WRONG_OUTPUTS[name]
    before = wounds.runs()
    assert wounds.fails(*INT8, "task=search", *given) == f"error: {fact}\n  {fix}\n"
    assert wounds.runs() == before
    assert not (wounds.root / "nowhere").exists()


# -- other pipelines, other data, other gates ------------------------------------------------------------------------


def other(wounds: Project, tmp_path: Path, name: str, components: Mapping[str, Any]) -> Project:
    """A copy at another pipeline: what was exported is reused."""
    shutil.copytree(wounds.root, tmp_path / "project", symlinks=True, copy_function=shutil.copy2)
    project = replace(wounds, root=tmp_path / "project")
    rows = value("x", "rows", 8), value("y", "rows", 8)
    saved(model([node("Tanh", "x", "y")], [rows[0]], [rows[1]]), project.root / "weights" / "shaper.onnx")
    nodes = [node("Unsqueeze", "shaped axes", "s"), node("Mul", "features s", "joined")]
    ins = [value("features", "n", "length", 8), value("shaped", "n", 8)]
    made = model(nodes, ins, [value("joined", "n", "length", 8)], {"axes": np.array([1])})
    saved(made, project.root / "weights" / "join.onnx")
    return project.pipeline(name, components, INPUTS | {"gains": GAINS})


def test_a_pipeline_of_two_ends(wounds: Project, ranked: str, tmp_path: Path) -> None:
    components = {"opener": OPENER, "wounded": WOUNDED, "shaper": SHAPER | UNTOUCHED}
    out = other(wounds, tmp_path, "ends", components).ok(*INT8, "task=sensitivity")
    assert columns(out, "opener") == ["weight", "alone", "at the end", "work", "in the policy"]


def test_what_follows_reads_from_elsewhere_too(wounds: Project, ranked: str, tmp_path: Path) -> None:
    components = {"opener": OPENER, "shaper": SHAPER | UNTOUCHED, "join": JOIN | UNTOUCHED}
    out = other(wounds, tmp_path, "diamond", components).ok(*INT8, "task=sensitivity", "targets=[opener]")
    assert columns(out, "opener") == ["weight", "alone", "at the end", "work", "in the policy"]


def test_a_component_with_nothing_to_rank_beside_others(wounds: Project, ranked: str, tmp_path: Path) -> None:
    components = {"opener": OPENER, "shaper": SHAPER, "join": JOIN}
    project = other(wounds, tmp_path, "idle", components)
    assert columns(project.ok(*INT8, "task=sensitivity"), "opener")


def test_all_of_four_samples_are_tried(wounds: Project, ranked: str) -> None:
    wounds.ok(*INT8, "calibration.source.samples=4", "task=sensitivity", "targets=[opener]")
    results = [r["result"]["samples"] for r in wounds.records() if r["inputs"]["kind"] == "sensitivity"]
    assert set(results) == {4}


@pytest.mark.parametrize("task", ["sensitivity", "search"])
def test_ranges_that_are_given(wounds: Project, ranked: str, task: str) -> None:
    place = wounds.root / "given"
    place.mkdir(exist_ok=True)
    for made in wounds.store.glob("objects/*/*/ranges.json"):
        data = json.loads(made.read_bytes())
        shutil.copy(made, place / ("opener.json" if len(data["ranges"]) < 5 else "wounded.json"))
    given = ("precision=int8", "calibration=none", "calibration.ranges=given")
    err = wounds.fails(*given, f"task={task}", "output=conf/experiment/given.yaml")
    assert "component.opener.calibration" in err.splitlines()[0]
    assert "samples" in err


def test_a_gate_that_float32_does_not_meet_is_told(wounds: Project, ranked: str) -> None:
    chosen = ("task=search", "output=conf/experiment/beyond.yaml")
    assert "error: no exclusion meets the gate: wounded: " in wounds.fails(*INT8, GATE.format(199), *chosen)
    assert not (wounds.root / "conf" / "experiment" / "beyond.yaml").exists()


def test_the_command_told_can_be_run(wounds: Project, found: str) -> None:
    command = experiment(wounds, "found").splitlines()[1].removeprefix("# autovoice ")
    result = replace(wounds, given=()).run(*command.split(), "task=plan")
    assert result.code == 0, result.err


def test_a_gate_on_waveforms_is_met_too(fresh: Project) -> None:
    (fresh.root / "conf" / "experiment").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    weights = {w: rng.standard_normal((n, 8, 3), dtype=np.float32) / 5 for w, n in (("w", 8), ("v", 1))}
    nodes = [node("Conv", "x w", "a", pads=[1, 1]), node("Relu", "a", "b"), node("Conv", "b v", "c", pads=[1, 1])]
    made = model(
        [*nodes, node("Squeeze", "c axes", "y")],
        [value("x", "n", 8, "t")],
        [value("y", "n", "t")],
        weights | {"axes": np.array([1])},
    )
    saved(made, fresh.root / "weights" / "singer.onnx")
    tensor = {"dtype": "float32", "shape": ["n", "1024*length"], "audio": 22050}
    singer = {"onnx": "weights/singer.onnx", "inputs": {"x": "bands"}, "outputs": {"sung": {"onnx_name": "y"} | tensor}}
    inputs = {"bands": {"dtype": "float32", "shape": ["n", 8, "1024*length"]}}
    project = fresh.pipeline("singer", {"singer": singer | OWN}, inputs)
    gate = "gate.component.lsd_db.int8=0.001"
    search(project, "sung", 20, gate)
    project.ok(*INT8, GATE.format(20), gate, "experiment=sung")
