"""What an error advises is typed: it helps, or leads to another error. Never to the same one again."""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

import autovoice
from autovoice.command.invocation import Invocation
from autovoice.config.compose import check_sweep, compose
from autovoice.errors import AutovoiceError
from tests.bad_input.test_configuration import CASES
from tests.builders import forget_sources, write_tree

if TYPE_CHECKING:
    from tests.conftest import Project

TREE = """
# @package _global_
dims: {n: {min: 1, opt: 2, max: 3}, t: {min: 3, opt: 10, max: 40}}
pipeline: {name: own, inputs: {x: {dtype: float32, shape: [n, t, 8]}}}
component:
  c:
    model: {_target_: torch.nn.Linear, in_features: 8, out_features: 8}
    checkpoint: null
    seed: 0
    inputs: [x]
    outputs: {y: {dtype: float32, shape: [n, t, 8]}}
"""
OWN = "pipeline=own"
NAMES = (
    *("ckpt/epoch=9-step=10.ckpt", "my models/net (1).pt", "~/net.pt", "é.pt", "a b é.pt", "a,b.pt", "{e}.pt"),
    *("[a].pt", "foo(x).pt", "it's.pt", 'a"b.pt', "a#b;c.pt", "a&b", "$(x)", "x=`y`", "[a", "a]", "@", "100%"),
)
#: more of what one can get wrong, each with what the placeholder … stands for
MORE: dict[str, tuple[list[str], str]] = {
    **{f"path {name}": ([OWN, f"component.c.checkpoint={name}"], "") for name in NAMES[:6]},
    "path in a mapping": ([OWN, "component.c.checkpoint={path: a=b.pt}"], ""),
    "path in a list": ([OWN, "targets=[a=b, c]"], ""),
    "path of a folder": ([OWN, "paths.outputs=a=b"], ""),
    "several values": ([OWN, "targets=a,b"], ""),
    "no value": ([OWN, "precision"], "fp16"),
    "no key": ([OWN, "=3"], ""),
    "part of a list": ([OWN, "~component.c.inputs.0"], ""),
    "part of a shape": ([OWN, "~component.c.outputs.y.shape.0"], ""),
    "item of a list": ([OWN, "component.c.inputs.0.x=3"], ""),
    "another value": ([OWN, "~component.c.seed=5"], ""),
    "nothing to leave out": ([OWN, "~component.c.sed"], ""),
    "no group to leave out": ([OWN, "~component"], ""),
    "group of a pipeline with dims of its own": ([OWN, "dims=offline"], "{min: 2}"),
    "a dim of a pipeline with dims of its own": ([OWN, "dims.q.max=3"], "3"),
    "null for all dims": ([OWN, "dims=null"], ""),
    "a group of groups": ([OWN, "component=null"], "cnn"),
    "twice": ([OWN, "+pipeline=own"], "own"),
    "list for a mapping": ([OWN, "component.c.model=[a]"], ""),
    "list for inputs": ([OWN, "component.c.model.bias=3", "+component.c.model=4"], ""),
    "text for inputs": ([OWN, "component.c.inputs=x"], ""),
    "number for inputs": ([OWN, "component.c.inputs=3"], ""),
    "switch for a name": ([OWN, "component.c.inputs=[on]"], ""),
    "numbers for names": ([OWN, "targets=[1,2]"], ""),
    "nothing for names": ([OWN, "targets=[null]"], ""),
    "number for text": ([OWN, "+component.c.checkpoint={path: 3}"], ""),
    "switch for text": ([OWN, "+component.c.checkpoint={path: on}"], ""),
    "text for a number": ([OWN, "component.c.seed=one"], ""),
    "number for a switch": ([OWN, "keep_going=3"], ""),
    "text for a mapping": ([OWN, "component.c=x"], ""),
    "half a dim": ([OWN, "dims.n=2.5"], ""),
    "buckets": ([OWN, "+dims.n.buckets=[a]"], ""),
    "multiple": ([OWN, "+dims.n.multiple=0"], ""),
    "trace": ([OWN, "+dims.n.trace=-1"], ""),
    "multiples": ([OWN, "+dims.t.multiple=4"], ""),
    "buckets outside": ([OWN, "+dims.t.buckets=[1,8,99]"], ""),
    "buckets uneven": ([OWN, "+dims.n={min: 2, opt: 2, max: 4, multiple: 2, buckets: [3]}"], ""),
    "higher is itself": ([OWN, "precision=int8", "precision.higher=int8"], ""),
    "threshold": ([OWN, "gate.component.snr_db.fp32=high"], ""),
    "default": ([OWN, "+pipeline.inputs.x.default=none"], ""),
    "entry without backends": ([OWN, "+component.c.quantize={exclude: [{pattern: a}]}"], ""),
    "odd entry": ([OWN, "+component.c.quantize={exclude: [{pattern: a, backends: [onnxruntime]}, 3]}"], ""),
    "min_samples": ([OWN, "calibration=synthetic", "++calibration.min_samples=0"], ""),
    "dims in a circle": ([OWN, "dims.n=t", "dims.t=n"], ""),
    "fuse text": ([OWN, "fuse={a: c}"], "[c, c]"),
    "fuse one": ([OWN, "fuse={a: [c]}"], ""),
    "fuse unknown": ([OWN, "fuse={a: [c, d]}"], ""),
    "precision left out": ([OWN, "~precision"], "fp32"),
    "int8 without data": ([OWN, "precision=int8"], ""),
    "policy": ([OWN, "on_mismatch=rebuilt"], ""),
    "workers": ([OWN, "workers=-1"], ""),
    "no checkpoint": ([OWN, "component.c.checkpoint=absent.pt"], ""),
    "a folder for a checkpoint": ([OWN, "component.c.checkpoint=."], ""),
    "a pipe for a checkpoint": ([OWN, "component.c.checkpoint=/dev/zero"], ""),
    "sweep": (["-m", OWN, "component.c.checkpoint=a=b"], ""),
    "typed key": ([OWN, "component.c.sead=1"], "1"),
    "typed key added": ([OWN, "+component.c.sead=1"], ""),
    "missing": ([OWN, "dims.n.min=???"], "1"),
    "not in the environment": ([OWN, "component.c.seed=${oc.env:NOT_SET_HERE}"], ""),
    "objectives": ([OWN, "objectives=snr"], ""),
    "after a crash": ([OWN, "++backend.after_crash=[level]"], ""),
}
PACKAGE = Path(autovoice.__file__).parent
FILES_OF_ADVICE = [*sorted((PACKAGE / "config").glob("*.py")), PACKAGE / "command" / "invocation.py"]
EVERY = {**{name: (overrides, "") for name, (overrides, *_) in CASES.items()}, **MORE}
SHELL = r"'(?:[^']|'\"'\"'|'\\'')*'"
TYPED = re.compile(rf"(?<![^\s(])(?:\$?{SHELL}|[+~]{{0,2}}[a-z_][\w./<>]*=(?:{SHELL}|[^\s;]+)|~[a-z_][\w./]*\b)")
OVERRIDE = re.compile(r"~[\w./-]+|[+~]{0,2}[a-z_][\w./-]*=.*", re.DOTALL)


