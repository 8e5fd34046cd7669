"""The house itself: what stands at the root, how large a file may be, how a module introduces itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from statistics import median

import pytest

import autovoice

PACKAGE = Path(autovoice.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_four_modules_stand_at_the_root() -> None:
    assert {p.name for p in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py", "errors.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 250
    doc = ast.get_docstring(ast.parse(text))
    assert doc, "has no docstring"
    assert not re.match(r"(What|Which|How|Where|Whether)\b", doc), "a module's docstring opens with what it is"


def test_functions_are_short() -> None:
    lengths = [
        node.end_lineno - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    ]
    assert median(lengths) <= 8
    assert max(lengths) <= 60
