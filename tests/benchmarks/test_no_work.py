"""A run with nothing to do: no more than twice what Hydra itself takes to say nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

pytestmark = pytest.mark.performance

APP = """\
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    pass

main()
"""
CONFIG = """\
defaults:
  - _self_
{groups}
  - override hydra/job_logging: disabled
  - override hydra/hydra_logging: disabled
task: build
hydra: {{output_subdir: null, run: {{dir: .}}}}
"""


@pytest.fixture
def hydra_app(tmp_path: Path) -> Path:
    """A `@hydra.main` application that does nothing, with a tree of a dozen files."""
    names = [f"group{i}" for i in range(11)]
    for name in names:
        (tmp_path / "conf" / name).mkdir(parents=True)
        text = f"name: {name}\ntask: ${{task}}\nsizes: {{min: 1, opt: 2, max: 4}}\nshape: [batch, 80, frames]\n"
        (tmp_path / "conf" / name / "default.yaml").write_text(text)
    groups = "\n".join(f"  - {name}: default" for name in names)
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG.format(groups=groups))
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_no_work(measure, command, hydra_app, request):
    """≤ 1 s, and ≤ 2× the empty Hydra application. The chain of 20 stands in where nothing is measured."""
    if measure.enabled:
        arguments = (f"paths.outputs={request.getfixturevalue('shipped_outputs')}",)
    else:
        arguments = request.getfixturevalue("chain")

    def nothing_to_do():
        assert "nothing to do" in command(*arguments).stdout

    def hydra_alone():
        subprocess.run([sys.executable, "app.py"], cwd=hydra_app, check=True, capture_output=True)

    seconds = measure.interleaved(nothing_to_do, {"hydra": hydra_alone}, rounds=15)
    measure.at_most("wall_s", median(seconds["subject"]), 1.0)
    measure.at_most("over_hydra", median(seconds["subject"]) / median(seconds["hydra"]), 2.0)
