"""Pickles that would run code: what they want to run, and the command that converts one whose author is trusted."""

from __future__ import annotations

import pickle
import pickletools
import re
import shlex
from pathlib import Path
from typing import Any

from autovoice.modules.checkpoint_kind import PLACE, unused
from autovoice.terminal.overrides import setting


def refused_code(error: pickle.UnpicklingError, path: Path) -> str:
    """What the restricted unpickler refused to import or call; empty if the stream is merely damaged."""
    text = str(error)
    if named := re.search(r"(?i:unsupported) (?:(?i:global): )?GLOBAL ([\w.]+)", text):
        return f"it imports {named[1]}"
    if named := re.search(r"reduce for unrecognized function (.+)", text):
        return f"it calls {named[1]}"
    if re.search(r"Can only (create new object|build)", text):
        return "it builds objects other than tensors"
    imported = _plain_pickle_import(path)
    return f"it imports {imported}" if imported else ""


def _plain_pickle_import(path: Path) -> str:
    """First name imported by a file that `pickle.dump` wrote; empty for the formats of `torch.save`.

    Those are a zip, or a series of pickles of which the first is a mere number.
    """
    strings: list[str] = []
    try:
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    return str(argument).replace(" ", ".")
                if opcode.name == "STACK_GLOBAL":
                    return ".".join(strings[-2:])
                if isinstance(argument, str):
                    strings.append(argument)
    except Exception:  # not a pickle: the opcodes of arbitrary bytes fail in arbitrary ways
        return ""
    return ""


def conversion(path: Path, key: str | None) -> str:
    """A shell command that loads the file fully and writes its tensors as safetensors, and what to give then.

    It runs what the file says; a whole module becomes its state dict, what is nested has dotted names.
    """
    new = unused(path.with_suffix(".safetensors"))
    load = f"torch.load({str(path)!r}, map_location='cpu', weights_only=False)"
    if _plain_pickle_import(path):
        load = f"pickle.load(open({str(path)!r}, 'rb'))"
    script = (
        f"import pickle, torch, functools, safetensors.torch as s; d = {load}; "
        "w = lambda v, n: w(v.state_dict(), n) if hasattr(v, 'state_dict') else "
        "{k: t for m, u in v.items() for k, t in w(u, n + [str(m)]).items()} if hasattr(v, 'items') else "
        "{'.'.join(n): v.detach().contiguous().clone()} if torch.is_tensor(v) else {}; "
        f"g = lambda v, k: v if not k else next((g(v[k[:i]], k[i + 1:]) for i in range(len(k), 0, -1) "
        f"if k[i:i + 1] in ('', '.') and k[:i] in v)); s.save_file(w(g(d, {key or ''!r}), []), {str(new)!r})"
    )
    node: dict[str, Any] = {"path": str(new)} | ({"key": None} if key else {})
    return f"python -c {shlex.quote(script)}, then {setting(PLACE, node if key else str(new))}"
