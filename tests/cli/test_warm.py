"""What tests lean on: a command forked from a warm process is as one in an interpreter of its own."""

from __future__ import annotations

import pytest

from tests.conftest import Project, Result


@pytest.mark.parametrize(
    "arguments",
    [["task=plan", "precision=half"], ["task=plan", "component.synth.model.width=x"], ["task=doctr"]],
    ids=["a plan", "a wrong value", "a wrong task"],
)
def test_it_says_what_a_fresh_interpreter_says(master: Project, arguments: list[str]) -> None:
    with master.start(*arguments) as process:
        out, err = process.communicate(timeout=300)
    assert master.run(*arguments) == Result(process.returncode, out, err)


def test_each_has_a_folder_and_modules_of_its_own(fresh: Project, master: Project) -> None:
    """Both projects call their package the same; one of them is edited."""
    fresh.edit("src/chime/synth.py", "from chime.layers", "raise RuntimeError('edited')\nfrom chime.layers")
    said = fresh.fails("targets=[synth]")
    assert "RuntimeError: edited" in said
    assert "nothing to do" in master.ok()


def test_one_that_takes_too_long_is_ended(fresh: Project) -> None:
    fresh.edit("src/chime/synth.py", "from chime.layers", "import time\ntime.sleep(600)\nfrom chime.layers")
    with pytest.raises(TimeoutError, match="a command took too long"):
        fresh.run("targets=[synth]", timeout=20)
    assert "synth" in fresh.ok("task=plan")
