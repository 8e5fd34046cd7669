from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autovoice.errors import ConfigError
from autovoice.graph.wiring import Graph
from autovoice.plan import code
from autovoice.plan import planner as plan_module
from autovoice.plan.planner import Plan, built_as, changed, make_plan
from autovoice.spec import Checkpoint, Target
from autovoice.store.artefacts import Record, Store
from tests.builders import FP16, FRAMES, component, composed_graph, forget_sources, graph_of, write_tree

FLOATING = "autovoice.onnx_tools.lowering.floating.keep_float32"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


@pytest.fixture
def keys(store: Store) -> Callable[[Graph], dict[str, str]]:
    return lambda graph: {p.step.id: p.key for p in make_plan(graph, store).steps}


def differing(one: dict[str, str], two: dict[str, str]) -> set[str]:
    return {i for i in one.keys() | two.keys() if one.get(i) != two.get(i)}


def built(plan: Plan, store: Store, ids: Sequence[str] | None = None) -> dict[str, Record]:
    """Commit steps as if they had run; all of them by default."""
    records = {}
    for p in plan.steps:
        if ids is None or p.step.id in ids:
            work = store.workplace(p.key)
            (work / "out.bin").write_bytes(p.key.encode())
            records[p.step.id] = store.commit(p.key, work, p.inputs, {}, 2.0)
    names = {p.step.id: built_as(plan.graph, p.step) for p in plan.steps}
    made = {step: {"key": r.key, "inputs": r.inputs, "seconds": r.seconds} for step, r in records.items()}
    store.memory.save_last(plan.graph.spec.pipeline.name, made, names)
    return records


# -- what a key covers, on the shipped tree --------------------------------------------------------


def kinds(steps: set[str]) -> set[str]:
    return {s.rpartition(".")[2] for s in steps}


def test_the_same_tree_has_the_same_keys(keys: Callable) -> None:
    assert differing(keys(composed_graph()), keys(composed_graph())) == set()


def test_a_wider_range_changes_the_inputs_and_what_follows_and_no_engine(keys: Callable) -> None:
    changed = differing(keys(composed_graph()), keys(composed_graph("dims.frames.max=2048")))
    assert kinds(changed) == {"inputs", "reference", "verify", "end_to_end"}
    assert {s for s in changed if s.endswith("verify")} == {f"{c.name}.verify" for c in composed_graph().components}


def test_a_precision_changes_neither_exports_nor_references(keys: Callable) -> None:
    changed = differing(keys(composed_graph()), keys(composed_graph("precision=fp16")))
    assert kinds(changed) == {"lower", "build", "verify", "end_to_end"}
    assert len(changed) == 3 * 6 + 1


def test_a_precision_of_one_component_changes_its_own_steps(keys: Callable) -> None:
    changed = differing(keys(composed_graph()), keys(composed_graph("component.vocoder.precision=fp16")))
    assert changed == {"vocoder.lower", "vocoder.build", "vocoder.verify", "end_to_end"}


def test_a_gate_changes_verification_alone(keys: Callable) -> None:
    changed = differing(keys(composed_graph()), keys(composed_graph("gate.component.snr_db.fp32=61")))
    assert kinds(changed) == {"verify"}


def test_a_default_and_an_example_change_the_inputs_and_no_export(keys: Callable) -> None:
    changed = differing(keys(composed_graph()), keys(composed_graph("pipeline.inputs.sample_rate.default=22050")))
    assert kinds(changed) == {"inputs", "reference", "verify", "end_to_end"}


def test_how_to_run_changes_nothing(keys: Callable) -> None:
    overrides = ["workers=1", "keep_going=true", "paths.outputs=elsewhere", "seed=3", "task=plan"]
    assert differing(keys(composed_graph()), keys(composed_graph(*overrides))) == set()