@pytest.fixture(scope="module")
def here(toy_project: Project) -> Iterator[Path]:
    """The toy project as a user stands in it, a pipeline in one file beside it; nothing is built."""
    root = toy_project.root
    write_tree(root, {"conf/pipeline/own.yaml": TREE.lstrip()})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.syspath_prepend(str(root / "src"))
        forget_sources()
        yield root
    forget_sources()
    GlobalHydra.instance().clear()


@pytest.fixture
def project(here: Path) -> Path:
    """The same, with the pipeline's file as it was."""
    write_tree(here, {"conf/pipeline/own.yaml": TREE.lstrip()})
    return here


@pytest.fixture(scope="module")
def said(here: Path) -> tuple[dict[str, str], set[tuple[str, int]]]:
    """({case: what it is refused with}, the lines of FILES_OF_ADVICE that ran)."""
    lines: set[tuple[str, int]] = set()
    names = {str(f) for f in FILES_OF_ADVICE}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in names:
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return {case: refusal(overrides) for case, (overrides, _) in EVERY.items()}, lines
    finally:
        sys.settrace(before)


def refusal(overrides: Sequence[str]) -> str:
    """What a command line is refused with, up to its plan; empty where it is not."""
    tree = Path("conf")
    given = [o for o in overrides if o != "-m"]
    if not any(o.startswith("pipeline") or o.startswith("+pipeline") for o in given):
        given = ["pipeline=chime", *given]
    try:
        if "-m" in overrides:
            check_sweep(tree, given)
            return ""
        composed = compose(tree, given)
        invocation = Invocation(composed.data, composed.overrides, composed.lookup)
        from autovoice.tasks import task_names

        if invocation.data["task"] not in task_names():
            return ""  # told by the command line itself
        invocation.check()
        _ = invocation.plan
    except AutovoiceError as e:
        return str(e)
    return ""


def advised(fix: str, instead: str, component: str = "c") -> list[list[str]]:
    """Every way out that the second line offers, each as the overrides to type together."""
    found = []
    for part in re.split(r", or |; |\(for one: ", fix.strip()):
        words = []
        for m in TYPED.finditer(part):
            try:
                (word,) = shlex.split(m[0].rstrip(",)").replace("<name>", component).replace("…", instead or "1"))
            except ValueError:
                continue
            if OVERRIDE.fullmatch(word):
                words.append(word)
        if words:
            found.append(words)
    return found


