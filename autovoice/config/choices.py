"""Reading of what a component chooses by name or by node: precision, backend, gate, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from autovoice.config.calibration import read_calibration
from autovoice.config.example import override
from autovoice.config.lookup import AUTO, Lookup
from autovoice.config.paths import located
from autovoice.config.quantize import read_quantize
from autovoice.config.reader import Reader
from autovoice.errors import AutovoiceError, Fault, choices, nearest
from autovoice.spec import (
    AUDIO_METRICS,
    Calibration,
    Gate,
    Implicit,
    Keep,
    Precision,
    Quantize,
    Target,
)

METRICS = ("snr_db", "cosine", "pooled_cosine", "relative_l2", "max_abs", *AUDIO_METRICS)
COMPUTE_TYPES = ("float32", "tfloat32", "float16", "bfloat16", "int8", "float8")
CALIBRATORS = ("entropy2", "minmax")
T = TypeVar("T")
#: nodes that could stand where something else does
_THRESHOLDS = "{fp32: 60}"
_FUNCTION = "{_target_: package.module.function}"


class ChoiceReader:
    """Reads the groups that a component chooses from, remembering every fault."""

    def __init__(self, data: Mapping[str, Any], lookup: Lookup) -> None:
        self.data = data
        self.lookup = lookup
        self.faults: list[Fault] = []
        self.cache: dict[tuple[str, str], Any] = {}

    def choice(self, r: Reader, group: str, parse: Callable[[Reader], Any]) -> Any:
        """The component's own node or name of `group`; without one, the choice made for everything."""
        own, general = r.raw(group), self.data.get(group)
        value = general if own is None else own
        if isinstance(value, str):
            return self.named(group, value, r.path(group), parse)
        if not isinstance(value, Mapping):
            where = group if own is None else r.path(group)
            fix = f"the name of one: {where}=…; available: {choices(self.lookup.names(group))}"
            self.faults.append(Fault(where, f"must be a name or a mapping, got {value!r}", fix))
            if not isinstance(general, Mapping):
                return self.nothing(parse)
            value = general
        # one node for all: `${precision}` is parsed once, not once a component
        key = (group, repr(value))
        if key not in self.cache:
            where = group if value == general else r.path(group)
            self.cache[key] = parse(Reader(value, where, self.faults))
        return self.cache[key]

    def nothing(self, parse: Callable[[Reader], Any]) -> Any:
        """What is read out of an empty node, without the faults of it: that there is none has been told."""
        before = len(self.faults)
        made = parse(Reader({}, "", self.faults))
        del self.faults[before:]
        return made

    def named(self, group: str, name: str, where: str, parse: Callable[[Reader], Any]) -> Any:
        if (group, name) not in self.cache:
            node = self.lookup(group, name, where)
            if isinstance(node, Fault):
                self.faults.append(node)
                node = self.data.get(group) or {}
            self.cache[group, name] = parse(Reader(node, f"{group}/{name}", self.faults))
        return self.cache[group, name]

    def shared(self, r: Reader, key: str, kind: type[T], default: T, example: str = "") -> T:
        """The component's own value of a key that there is for everything too, else that one, faults included."""
        own, general = r.raw(key), self.data.get(key)
        if own is None or repr(own) == repr(general):  # it may stand there as `${key}`
            r = Reader(self.data, "", self.faults)
        return r.take(key, kind, default, example)

    def target(self, r: Reader) -> Target:
        path = r.take("_target_", str)
        if path and "." not in path:
            r.fault("_target_", f"'{path}' is not a dotted path", "package.module.Class")
        return Target(path, {k: v for k, v in r.data.items() if k != "_target_"})

    def optional_target(self, r: Reader, key: str) -> Target | None:
        value = r.raw(key)
        return None if value is None else self.target(Reader(value, r.path(key), self.faults, _FUNCTION))

    def located(self, r: Reader, key: str, text: str) -> Path:
        try:
            return located(text)
        except AutovoiceError as e:
            r.fault(key, e.fact, e.fix)
            return Path(text)

    def keep(self, r: Reader) -> Keep:
        k = r.child("keep", "{nodes: [name]}")
        spec = Keep(k.strings("op_types"), k.strings("nodes"), k.strings("inputs"))
        k.done()
        return spec

    # -- precision --------------------------------------------------------------------------------

    def precision(self, r: Reader, compared: bool = False) -> Precision:
        """A precision; one that another is `compared` with is not compared with yet another."""
        name = r.take("name", str)
        spec = Precision(
            name,
            r.take("type", str, example="float32"),
            self.target(Reader(r.take("lowering", dict, example=_FUNCTION), r.path("lowering"), self.faults)),
            self.keep(r),
            r.take("scope", str, "all"),
            self.quantize(r, None),
            {name: self.target(t) for name, t in r.children("lowerings", _FUNCTION)},
            {} if compared else self.highers(r),
            self.implicit(r),
            r.take("gates", str, name),
        )
        if spec.scope not in ("all", "heavy"):
            r.fault("scope", f"unknown scope '{spec.scope}'", "all, or heavy")
        r.taken.add("higher")
        if spec.type not in COMPUTE_TYPES:
            r.fault("type", f"unknown compute type '{spec.type}'", nearest(spec.type, COMPUTE_TYPES))
        r.done()
        return spec

    def highers(self, r: Reader) -> dict[str, Precision | None]:
        """What is named under `higher:`, as `default`, or by backend."""
        value = r.raw("higher")
        if not isinstance(value, Mapping):
            return {"default": self.higher(r, "higher", r.data.get("name"))}
        h, names = Reader(value, r.path("higher"), self.faults), ["default", *self.backend_names()]
        for key in (str(k) for k in value):
            if key not in names:
                h.fault(key, f"unknown backend '{key}'", nearest(key, names))
        return {str(key): self.higher(h, str(key), r.data.get("name")) for key in value}

    def higher(self, r: Reader, key: str, of: Any) -> Precision | None:
        """The precision named there; it is none that is asked for as `of`."""
        name = r.take(key, str, None, "fp32")
        if name is None or name == of:
            if name is not None:
                r.fault(key, f"'{name}' is this precision itself", override(r.path(key), "fp32"))
            return None
        node = self.lookup("precision", name, r.path(key))
        if isinstance(node, Fault):
            self.faults.append(node)
            return None
        return self.precision(Reader(node, f"precision/{name}", self.faults), compared=True)

    def implicit(self, r: Reader) -> Implicit | None:
        """The node under `implicit:`, None without one."""
        if r.raw("implicit") is None:
            return None
        i = r.child("implicit", "{calibrator: entropy2}")
        cache = i.take("cache", str, None)
        spec = Implicit(
            i.take("calibrator", str, "entropy2"),
            None if cache is None else self.located(i, "cache", cache),
            i.take("min_share", float, None),
            i.take("float16", bool, True),
            i.take("prefer_int8", bool, True),
            i.path("cache"),
        )
        if spec.calibrator not in CALIBRATORS:
            i.fault("calibrator", f"unknown calibrator '{spec.calibrator}'", nearest(spec.calibrator, CALIBRATORS))
        if spec.min_share is not None and not 0 <= spec.min_share <= 1:
            i.fault("min_share", f"{spec.min_share} is out of range", "a share of heavy layers: 0 to 1, or null")
        i.done()
        return spec

    def quantize(self, r: Reader, base: Quantize | None) -> Quantize | None:
        """The policy under `quantize:`, key by key over `base`; None where there is neither."""
        return read_quantize(r, base, self.backend_names)

    def backend_names(self) -> list[str]:
        """Every option of the group, and the nodes that components have in place of one."""
        components = self.data.get("component")
        nodes = [self.data, *(components.values() if isinstance(components, Mapping) else ())]
        own = [node["backend"] for node in nodes if isinstance(node, Mapping) and "backend" in node]
        names = [str(b["name"]) for b in own if isinstance(b, Mapping) and "name" in b]
        return list(dict.fromkeys([*(n for n in self.lookup.names("backend") if n != AUTO), *names]))

    # -- gate, calibration ------------------------------------------------------------------------

    def gate(self, r: Reader) -> Gate:
        component, end_to_end = (
            _metrics(r.child(k, f"{{snr_db: {_THRESHOLDS}}}")) for k in ("component", "end_to_end")
        )
        spec = Gate(component, end_to_end, r.take("enforce", bool, True))
        r.done()
        return spec

    def calibration(self, r: Reader) -> Calibration:
        return read_calibration(self, r)


def _metrics(c: Reader) -> dict[str, dict[str, float]]:
    found = {m: c.take(m, dict, {}, _THRESHOLDS) for m in METRICS}
    for metric, thresholds in found.items():
        for precision, value in thresholds.items():
            if type(value) not in (int, float):
                key = f"{metric}.{precision}"
                c.fault(key, f"must be a number, got {value!r}", f"{override(c.path(key), '30')}, or another number")
    c.done()
    return {m: t for m, t in found.items() if t}