def test_comments_and_layout_of_yaml_change_nothing(keys: Callable, tmp_path: Path) -> None:
    body = "name: fp32\ntype: float32\nlowering:\n  _target_: {}\n  level: {}\n"
    found = []
    for text in (body, "# why\n\n" + body.replace("\n", "   # so\n"), body):
        level = 2 if len(found) == 2 else 1
        write_tree(tmp_path, {"precision/own.yaml": text.format(FLOATING, level)})
        found.append(keys(composed_graph("component.vocoder.precision=own", config_dir=tmp_path)))
    assert differing(found[0], found[1]) == set()
    assert "vocoder.lower" in differing(found[0], found[2])  # a value does


# -- what a key covers, on a toy -------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Graph]]:
    """Two components, each a module of its own: toy(one="source of one.py") writes sources, gives the graph."""
    monkeypatch.syspath_prepend(tmp_path)

    def graph(**sources: str) -> Graph:
        forget_sources()
        texts = {"__init__": "", "one": "x = 1\n", "two": "from . import shared\n", "shared": "", **sources}
        write_tree(tmp_path, {f"toy_nets/{name}.py": text for name, text in texts.items()})
        one = component("one", model=Target("toy_nets.one.Net", {"a": 1, "b": 2}))
        return graph_of(one, component("two", ["one_out"], model=Target("toy_nets.two.Net")))

    yield graph
    forget_sources()


def test_an_edited_module_changes_its_own_export_and_what_follows(toy: Callable, keys: Callable) -> None:
    changed = differing(keys(toy()), keys(toy(one="x = 2\n")))
    assert {s for s in changed if s.endswith(("export", "lower", "build"))} == {"one.export", "one.lower", "one.build"}
    assert {"one.reference", "two.reference", "end_to_end"} <= changed
    assert "inputs" not in changed


def test_an_edited_import_changes_those_who_import_it(toy: Callable, keys: Callable) -> None:
    changed = differing(keys(toy()), keys(toy(shared="x = 2\n")))
    assert {s for s in changed if s.startswith("one.")} == set()
    assert {"two.export", "two.reference"} <= changed


def test_an_edit_of_what_is_only_a_type_changes_nothing(toy: Callable, keys: Callable) -> None:
    two = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import shared\n"
    assert differing(keys(toy(two=two)), keys(toy(two=two, shared="x = 2\n"))) == set()


def test_the_order_of_keyword_arguments_changes_nothing_and_their_values_do(toy: Callable, keys: Callable) -> None:
    graph = toy()
    one, two = graph.components

    def with_kwargs(**kwargs: int) -> dict[str, str]:
        return keys(graph_of(replace(one, model=replace(one.model, kwargs=kwargs)), two))

    assert differing(keys(graph), with_kwargs(b=2, a=1)) == set()
    assert "one.export" in differing(keys(graph), with_kwargs(a=1, b=3))


