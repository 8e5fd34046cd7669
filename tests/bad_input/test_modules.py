"""Modules that cannot be exported, nineteen in one build: each is told, and what is right is built."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project, Result

CONSTRUCTOR = "see `model:` of the component; its keys are the constructor's arguments"
BY_VALUES = "its control flow or a size depends on the values of a tensor"
MASKS = "use masks and torch.where instead of `if tensor:`, and no .item(), .tolist() or int(tensor) in forward()"
CONSTANT = "something in forward() turns this size into a constant; or declare the number"
CASES = {
    "raises_in_init": (
        "faulty.modules.RaisesInInit(layers=-3) cannot be made: ValueError: no layer count like -3",
        CONSTRUCTOR,
    ),
    "no_such_argument": (
        "faulty.modules.Right(depth=3) cannot be made: "
        "TypeError: Right.__init__() got an unexpected keyword argument 'depth'",
        CONSTRUCTOR,
    ),
    "no_such_class": (
        "_target_ 'faulty.modules.Rihgt': faulty.modules has no 'Rihgt'",
        "did you mean 'Right'? available: BranchesOnData, ",
    ),
    "imports_absent": (
        "faulty.imports_absent.Model() cannot be made: ModuleNotFoundError: No module named 'absent_library'",
        "importing faulty.imports_absent raised this",
    ),
    "not_a_module": (
        "faulty.modules.not_a_module made a dict, not a torch.nn.Module",
        "`_target_` names a module class, or a function that returns a module",
    ),
    "raises_in_forward": (
        "forward() of RaisesInForward raised RuntimeError: the wheels came off",
        "given x [2, 6, 8]",
    ),
    "branches_on_data": (
        f"BranchesOnData cannot be exported: {BY_VALUES}",
        f"{MASKS} (modules.py:36: if x.sum() > 0:)",
    ),
    "counts_data": (
        f"CountsData cannot be exported: {BY_VALUES}",
        f"{MASKS} (modules.py:43: for _ in range(int(x.abs().sum().item())):)",
    ),
    "freezes_axis": ("output 'from_freezes_axis' axis 0 is fixed at 2, declared dynamic ('n')", CONSTANT),
    "freezes_by_table": ("input 'x' axis 1 is fixed at 6, declared dynamic ('length')", CONSTANT),
    "freezes_by_loop": ("input 'x' axis 1 is fixed at 6, declared dynamic ('length')", CONSTANT),
    "returns_half": (
        "output 'from_returns_half' is float16, declared float32",
        "component.returns_half.outputs.from_returns_half.dtype=float16, or convert it in forward()",
    ),
    "returns_transposed": (
        "output 'from_returns_transposed' is [2, 8, 6], declared ['n', 'length', 8]",
        "traced with length=6, n=2; correct component.returns_transposed.outputs.from_returns_transposed.shape",
    ),
    "returns_longer": (
        "output 'from_returns_longer' axis 1 is '2*length + 1', declared '2*length': 5 against 4 at length=2, n=",
        "correct the formula in dims or in the shape",
    ),
    "returns_twice": (
        "output 'from_returns_twice' axis 1 is '2*length', declared 'length+6': 4 against 8 at length=2, n=",
        "correct the formula in dims or in the shape",
    ),
    "returns_two": (
        "forward() of ReturnsTwo returned 2 tensors, 1 are declared",
        "declared outputs: from_returns_two",
    ),
    "returns_list": ("output 'from_returns_list' is a float, not a tensor", "return tensors only"),
    "other_arguments": (
        "forward() of faulty.modules.OtherArguments has no argument 'x'",
        "inputs: {<argument>: <wire>}; available: y",
    ),
    "needs_more": (
        "forward() of faulty.modules.NeedsMore needs 'scale', which is not in `inputs:`",
        "declared: x",
    ),
}


@pytest.fixture(scope="module")
def built(toy_project: Project) -> tuple[Project, Result]:
    """The pipeline `faulty`, as far as it goes."""
    project = replace(toy_project, given=("--config-dir", "conf", "pipeline=faulty"))
    return project, project.run("keep_going=true")


@pytest.mark.parametrize("name", CASES)
def test_the_export_says_why(built: tuple[Project, Result], name: str) -> None:
    fact, fix = CASES[name]
    lines = built[1].err.removeprefix("error: ").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}.export: "))
    assert lines[at].startswith(f"{name}.export: {fact}")
    assert lines[at + 1].startswith(f"  {fix}")


def test_an_override_that_is_advised_is_one(built: tuple[Project, Result]) -> None:
    override = CASES["returns_half"][1].partition(",")[0]
    planned = built[0].plan(override, "targets=[returns_half]")
    assert planned["returns_half.export"] == ("run", "never built")


def test_a_reference_that_is_not_finite_is_an_error(built: tuple[Project, Result]) -> None:
    assert (
        "\nreturns_nan.reference: the module's own output 'from_returns_nan' has 16 values that are not finite at min\n"
        "  shape [1, 2, 8]; look at its weights and at its inputs' `example:`\n"
    ) in built[1].err


def test_a_formula_that_is_right_at_the_traced_size_alone_fails_at_real_sizes(built: tuple[Project, Result]) -> None:
    assert (
        "\nreturns_twice.reference: output 'from_returns_twice' has shape [1, 4, 8] at min, "
        "declared ['n', 'length+6', 8]\n"
        "  which is [1, 8, 8] at length=2, n=1; correct the shape, or the dim's formula\n"
    ) in built[1].err


def test_the_exit_code_and_nothing_else(built: tuple[Project, Result]) -> None:
    project, result = built
    assert result.code == 1
    assert "Traceback" not in result.out + result.err
    assert project.half_written() == []
    assert re.search(r"\n\d+ of \d+ steps failed, \d+ not run; \d+ finished and are kept\n$", result.err)


def test_every_message_has_two_lines(built: tuple[Project, Result]) -> None:
    lines = built[1].err.splitlines()[:-1]
    assert [line.startswith("  ") for line in lines] == [False, True] * (len(lines) // 2)


def test_messages_come_in_the_order_of_the_plan(built: tuple[Project, Result]) -> None:
    """Not in the order in which steps that run side by side happened to fail."""
    told = [line.split(": ")[0] for line in built[1].err.removeprefix("error: ").splitlines()[:-1:2]]
    assert told == [step for step in built[0].plan() if step in told]
    assert len(told) > len(CASES)


def test_nothing_is_published(built: tuple[Project, Result]) -> None:
    assert [p.name for p in built[0].outputs.iterdir()] == ["store"]


def test_what_is_right_is_built(built: tuple[Project, Result]) -> None:
    project, result = built
    done = set(re.findall(r"\] right\.(\w+) +\d", result.out))
    assert done == {"export", "reference", "lower", "build", "verify"}
    planned = project.plan()
    assert {verb for step, (verb, _) in planned.items() if step.startswith("right.")} == {"reuse"}


def test_a_failure_is_never_a_cached_result(built: tuple[Project, Result]) -> None:
    planned = built[0].plan()
    assert all(planned[f"{name}.export"] == ("run", "never built") for name in CASES)
    kept = {r["inputs"]["fields"].get("model", {}).get("target") for r in built[0].records()}
    assert "faulty.modules.RaisesInForward" not in kept


def test_the_log_of_a_failed_step_holds_the_whole_of_it(built: tuple[Project, Result]) -> None:
    (log,) = (built[0].store / "logs").glob("raises_in_forward.export-*.log")
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    assert 'raise RuntimeError("the wheels came off")' in text


def test_the_first_failure_ends_a_build_that_need_not_go_on(built: tuple[Project, Result]) -> None:
    result = built[0].run("workers=1")
    assert result.code == 1
    assert result.out.count(" FAILED\n") == 1
    assert re.search(r"1 of \d+ steps failed, \d+ not run; 0 finished and are kept\n$", result.err)
