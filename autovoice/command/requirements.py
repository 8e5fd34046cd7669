"""Requirements beside autovoice, what for, and what adds them: by its metadata, `extras:` and backends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement

from autovoice.plan.code import tool_version
from autovoice.plan.rules.kinds import KINDS
from autovoice.spec import Backend

_ABSENT = "absent"
#: of autovoice itself, beside the names of its extras
_BASE = ""
#: how many kinds of steps are named
_KINDS = 3


@dataclass(frozen=True)
class Tool:
    """A distribution: its version, empty where it is absent, what needs it, and the command that adds it."""

    name: str
    version: str
    use: str
    add: str


def tools(extras: Mapping[str, str], backends: Iterable[Backend]) -> list[Tool]:
    """Everything that autovoice requires, then what each of these extras adds, then what each backend needs.

    `extras` maps the name of an extra to what it is for.
    """
    required = _required()
    found = [_tool(name, (), _uses(name), _install(_BASE)) for name in required.get(_BASE, ())]
    for extra, use in extras.items():
        found += [_tool(name, (), use, _install(extra)) for name in required.get(extra, ())]
    for backend in backends:
        found += _needs(backend, required)
    return list(_merged(found))


def _required() -> dict[str, list[str]]:
    """Names of distributions by extra; nothing where autovoice runs without being installed."""
    try:
        texts = requires("autovoice") or []
    except PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for one in map(Requirement, texts):
        extra = str(one.marker).partition("extra == ")[2].strip("\"'") if one.marker else _BASE
        found.setdefault(extra, []).append(one.name)
    return found


def _needs(backend: Backend, required: Mapping[str, Iterable[str]]) -> Iterator[Tool]:
    """Added by autovoice itself, else by the least extra that has them all, else each by its own name."""
    base = set(required.get(_BASE, ()))
    able = [e for e, names in required.items() if backend.needs.keys() <= base | set(names)]
    extra = min(able, key=lambda e: (e != _BASE, len(list(required[e]))), default=None)
    for name, others in backend.needs.items():
        add = f"pip install {name}" if extra is None else _install(extra)
        yield _tool(name, others, f"backend={backend.name}", add)


def _uses(name: str) -> str:
    """Some of the kinds of steps that a distribution is a tool of."""
    kinds = [name_of for name_of, kind in KINDS.items() if name in kind.tools]
    return ", ".join([*kinds[:_KINDS], *(["…"] if len(kinds) > _KINDS else [])]) or "autovoice itself"


def _tool(name: str, others: Iterable[str], use: str, add: str) -> Tool:
    versions = (tool_version(n) for n in (name, *others))
    return Tool(name, next((v for v in versions if v != _ABSENT), ""), use, add)


def _install(extra: str) -> str:
    return f"pip install 'autovoice[{extra}]'" if extra else "pip install autovoice"


def _merged(found: Iterable[Tool]) -> Iterator[Tool]:
    """A line for each distribution, whoever needs it."""
    by_name: dict[str, list[Tool]] = {}
    for tool in found:
        by_name.setdefault(tool.name, []).append(tool)
    for name, same in by_name.items():
        use, add = (", ".join(dict.fromkeys(texts)) for texts in ((t.use for t in same), (t.add for t in same)))
        yield Tool(name, next((t.version for t in same if t.version), ""), use, add)
