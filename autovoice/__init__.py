"""autovoice: a declarative build system for multi-part neural networks.

`autovoice.Pipeline` runs what it built; importing this package alone imports nothing heavy.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # `typing` takes longer to import than all else before signals are caught
if TYPE_CHECKING:
    from typing import Any

    from autovoice.runtime.pipeline import Pipeline

__all__ = ["Pipeline"]


def __getattr__(name: str) -> Any:
    if name == "Pipeline":
        # by name: what is built does not depend on the runtime's code, and keys follow import statements
        return importlib.import_module("autovoice.runtime.pipeline").Pipeline
    raise AttributeError(f"module 'autovoice' has no attribute '{name}'")
