"""Recorded npz files whose names lack what says whose they are, and the command that puts it there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from autovoice.errors import CalibrationError

#: what `numpy.savez` calls an array that is given without a name
_UNNAMED = re.compile(r"arr_\d+")


def unnamed(names: Collection[str]) -> list[str]:
    return [n for n in names if _UNNAMED.fullmatch(n)]


def check_prefixes(entries: Sequence[str], component: str, inputs: Mapping[str, Any], path: Path) -> None:
    """Raise CalibrationError for names that lack their component, have one too many, or are none at all."""
    heads = {e.partition("/")[0] for e in entries}
    nameless = unnamed(heads - inputs.keys())
    if nameless:
        wanted = [f"{component}/{i}" if component else i for i in inputs]
        raise CalibrationError(
            f"{path}: has '{nameless[0]}', an array saved without a name", named(path, nameless, wanted)
        )
    bare = sorted(heads & inputs.keys()) if component else []
    if bare:
        fact = f"{path}: has '{bare[0]}', and '{component}/{bare[0]}' is needed"
        raise CalibrationError(fact, _prefixed(path, component, bare))
    owned = [
        e for e in entries if e.partition("/")[0] not in inputs and e.partition("/")[2].partition("/")[0] in inputs
    ]
    if not component and owned:
        fact = f"{path}: '{owned[0]}' is of a component, and this calibration of the pipeline's inputs"
        raise CalibrationError(fact, "calibration.level=component")


def named(path: Path, nameless: Sequence[str], wanted: Sequence[str]) -> str:
    """The command that gives arrays their names; where it is not clear which, how they are saved by name."""
    if len(nameless) == 1 and len(wanted) == 1:
        arrays = f"{json.dumps(wanted[0], ensure_ascii=False)}: a[{json.dumps(nameless[0])}]"
        return _command(path, arrays)
    named = ", ".join(f"{w!r}: …" for w in wanted)
    return f"save arrays by name: np.savez({str(path)!r}, **{{{named}}})"


def _prefixed(path: Path, component: str, bare: Sequence[str]) -> str:
    prefix, names = json.dumps(f"{component}/", ensure_ascii=False), json.dumps(list(bare), ensure_ascii=False)
    return _command(path, f'({prefix} + k if k.split("/")[0] in {names} else k): a[k] for k in a.files')


def _command(path: Path, arrays: str) -> str:
    """What can be typed: the file, read and written again."""
    file = json.dumps(str(path), ensure_ascii=False)
    code = f"import numpy as np; a = np.load({file}); np.savez({file}, **{{{arrays}}})"
    return shlex.join(["python", "-c", code])
