"""Wrong configuration: the message in full, before anything runs and with nothing written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.conftest import MEMORY

if TYPE_CHECKING:
    from tests.conftest import Project

WIRES = "energy, features, gains, limited, present, signal, tokens"
CASES = {
    "component": (
        ["component.sinth.precision=half"],
        "component.sinth.precision: no key 'sinth' in component",
        "did you mean 'synth'? available: embedder, limiter, synth; "
        "a new one is added with +component.sinth.precision=…",
    ),
    "target": (
        ["targets=[sinth]"],
        "targets: unknown component 'sinth'",
        "did you mean 'synth'? available: embedder, limiter, synth",
    ),
    "variant": (
        ["component/synth=plian"],
        "component/synth=plian: no such option in group 'component/synth' (asked for by pipeline/chime)",
        "did you mean 'plain'? available: plain, soft",
    ),
    "pipeline": (
        ["pipeline=chimes"],
        "pipeline=chimes: no such option in group 'pipeline' (asked for by config)",
        "did you mean 'chime'? available: chime, faulty, sentence_encoder, voice_conversion",
    ),
    "name for a list": (
        ["targets=synth"],
        "targets: must be a list, got 'synth'",
        "targets=[synth]",
    ),
    "no option": (
        ["component/synth="],
        "component/synth=: no such option in group 'component/synth' (asked for by pipeline/chime)",
        "available: plain, soft",
    ),
    "tensor": (
        ["component.synth.inputs=[featurs,gains]"],
        "component.synth.inputs.featurs: no one produces 'featurs'",
        f"did you mean 'features'? available: {WIRES}",
    ),
    "pipeline output": (
        ["+pipeline.outputs=[limitd]"],
        "pipeline.outputs: no component produces 'limitd'",
        "did you mean 'limited'? available: energy, features, limited, signal",
    ),
    "dim": (
        ["dims.lenght.max=3"],
        "dims.lenght.max: no key 'lenght' in dims",
        "did you mean 'length'? available: length, n; a new one is added with +dims.lenght.max=…",
    ),
    "dim of a component": (
        ["+component.synth.dims.lenght.max=8"],
        "component.synth.dims.lenght: unknown dim 'lenght'",
        "did you mean 'length'? available: length, n",
    ),
    "precision": (
        ["precision=hafl"],
        "precision=hafl: no such option in group 'precision' (asked for by config)",
        "did you mean 'half'? available: bf16, fp16, fp32, fp8, half, int8, int8_entropy, int8_minmax, tf32",
    ),
    "precision of a component": (
        ["component.synth.precision=hafl"],
        "component.synth.precision: unknown precision 'hafl'",
        "did you mean 'half'? available: bf16, fp16, fp32, fp8, half, int8, int8_entropy, int8_minmax, tf32",
    ),
    "backend": (
        ["backend=onnxrutime"],
        "backend=onnxrutime: no such option in group 'backend' (asked for by config)",
        "did you mean 'onnxruntime'? available: auto, onnxruntime, tensorrt, tensorrt_rtx, torch",
    ),
    "backend of a component": (
        ["component.synth.backend=onnxrutime"],
        "component.synth.backend: unknown backend 'onnxrutime'",
        "did you mean 'onnxruntime'? available: auto, onnxruntime, tensorrt, tensorrt_rtx, torch",
    ),
    "gate of a component": (
        ["component.synth.gate=loose"],
        "component.synth.gate: unknown gate 'loose'",
        "available: chime, default, encoder, report, strict",
    ),
    "calibration": (
        ["component.synth.calibration=singing"],
        "component.synth.calibration: unknown calibration 'singing'",
        "available: none, npy, npz, speech, synthetic",
    ),
    "task": (
        ["task=biuld"],
        "task: there is no task 'biuld'",
        "did you mean 'build'? available: benchmark, build, calibration_data, convert, doctor, explain, gc, inspect, "
        "plan, run, scaffold, search, sensitivity",
    ),
    "key typo": (
        ["+component.synth.modle=3"],
        "component.synth.modle: unknown key 'modle'",
        "did you mean 'model'? available: backend, calibration, checkpoint, dims, export, gate, inputs, keep, model, "
        "on_mismatch, only_if_faster, onnx, options, outputs, precision, quantize, seed",
    ),
    "key typo in a dim": (
        ["+dims.length.mxa=3"],
        "dims.length.mxa: unknown key 'mxa'",
        "did you mean 'max'? available: buckets, formula, max, min, multiple, opt, profile, trace",
    ),
    "key typo at the top": (
        ["+kep_going=true"],
        "kep_going: unknown key 'kep_going'",
        "did you mean 'keep_going'?",
    ),
    "key typo in paths": (
        ["+paths.output=elsewhere"],
        "paths.output: unknown key 'output'",
        "did you mean 'outputs'? available: engines, outputs",
    ),
    "key below null": (
        ["component.embedder.checkpoint.path=weights/e.pt"],
        "component.embedder.checkpoint.path: component.embedder.checkpoint has no keys below it",
        "it is None; give it whole: component.embedder.checkpoint='{path: …}'",
    ),
    "backend without a name": (
        ["backend._target_=chime.engine.Engine", "task=plan"],
        "component.embedder.backend, component.synth.backend, component.limiter.backend: "
        "backend class chime.engine.Engine is not registered, so its engines could not be loaded",
        'register the class: [project.entry-points."autovoice.backends"] onnxruntime = "package.module:Class"',
    ),
    "sweep that cannot be parsed": (
        ["-m", "precision=fp32,[fp16"],
        "precision=fp32,[fp16: has characters that need quotes, Hydra's own inside those for the shell",
        "'precision=\"fp32,[fp16\"'",
    ),
    "override that cannot be parsed": (
        ["precision=[fp16"],
        "precision=[fp16: opens with [ and is not closed",
        "close it with ], and put the whole override into quotes for the shell; as text: 'precision=\"[fp16\"'",
    ),
    "key beside a sweep": (
        ["-m", "precision=fp32,half", "component.sinth.seed=1"],
        "component.sinth.seed: no key 'sinth' in component",
        "did you mean 'synth'? available: embedder, limiter, synth; a new one is added with +component.sinth.seed=…",
    ),
    "interpolation": (
        ["component.synth.precision=${precsion}"],
        "component.synth.precision: Interpolation key 'precsion' not found",
        "every ${…} names a value of this tree",
    ),
    "two producers": (
        ["+component.synth.outputs.features={dtype:float32,shape:[n,length]}"],
        "component.synth.outputs.features: 'features' is already produced by component.embedder",
        "rename one of the two",
    ),
    "a producer of an input": (
        ["+component.synth.outputs.gains={dtype:float32,shape:[n,length]}"],
        "component.synth.outputs.gains: 'gains' is already produced by pipeline.inputs",
        "rename one of the two",
    ),
    "cycle": (
        ["component.embedder.inputs={ids:tokens,present:signal}"],
        "component.embedder.inputs: a cycle: embedder → synth → embedder",
        "one of these must read another wire",
    ),
    "unbound symbol": (
        ['component.synth.outputs.signal.shape=[n,"2*lenght"]'],
        "component.synth.outputs.signal.shape: unbound symbol 'lenght'",
        "did you mean 'length'? available: length, n",
    ),
    "half a size": (
        ["dims.length.max=12.5"],
        "dims.length.max: must be a whole number, got 12.5",
        'a dim is {min: 1, opt: 2, max: 3}, or a formula such as "2*frames"',
    ),
    "min above opt": (
        ["dims.length.min=9", "dims.length.opt=3"],
        "dims.length: needs min ≤ opt ≤ max, got min 9, opt 3, max 12",
        "set dims.length.min, dims.length.opt, dims.length.max in order",
    ),
    "opt above max": (
        ["dims.length.opt=13"],
        "dims.length: needs min ≤ opt ≤ max, got min 2, opt 13, max 12",
        "set dims.length.min, dims.length.opt, dims.length.max in order",
    ),
    "zero": (
        ["dims.length.min=0"],
        "dims.length: is 0 at min",
        "every dim is at least 1: raise dims.length.min",
    ),
    "narrower profile": (
        ["+component.synth.dims.length.max=8"],
        "component.synth.dims.length: length 2 … 8 is narrower than 'features' sends, 2 … 12",
        "widen it, or dims.length.min=2 dims.length.max=8 for the whole pipeline",
    ),
    "dtype on a wire": (
        ["~component.synth.inputs", "+component.synth.inputs={features:{wire:features,dtype:float16},gains:gains}"],
        "component.synth.inputs.features: expects float16, 'features' is float32",
        "a component may convert it; wires never do",
    ),
    "layout on a wire": (
        ["~component.synth.inputs", "+component.synth.inputs={features:{shape:[n,8,length]},gains:gains}"],
        "component.synth.inputs.features: expects layout [n, 8, length], 'features' is [n, length, 8]",
        "a component may transpose it; wires never do",
    ),
    "list made a mapping": (
        ["component.synth.inputs={features:features,gains:gains}"],
        "Error merging override component.synth.inputs={features:features,gains:gains}",
        "Cannot merge DictConfig with ListConfig; to replace it whole: "
        "'~component.synth.inputs' '+component.synth.inputs={features:features,gains:gains}'",
    ),
    "precision the backend lacks": (
        ["component.synth.precision=bf16"],
        "component.synth.precision: onnxruntime cannot run bf16 (bfloat16)",
        "it runs float16, float32, int8: precision=fp32 (for one: component.<name>.precision=fp32)",
    ),
    "no threshold": (
        ["~gate.component.snr_db.fp32"],
        "gate.component.snr_db: has no threshold for precision 'fp32'",
        "+gate.component.snr_db.fp32=…; it has bf16, fp16, fp8, half, int8",
    ),
    "no values to try": (
        ["~pipeline.inputs.tokens.example"],
        "pipeline.inputs.tokens: int64 without a `default:` or an `example:`",
        "parity needs values of a sensible range: example: {integers: [low, high]}",
    ),
    "no module": (
        ["component.synth.model._target_=chime.snyth.Synth"],
        "component.synth: _target_ 'chime.snyth.Synth': there is no module 'chime.snyth'",
        "install its package in this environment, or put its folder on PYTHONPATH",
    ),
    "no package": (
        ["component.synth.model._target_=absent_package.Synth"],
        "component.synth: _target_ 'absent_package.Synth': there is no module 'absent_package'",
        "install its package in this environment, or put its folder on PYTHONPATH",
    ),
    "neither module nor file": (
        ["component.synth.model=null"],
        "component.synth: needs a `model:` or an `onnx:`",
        "model: {_target_: package.module.Class}, or onnx: path",
    ),
    "both module and file": (
        ["+component.synth.onnx=weights/limiter.onnx"],
        "component.synth: has both a `model:` and an `onnx:`",
        "it is made from one of them: '~component.synth.model', or '~component.synth.onnx'",
    ),
    "no checkpoint": (
        ["component.synth.checkpoint=weights/absent.pt"],
        "component.synth.checkpoint: weights/absent.pt: No such file or directory",
        "component.synth.checkpoint=/path/to/file",
    ),
    "no ONNX file": (
        ["component.limiter.onnx=weights/absent.onnx"],
        "component.limiter.onnx: weights/absent.onnx: No such file or directory",
        "component.limiter.onnx=/path/to/file",
    ),
    "folder name": (
        ["pipeline.name=../../elsewhere"],
        "pipeline.name: '../../elsewhere' cannot name a folder",
        "use letters, digits and _",
    ),
    "null for a group": (
        ["precision=null"],
        "precision=null: is no option of the group precision",
        "the name of an option: precision=bf16; available: bf16, fp16, fp32, fp8, half, int8, int8_entropy, "
        "int8_minmax, tf32",
    ),
    "workers": (
        ["workers=0"],
        "workers: must be at least 1, got 0",
        "workers=null takes one per core, at most 4",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_in_two_lines(master: Project, case: str) -> None:
    overrides, fact, fix = CASES[case]
    before = sorted(p for p in master.root.rglob("*") if p.name not in MEMORY)
    assert master.fails(*overrides) == f"error: {fact}\n  {fix}\n"
    assert sorted(p for p in master.root.rglob("*") if p.name not in MEMORY) == before


def test_all_faults_are_told_at_once(master: Project) -> None:
    err = master.fails(
        "component.synth.inputs=[featurs,gains]",
        "dims.length.opt=99",
        "+component.limiter.seeed=1",
        "component.embedder.outputs.features.dtype=float23",
    )
    facts = [line for line in err.splitlines() if not line.startswith("  ")]
    assert len(facts) == 4
    for fact in (
        "no one produces 'featurs'",
        "needs min ≤ opt ≤ max",
        "unknown key 'seeed'",
        "unknown dtype 'float23'",
    ):
        assert sum(fact in line for line in facts) == 1


def test_one_choice_for_all_is_one_fault(master: Project) -> None:
    err = master.fails("precision=bf16", "task=plan")
    places = "component.embedder.precision, component.synth.precision, component.limiter.precision"
    assert err.splitlines()[0] == f"error: {places}: onnxruntime cannot run bf16 (bfloat16)"
    assert len(err.splitlines()) == 2


def test_yaml_that_cannot_be_read_names_its_line(toy: Project) -> None:
    file = toy.root / "conf" / "precision" / "broken.yaml"
    file.write_text("name: broken\ntype: [\n")
    fact, fix = toy.fails("precision=broken").splitlines()
    assert fact.startswith(f"error: {file}:")
    assert fact.endswith(": not valid YAML")
    assert fix.startswith("  ")


def test_a_missing_tree(master: Project) -> None:
    err = replace(master, given=("--config-dir", "absent")).fails()
    assert err == "error: --config-dir absent: no such folder\n  give the folder of your own tree\n"
