"""One table of the kinds of steps, and one module for each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from autovoice import steps
from autovoice.plan.rules import steps_of
from autovoice.plan.rules.kinds import KINDS
from tests.builders import graph_of, quantized

FOLDER = Path(steps.__file__).parent
#: what every step is given, and how it is typed
SHARED = {"__init__", "context", "fields"}


def test_the_table_and_the_modules_are_the_same_set() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} - SHARED == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_says_what_it_is_given(kind: str) -> None:
    """`run` takes a context of the fields of its kind; types alone, which no key covers."""
    tree = ast.parse((FOLDER / f"{kind}.py").read_text())
    (run,) = (f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == "run")
    (given,) = run.args.args
    match given.annotation:
        case ast.Subscript(value=ast.Name(id="Context"), slice=ast.Name(id=name)):
            assert name.endswith("Fields")
        case _:
            pytest.fail(f"{kind}.run takes {given.annotation and ast.unparse(given.annotation)}")
    plain = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    assert not any(node.module == "autovoice.steps.fields" for node in plain)


def test_what_measures_time_runs_alone() -> None:
    assert [name for name, kind in KINDS.items() if kind.alone] == ["race", "latency"]
    made = {s.kind: s for s in steps_of(graph_of(quantized("a")))}
    assert made["race"].alone
    assert not made["build"].alone