def key_of(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def retyped(overrides: Sequence[str], new: Sequence[str]) -> list[str]:
    """The command with what was advised in place of what stood there for the same key."""
    keys = {key_of(o) for o in new}
    return [*(o for o in overrides if key_of(o) and not any(_related(key_of(o), k) for k in keys)), *new]


def _related(one: str, other: str) -> bool:
    """True where one key is the other, or lies below it."""
    return one == other or bool(re.match(rf"{re.escape(one)}[./]", other) or re.match(rf"{re.escape(other)}[./]", one))


@pytest.mark.parametrize("case", EVERY)
def test_the_advice_is_typed(said: tuple[dict[str, str], Any], project: Path, case: str) -> None:
    overrides, instead = EVERY[case]
    lines = said[0][case].splitlines()
    if not lines:
        assert case in CASES  # told elsewhere: by a task, or by another part of the command line
    for fact, fix in zip(lines[::2], lines[1::2], strict=True):
        assert fix.startswith("  ")
        named = m[1] if (m := re.match(r"component\.(\w+)", fact)) else "c"
        ways = {tuple(way): refusal(retyped(overrides, way)) for way in advised(fix, instead, named)}
        again = [way for way, after in ways.items() if fact in after.splitlines()]
        assert len(again) <= ("(for one: " in fix), again  # the first is for all of them, the second for this one
        if m := re.search(r"did you mean '([^']+)'", fix):
            wrong = [w for w in re.findall(r"[\w.]+", fact) if any(w in o for o in overrides)]
            changed = {refusal([re.sub(rf"\b{re.escape(w)}\b", m[1], o) for o in overrides]) for w in wrong}
            assert any(fact not in after.splitlines() for after in changed)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("[a", "a]")])
def test_a_path_of_any_name_arrives(project: Path, name: str) -> None:
    """The override for a file that is there, typed once, is taken, whatever it is called."""
    said = refusal([OWN, f"component.c.checkpoint={name}"])
    if not said.splitlines()[0].endswith("No such file or directory"):  # else Hydra took it as it was
        way = advised(said.splitlines()[1].rpartition(", or ")[2], "")[-1]
        data = compose(Path("conf"), [OWN, *way]).data
        assert data["component"]["c"]["checkpoint"] == name
        said = refusal([OWN, *way])
    assert f"{os.path.expanduser(name)}: No such file or directory" in said


# -- files -----------------------------------------------------------------------------------------


