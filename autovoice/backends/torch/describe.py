"""The device of PyTorch here, for `task=doctor`."""

from __future__ import annotations

from autovoice.errors import BuildError, first_line
from autovoice.spec import Backend


def describe(backend: Backend) -> str:
    """Its device. Raises BuildError where it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as e:
        raise BuildError(first_line(e), "pip install torch") from e
    if torch.cuda.is_available():
        return f"on cuda, {torch.cuda.get_device_name()}"
    return f"on the CPU: {'it sees no GPU' if torch.version.cuda else 'this torch was built without CUDA'}"
