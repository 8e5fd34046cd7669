"""The providers of ONNX Runtime here, for `task=doctor`."""

from __future__ import annotations

from autovoice.errors import BuildError, first_line
from autovoice.spec import Backend


def describe(backend: Backend) -> str:
    """Its providers. Raises BuildError where it cannot be imported."""
    try:
        import onnxruntime
    except ImportError as e:
        raise BuildError(first_line(e), "pip install onnxruntime") from e
    return f"providers {', '.join(onnxruntime.get_available_providers())}"
