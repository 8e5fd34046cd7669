"""Reading of backends: one named or given as a node, or an order to choose among."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autovoice.config.choices import ChoiceReader
from autovoice.config.example import override
from autovoice.config.lookup import AUTO
from autovoice.config.reader import Reader
from autovoice.errors import Fault, choices
from autovoice.spec import Backend, BackendOrder


class BackendReader(ChoiceReader):
    """Reads the group `backend` too."""

    def backend_or_order(self, r: Reader) -> Backend | BackendOrder:
        """A backend; or, under `auto:`, those to choose among."""
        return self.order(r) if AUTO in r.data else self.backend(r)

    def order(self, r: Reader) -> BackendOrder:
        """The node of a group's option that names others: `auto: {order: […], options: {name: {…}}}`."""
        auto = r.child(AUTO, "{order: [tensorrt, onnxruntime]}")
        names, options = auto.strings("order"), auto.child("options")
        if not names:
            auto.fault("order", "names no backend", "order: [tensorrt, onnxruntime]")
        found = []
        for name in names:
            backend: Backend = self.named("backend", name, auto.path("order"), self.backend)
            found.append(backend.with_options({backend.name: options.take(name, dict, {})}))
        for name in options.data.keys() - set(names):  # of one that is left out of the order they are of no meaning
            node = self.lookup("backend", name, options.path(name))
            self.faults += [node] if isinstance(node, Fault) else []
        spec = BackendOrder(r.take("name", str), tuple(found) or (Backend("", "", ()),))
        auto.done()
        r.done()
        return spec

    def backend(self, r: Reader, gates: bool = False) -> Backend:
        """A backend; one that `gates` for another has nobody who does so for it."""
        if AUTO in r.data:
            order = choices(r.child(AUTO).strings("order"))
            r.fault("", "chooses among backends, and here one is to be named", f"its order: {order}")
            return Backend("", "", ())
        spec = Backend(
            r.take("name", str),
            r.take("_target_", str),
            r.strings("types"),
            r.take("options", dict, {}),
            r.take("session", dict, {}),
            r.take("environment", str, None),
            r.strings("passes"),
            r.take("profiled", bool, False),
            r.take("from_module", bool, False),
            None if gates else self.gated_by(r),
            self.after_crash(r),
            r.strings("tensors"),
            self.needs(r),
            r.take("describe", str, None),
        )
        r.taken.add("gated_by")
        r.done()
        return spec

    def after_crash(self, r: Reader) -> tuple[Mapping[str, Any], ...]:
        """The list of options under `after_crash:`."""
        ways = r.take("after_crash", list, [], "[{option: value}]")
        if not all(isinstance(way, Mapping) for way in ways):
            fix = override(r.path("after_crash"), "[{option: value}]")
            r.fault("after_crash", f"must be a list of options, got {ways!r}", fix)
            return ()
        return tuple(ways)

    def needs(self, r: Reader) -> dict[str, tuple[str, ...]]:
        n = r.child("needs", "{distribution: [other-name]}")
        return {name: n.strings(name) for name in n.data}

    def gated_by(self, r: Reader) -> Backend | None:
        name = r.take("gated_by", str, None, "onnxruntime")
        if name is None:
            return None
        node = self.lookup("backend", name, r.path("gated_by"))
        if isinstance(node, Fault):
            self.faults.append(node)
            return None
        by = self.backend(Reader(node, f"backend/{name}", self.faults), gates=True)
        if by.from_module or by.profiled:
            r.fault("gated_by", f"{name} does not run an ONNX graph as it is", "gated_by: onnxruntime, or null")
            return None
        return by