def test_a_checkpoint_counts_by_content(toy: Callable, keys: Callable, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    one, two = toy().components
    graph = graph_of(replace(one, checkpoint=Checkpoint(path)), two)
    path.write_bytes(b"first")
    before = keys(graph)
    os.utime(path, (1e9, 1e9))
    assert differing(before, keys(graph)) == set()
    path.write_bytes(b"other")
    changed = differing(before, keys(graph))
    assert {"one.export", "one.reference"} <= changed
    assert "two.export" not in changed


def test_a_checkpoint_counts_wherever_it_lies(toy: Callable, keys: Callable, tmp_path: Path) -> None:
    one, two = toy().components
    found = []
    for name in ("here.pth", "there.pth"):
        (tmp_path / name).write_bytes(b"same")
        found.append(keys(graph_of(replace(one, checkpoint=Checkpoint(tmp_path / name)), two)))
    assert differing(*found) == set()


@pytest.mark.parametrize(
    ("kwargs", "files"),
    [
        pytest.param({"path": "w.pt"}, {"model.path": "w.pt"}, id="file"),
        pytest.param({"path": "model"}, {"model.path/a/b.bin": "model/a/b.bin"}, id="folder"),
        pytest.param({"a": [{"_target_": "toy_nets.one.Net", "x": "w.pt"}]}, {"model.a.0.x": "w.pt"}, id="nested"),
    ],
)
def test_a_file_that_an_argument_names_counts_by_content(
    kwargs: dict, files: dict, toy: Callable, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path, {"w.pt": "first", "model/a/b.bin": "first"})
    one, two = toy().components
    graph = graph_of(replace(one, model=replace(one.model, kwargs=kwargs)), two)
    before = make_plan(graph, store)
    planned = next(p for p in before.steps if p.step.id == "one.export")
    assert planned.inputs["files"].keys() == files.keys()
    assert {n: str(p) for n, p in planned.step.files.items()} == files
    built(before, store)
    ((name, path),) = files.items()
    (tmp_path / path).write_bytes(b"other")
    reasons = why(make_plan(graph, store))
    assert reasons["one.export"] == (f"content of {name} changed",)
    assert not [s for s in reasons if s in ("two.export", "two.build")]
    (tmp_path / path).unlink()
    assert why(make_plan(graph, store))["one.export"] == (f"content of {name} changed",)


def test_arguments_whose_files_cannot_count_are_faults(
    toy: Callable, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    one, two = toy().components
    kwargs = {"weights": "pipe", "root": str(store.root.parent)}
    with pytest.raises(ConfigError) as raised:
        make_plan(graph_of(replace(one, model=replace(one.model, kwargs=kwargs)), two), store)
    assert [str(f) for f in raised.value.faults] == [
        "component.one.model.weights: 'pipe' is neither a file nor a folder\n"
        "  what comes out of it does not count: name a file, or a folder of files",
        f"component.one.model.root: the folder '{store.root.parent}' holds the store, which every build changes\n"
        "  name a folder inside it, or build elsewhere: paths.outputs=/another/folder",
    ]


def test_the_version_of_a_tool_counts_where_it_is_used(
    toy: Callable, keys: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(toy())
    real = plan_module.tool_version
    for module in (plan_module, code):
        monkeypatch.setattr(module, "tool_version", lambda name: "99.0" if name == "torch" else real(name))
    changed = differing(before, keys(toy()))
    assert {s for s in changed if s.startswith("one.")} == {f"one.{k}" for k in plan_kinds()}
    assert "inputs" not in changed


def plan_kinds() -> tuple[str, ...]:
    return ("export", "reference", "lower", "build", "verify")


def test_a_traced_size_changes_the_export_and_a_range_does_not(toy: Callable, keys: Callable) -> None:
    parts = toy().components

    def with_frames(**changes: int) -> dict[str, str]:
        return keys(graph_of(*parts, dims=[replace(FRAMES, **changes)]))

    before = with_frames()
    assert "one.export" in differing(before, with_frames(trace=7))
    assert kinds(differing(before, with_frames(min=3))) == {"inputs", "reference", "verify", "end_to_end"}


# -- faults ----------------------------------------------------------------------------------------


def test_missing_files_and_modules_at_once(toy: Callable, store: Store, tmp_path: Path) -> None:
    one, two = toy().components
    lost = replace(one, checkpoint=Checkpoint(tmp_path / "lost.pth"))
    typo = replace(two, model=Target("toy_nets.tow.Net"))
    with pytest.raises(ConfigError) as raised:
        make_plan(graph_of(lost, typo), store)
    assert [str(f) for f in raised.value.faults] == [
        f"component.one.checkpoint: {tmp_path}/lost.pth: No such file or directory\n"
        "  component.one.checkpoint=/path/to/file",
        "component.two: _target_ 'toy_nets.tow.Net': there is no module 'toy_nets.tow'\n"
        "  install its package in this environment, or put its folder on PYTHONPATH",
    ]


# -- what runs, and why ----------------------------------------------------------------------------


def why(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {p.step.id: p.why for p in plan.to_run}


def test_nothing_built_everything_to_run(toy: Callable, store: Store) -> None:
    plan = make_plan(toy(), store)
    assert len(plan.to_run) == len(plan.steps) == 12
    assert set(why(plan).values()) == {("never built",)}
    assert {p.last_seconds for p in plan.steps} == {None}


def test_everything_built_nothing_to_run(toy: Callable, store: Store) -> None:
    records = built(make_plan(toy(), store), store)
    plan = make_plan(toy(), store)
    assert plan.to_run == ()
    assert {p.step.id: p.record for p in plan.steps} == records
    assert {p.why for p in plan.steps} == {("unchanged",)}


def test_what_was_built_under_another_pipelines_name_is_reused(toy: Callable, store: Store) -> None:
    graph = toy()
    built(make_plan(graph, store), store)
    renamed = replace(graph.spec, pipeline=replace(graph.spec.pipeline, name="other"))
    assert make_plan(replace(graph, spec=renamed), store).to_run == ()


def test_a_changed_field_and_what_follows_it(toy: Callable, store: Store) -> None:
    built(make_plan(toy(), store), store)
    one, two = toy().components
    plan = make_plan(graph_of(replace(one, precision=FP16), two), store)
    assert why(plan) == {
        "one.lower": (
            "precision.name fp32 → fp16",
            "precision.type float32 → float16",
            f"lowering.target {FLOATING} → {FLOATING.replace('keep_float32', 'to_float16')}",
        ),
        "one.build": ("precision.name fp32 → fp16", "precision.type float32 → float16", "needs lower"),
        "one.verify": ("gates.snr_db 60 → 30", "needs build"),
        "end_to_end": ("gates.snr_db 50 → 20", "needs build"),
    }
    assert {p.last_seconds for p in plan.to_run} == {2.0}


def half(graph: Graph) -> Graph:
    """The first of the two components in fp16, on another backend."""
    one, two = graph.components
    return graph_of(replace(one, precision=FP16, backend=replace(one.backend, name="other")), two)


def test_reasons_compare_with_the_last_build_of_the_same_backend_and_precision(toy: Callable, store: Store) -> None:
    built(make_plan(toy(), store), store)
    built(make_plan(half(toy()), store), store)
    one, two = toy().components
    wider = replace(one, model=replace(one.model, kwargs={"a": 1, "b": 3}))
    found = why(make_plan(graph_of(wider, two), store))
    assert found["one.export"] == found["one.reference"] == ("model.kwargs.b 2 → 3",)
    assert (found["one.lower"], found["one.build"]) == (("needs export",), ("needs lower",))
    assert found["one.verify"] == ("needs build, reference",)
    in_half = why(make_plan(half(graph_of(wider, two)), store))
    assert (in_half["one.lower"], in_half["one.build"]) == (("needs export",), ("needs lower",))


def test_what_was_never_built_on_that_backend_compares_with_the_last_build(toy: Callable, store: Store) -> None:
    built(make_plan(toy(), store), store)
    found = why(make_plan(half(toy()), store))
    assert found["one.build"][0] == "backend.name onnxruntime → other"
    assert "precision.name fp32 → fp16" in found["one.lower"]


def test_an_artefact_of_another_backend_than_the_last_is_gone(toy: Callable, store: Store) -> None:
    records = built(make_plan(toy(), store), store)
    other = built(make_plan(half(toy()), store), store)
    for key in (records["one.build"].key, other["one.build"].key):
        shutil.rmtree(store.folder(key))
    assert why(make_plan(toy(), store)) == {"one.build": ("its artefact is gone from the store",)}
    assert why(make_plan(half(toy()), store)) == {"one.build": ("its artefact is gone from the store",)}


def test_what_was_collected_from_the_store_compares_with_the_last_build(toy: Callable, store: Store) -> None:
    records = built(make_plan(toy(), store), store)
    built(make_plan(half(toy()), store), store)
    shutil.rmtree(store.folder(records["one.lower"].key))
    one, two = toy().components
    wider = graph_of(replace(one, model=replace(one.model, kwargs={"a": 1, "b": 3})), two)
    assert "precision.name fp16 → fp32" in why(make_plan(wider, store))["one.lower"]


def test_edited_code_is_named(toy: Callable, store: Store) -> None:
    built(make_plan(toy(), store), store)
    found = why(make_plan(toy(shared="x = 2\n"), store))
    assert found["two.export"] == ("code edited: toy_nets.shared",)
    assert found["two.lower"] == ("needs export",)


def test_a_damaged_and_a_removed_artefact(toy: Callable, store: Store) -> None:
    records = built(make_plan(toy(), store), store)
    for p in make_plan(toy(), store).steps:
        if p.step.id == "one.lower":
            (store.folder(p.key) / "out.bin").unlink()
        if p.step.id == "two.lower":
            for path in sorted(store.folder(p.key).iterdir()):
                path.unlink()
            store.folder(p.key).rmdir()
    plan = make_plan(toy(), store)
    assert why(plan) == {
        "one.lower": ("its artefact in the store is damaged",),
        "two.lower": ("its artefact is gone from the store",),
    }
    assert {p.step.id: p.key for p in plan.steps} == {i: r.key for i, r in records.items()}


def test_of_a_component(toy: Callable, store: Store) -> None:
    plan = make_plan(toy(), store)
    assert [p.step.id for p in plan.of("two")] == [f"two.{k}" for k in plan_kinds()]
    assert [p.step.id for p in plan.of("")] == ["inputs", "end_to_end"]


def inputs(**parts: object) -> dict:
    return {"fields": {}, "tools": {}, "files": {}, "code": {}, **parts}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param({"fields": {"a": 1}}, {"fields": {"a": 1}}, [], id="same"),
        pytest.param(
            {"fields": {"dims": {"frames": {"max": 512}}}},
            {"fields": {"dims": {"frames": {"max": 4096}}}},
            ["dims.frames.max 512 → 4096"],
            id="nested",
        ),
        pytest.param({"fields": {"a": None}}, {"fields": {"a": ""}}, ["a none → ''"], id="null_and_empty"),
        pytest.param({"fields": {"a": [1, 2]}}, {"fields": {"a": [2, 1]}}, ["a [1, 2] → [2, 1]"], id="list"),
        pytest.param({"fields": {}}, {"fields": {"kwargs": {"a": 1}}}, ["kwargs.a none → 1"], id="added"),
        pytest.param(
            {"fields": {"kwargs": {}}}, {"fields": {"kwargs": {"a": 1}}}, ["kwargs.a none → 1"], id="first_of_a_mapping"
        ),
        pytest.param({"fields": {"b": {"a": 1}}}, {"fields": {"b": {}}}, ["b.a 1 → none"], id="removed"),
        pytest.param({"tools": {"torch": "2.1"}}, {"tools": {"torch": "2.2"}}, ["torch 2.1 → 2.2"], id="tool"),
        pytest.param(
            {"files": {"checkpoint": "0a"}},
            {"files": {"checkpoint": "0b"}},
            ["content of checkpoint changed"],
            id="file",
        ),
        pytest.param(
            {"code": {"m.b": "0", "m.a": "0", "m.c": "0"}},
            {"code": {"m.b": "1", "m.a": "1", "m.c": "0"}},
            ["code edited: m.a, m.b"],
            id="code",
        ),
        pytest.param({"code": {"m": "0"}}, {"code": {"m": "0", "n": "1"}}, ["code edited: n"], id="new_code"),
    ],
)
def test_changes_are_sentences_old_to_new(old: dict, new: dict, expected: list[str]) -> None:
    assert changed(inputs(**old), inputs(**new)) == expected


def test_sentences_compare_with_what_was_kept_as_json(toy: Callable, store: Store) -> None:
    for planned in make_plan(toy(), store).steps:
        kept = json.loads(json.dumps(planned.inputs))
        assert changed(kept, planned.inputs) == []