FILES: dict[str, tuple[bytes, str, str]] = {
    "bom": (b"\xef\xbb\xbf" + TREE.encode(), ":1: begins with a byte order mark", "sed -i "),
    "latin1": (TREE.encode() + "# é\n".encode("latin-1"), ":12: is not UTF-8: byte 0xE9", "iconv -f latin1 "),
    "utf16": (TREE.encode("utf-16"), ":1: is UTF-16, not UTF-8", "iconv -f utf-16 "),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_in_another_encoding_is_converted_as_advised(project: Path, case: str) -> None:
    content, fact, fix = FILES[case]
    file = project / "conf" / "pipeline" / "own.yaml"
    file.write_bytes(content.replace(b"\n#", b"#", 1) if case != "utf16" else TREE.lstrip().encode("utf-16"))
    first, second = refusal([OWN]).splitlines()
    assert first.startswith("conf/pipeline/own.yaml:")
    assert fact.rpartition(": ")[2][:10] in first
    assert second.strip().startswith(fix)
    assert os.system(second.strip().partition(", where")[0]) == 0
    assert refusal([OWN]) == ""


@pytest.mark.parametrize(
    ("line", "fact", "fix"),
    [
        ("a: {on: 1}", "own.yaml:11: the key on is read as true or false, not as a name", '"on": …, with the quotes'),
        ("~: 1", "own.yaml:11: the key ~ is read as null, not as a name", '"~": …, with the quotes'),
        (
            "a:\n\tb: 1",
            "own.yaml:12: not valid YAML",
            "found character '\\t' that cannot start any token: YAML is indented",
        ),
        ("a: 1\na: 2", "own.yaml:12: not valid YAML", "found duplicate key a"),
        ("a: \x07", "own.yaml:11: holds the character U+0007, which YAML does not allow", "write it as an escape"),
        ("a: &a [*a]", "own.yaml:11: *a stands inside &a itself", "an alias repeats what is complete before it"),
        ("a: " + "[" * 200 + "]" * 200, "own.yaml:11: nested more than 100 deep", "fewer levels"),
        ("defaults: 3", "own.yaml: `defaults:` must be a list, got 3", "defaults: [_self_, "),
        ("defaults: [{/dims: 3}]", "own.yaml: `defaults:` has {'/dims': 3}, which is neither", "defaults: [_self_, "),
        ("a: ${a\n", "own.yaml: cannot be read: ", "correct the file"),
        ("a: ${oc.env:NOT_SET_HERE}", "a: the environment variable NOT_SET_HERE is not set (", "export NOT_SET_HERE=…"),
        ("a: ${b}\nb: ${a}", "a: Recursive interpolation detected", "every ${…} names a value of this tree"),
    ],
    ids=lambda v: v[:12],
)
def test_lines_of_a_file(project: Path, line: str, fact: str, fix: str) -> None:
    (project / "conf" / "pipeline" / "own.yaml").write_text(f"{TREE.lstrip()}{line}\n")
    first, second = refusal([OWN]).splitlines()
    assert fact in first
    assert second.strip().startswith(fix)


def test_aliases_of_aliases_are_counted_not_made(project: Path) -> None:
    """10³⁰ values would be made of these 31 lines."""
    lines = ["a0: &a0 [1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 31))]
    (project / "conf" / "pipeline" / "own.yaml").write_text(TREE.lstrip() + "\n".join(lines))
    assert "comes to more than 100000 values\n  fewer aliases of aliases" in refusal([OWN])


@pytest.mark.parametrize(("content", "what"), [("- a\n", "a list"), ("word\n", "one value"), ("3\n", "one value")])
def test_a_file_that_is_no_mapping(project: Path, content: str, what: str) -> None:
    (project / "conf" / "pipeline" / "own.yaml").write_text(content)
    assert refusal([OWN]) == f"conf/pipeline/own.yaml: holds {what}, not a mapping\n  lines of `key: value`"


def test_a_pipeline_without_its_package(project: Path) -> None:
    (project / "conf" / "pipeline" / "own.yaml").write_text(TREE.replace("# @package _global_\n", ""))
    first, second = refusal([OWN]).splitlines()[:2]
    assert first.startswith("pipeline: lies one level too deep")
    assert second == "  the first line of a pipeline's file is `# @package _global_`"


def test_files_of_the_other_ending_are_told_and_moved(project: Path) -> None:
    file = project / "conf" / "precision" / "mine.yml"
    file.write_text((project / "conf" / "precision" / "half.yaml").read_text())
    from autovoice.config.compose import warnings_of_tree

    (line,) = warnings_of_tree(Path("conf"))
    fact, fix = refusal([OWN, "precision=mine"]).splitlines()
    assert fact.startswith("precision=mine: no such option")
    assert line.startswith("conf/precision/mine.yml is not read, files of a tree end in .yaml: mv ")
    assert os.system(fix.strip()) == 0
    assert warnings_of_tree(Path("conf")) == []
    assert "no such option" not in refusal([OWN, "precision=mine"])


def test_dims_that_the_pipelines_file_declares(project: Path) -> None:
    fact, fix = refusal([OWN, "dims=offline"]).splitlines()
    assert fact == "dims: is declared by the pipeline's own file, so no option of a group takes its place"
    assert fix == "  it has n, t, each to be set by itself: dims.n=…"


def test_names_that_are_words_of_yaml(project: Path) -> None:
    tree = yaml.safe_load(TREE)
    tree["component"]["c"]["inputs"] = {"input": True}
    (project / "conf" / "pipeline" / "own.yaml").write_text("# @package _global_\n" + yaml.safe_dump(tree))
    fact, fix = refusal([OWN]).splitlines()
    assert fact == "component.c.inputs.input: must be a mapping, got True"
    assert fix == "  component.c.inputs.input=wire; a name that is the word true, yes or on stands in quotes"


# -- nothing is left out ---------------------------------------------------------------------------

#: advice of these functions is held in other tests: test_experiment, test_overrides, test_reader, test_dims
ELSEWHERE = {"_command", "usage", "fitting", "plain", "take", "read_dims"}


def sites() -> dict[tuple[str, int], str]:
    """Where an override is put into advice: (file, line) → function."""
    found = {}
    for file in FILES_OF_ADVICE:
        for function in (n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)):
            for node in ast.walk(function):
                called = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("override", "given")
                text = isinstance(node, ast.Constant) and isinstance(node.value, str) and "=…" in node.value
                if (called or text) and function.name not in ELSEWHERE:
                    found[str(file), node.lineno] = function.name
    return found


def test_every_advice_with_an_override_is_reached(said: tuple[Any, set[tuple[str, int]]]) -> None:
    """A new one without a case above is noticed here."""
    missed = {f"{Path(s[0]).name}:{s[1]} {name}" for s, name in sites().items() if s not in said[1]}
    assert missed == set()
