"""What its engines depend on, asked when a build is planned. Imports no tool."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from autovoice.errors import BuildError
from autovoice.spec import Backend

MACHINES = ("here", "elsewhere")


def environment(backend: Backend, precision: str) -> dict[str, Any]:
    machine = check_options(backend.options)
    return {"onnx": version("onnx"), "machine": machine, "runs_here": machine == "here"}


def check_options(options: Any) -> str:
    """The machine that an engine is for."""
    for key in options:
        if key != "machine":
            raise BuildError(f"backend.options.{key}: there is no such option", "backend.options.machine=here")
    machine: str = options.get("machine", "here")
    if machine not in MACHINES:
        raise BuildError(f"backend.options.machine: '{machine}'", f"one of {', '.join(MACHINES)}")
    return machine
