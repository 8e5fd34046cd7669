"""A check that a component's backend has inputs and outputs of the dtypes that its wires have."""

from __future__ import annotations

from collections.abc import Mapping

from autovoice.errors import Fault, choices
from autovoice.spec import Component, Tensor


def check_dtypes(component: Component, tensors: Mapping[str, Tensor], faults: list[Fault]) -> None:
    """Inputs and outputs must be of dtypes that the backend's engines take and give."""
    backend = component.backend
    wires = [(i.local, "inputs", tensors.get(i.wire)) for i in component.inputs]
    wires += [(o.tensor.name, "outputs", o.tensor) for o in component.outputs]
    for name, kind, tensor in wires:
        if tensor is not None and not backend.takes(tensor.dtype):
            fact = f"'{tensor.name}' is {tensor.dtype}, which {backend.name} has no inputs or outputs of"
            fix = f"cast it inside the model: it takes {choices(backend.tensors)}; or choose another backend"
            faults.append(Fault(f"{component.place}.{kind}.{name}", fact, fix))
