"""Interpolations that cannot be resolved, as faults: where they stand, and in which file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from autovoice.errors import Fault, first_line


def unresolved(error: OmegaConfBaseException, key: str, file: str, trees: Sequence[Path]) -> Fault:
    """An interpolation or a missing value, told where it stands."""
    if isinstance(error, MissingMandatoryValue):
        return Fault(key, "is required", f"set it in {file}.yaml" if file else f"set it: {key}=…")
    text = first_line(error)
    if m := re.search(r"Environment variable '([^']+)' not found", text):
        where = _mentioned(f"oc.env:{m[1]}", trees)
        fix = f"export {m[1]}=…, or a default for it: ${{oc.env:{m[1]},default}}"
        return Fault(key, f"the environment variable {m[1]} is not set{where}", fix)
    return Fault(key, text, "every ${…} names a value of this tree")


def _mentioned(text: str, trees: Sequence[Path]) -> str:
    """` (conf/pipeline/mine.yaml:3)`: the first place in the user's files that says it; nothing without one."""
    for folder in trees:
        for file in sorted(folder.rglob("*.yaml")):
            for i, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
                if text in line:
                    return f" ({file}:{i})"
    return ""
