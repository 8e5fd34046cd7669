"""The command line: compose, run one task, and say what went wrong in two lines."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from autovoice.command.invocation import Invocation
from autovoice.config import compose
from autovoice.errors import AutovoiceError, ConfigError, Fault, nearest
from autovoice.execution import interrupts
from autovoice.publish import sweep
from autovoice.tasks import task_list, task_names
from autovoice.terminal.escape import ReaderGone, guarded, say

#: Hydra's own flags: whatever they ask for is Hydra's to answer
_HYDRA_FLAGS = (
    "help",
    "hydra_help",
    "cfg",
    "resolve",
    "package",
    "multirun",
    "shell_completion",
    "config_path",
    "config_name",
    "info",
    "experimental_rerun",
)
_FAILED = "failed"


def main(argv: Sequence[str] | None = None) -> None:
    """The command. Exits 0, 1 after an error the user can mend, 130 when interrupted, 143 when terminated."""
    interrupts.end_at_once()
    with guarded():
        try:
            code = _main(list(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt as e:
            text, code = interrupts.text_and_code(e)
            print(text, file=sys.stderr)
    interrupts.ignore()
    sys.exit(code)


def _main(arguments: list[str]) -> int:
    try:
        code = _done(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _done(arguments: list[str]) -> int:
    arguments = _with_targets(arguments)
    args = get_args_parser().parse_intermixed_args(arguments)  # `precision=fp16 --cfg job`, in either order
    config_dir = Path(args.config_dir) if args.config_dir else None
    try:
        for line in compose.warnings_of_tree(config_dir):
            say(f"warning: {line}", error=True)
        if args.multirun:
            compose.check_sweep(config_dir, args.overrides)
        if any(getattr(args, flag) for flag in _HYDRA_FLAGS):
            _hydra([*(a for a in arguments if a not in args.overrides), *args.overrides])
            return 0
        composed = compose.compose(config_dir, args.overrides)
        return run(Invocation(composed.data, composed.overrides, composed.lookup))
    except AutovoiceError as e:
        return report(e)


def run(invocation: Invocation) -> int:
    """Run the task of a composed configuration; its exit code."""
    name = str(invocation.data.get("task"))
    tasks = task_names()
    if name not in tasks:
        raise ConfigError([Fault("task", f"there is no task '{name}'", nearest(name, tasks))])
    interrupts.raise_instead()
    try:
        return int(importlib.import_module(f"autovoice.tasks.{name}").run(invocation))
    finally:
        invocation.save_memory()


def report(error: AutovoiceError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1


def _with_targets(arguments: list[str]) -> list[str]:
    """`task=explain component.vocoder` means `task=explain targets=[vocoder]`."""
    named = [a for a in arguments if re.fullmatch(r"component\.\w+", a)]
    if not named:
        return arguments
    rest = [a for a in arguments if a not in named]
    return [*rest, f"targets=[{','.join(a.removeprefix('component.') for a in named)}]"]


# -- sweeps and Hydra's own flags ------------------------------------------------------------------


def _hydra(arguments: list[str]) -> None:
    OmegaConf.register_new_resolver("autovoice.tasks", task_list, replace=True)  # for --help
    sys.argv = [sys.argv[0] if sys.argv else "autovoice", *arguments]
    hydra.main(version_base="1.3", config_path=str(compose.conf_dir()), config_name="config")(_job)()


def _job(config: DictConfig) -> list[float] | float | None:
    """One job of a sweep, in this process or in a launcher's. An error ends the job, not the sweep.

    Returns what a sweeper that optimises asks for, None where the build failed; its exit code to any other.
    """
    overrides = [o for o in HydraConfig.get().overrides.task]
    folder, optimises = Path(HydraConfig.get().runtime.output_dir), "direction" in HydraConfig.get().sweeper
    say("", f"── {' '.join(overrides)}")
    try:
        composed = compose.plain(config, overrides)
        invocation = Invocation(composed.data, composed.overrides, composed.lookup)
        wanted = invocation.settings.objectives
        if optimises:
            direction = HydraConfig.get().sweeper.direction
            sweep.check_objectives(wanted, direction, bool(composed.data["timed"]))
        code = run(invocation)
        if not code and composed.data["task"] == "build":
            found = sweep.objectives(invocation.folder)
            sweep.save(folder, overrides, found)
            if not optimises:
                return code
            told = sweep.objective_values(found, wanted)
            return told if len(told) > 1 else told[0]
    except AutovoiceError as e:
        code = report(e)
    if code:
        (folder / _FAILED).write_text(" ".join(overrides) + "\n")
    return None if optimises else code


class SweepCallback(Callback):
    """Ends a sweep with its Pareto front, and with exit code 1 when a job failed, whichever process ran it.

    What is wrong is told here: Hydra catches any error of a callback, and shows others with a traceback.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        interrupts.raise_instead()
        try:
            sweep.prepare(Path(config.hydra.sweep.dir))
        except AutovoiceError as e:
            sys.exit(report(e))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            front = sweep.pareto(Path(config.hydra.sweep.dir))
        except AutovoiceError as e:
            sys.exit(report(e))
        if front:
            print(f"\n{front}", flush=True)
        failed = sorted(Path(config.hydra.sweep.dir).glob(f"*/{_FAILED}"))
        if failed:
            for path in failed:
                say(f"failed: {path.read_text(errors='replace').strip()}", error=True)
            sys.stdout.flush()
            sys.stderr.flush()
            sys.exit(1)
