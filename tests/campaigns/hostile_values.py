"""Values that no writer of JSON would write, and JSON data changed by them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any


class Raw:
    """Text that stands in JSON as it is, where no Python value would be written like it."""

    def __init__(self, text: str) -> None:
        self.text = text


_MARK = "\u2620raw\u2620"


def dumped(data: Any) -> bytes:
    """JSON, with `Raw` text in its place and lone surrogates escaped."""
    raw: list[str] = []

    def default(value: Raw) -> str:
        raw.append(value.text)
        return _MARK

    text = json.dumps(data, indent=1, default=default)
    pieces = text.split(json.dumps(_MARK))
    return "".join(p + (raw[i] if i < len(raw) else "") for i, p in enumerate(pieces)).encode()


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 0.5, 1e308, [], {}, "", " ", "x", [[]], {"": {}}),
    *(Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 5000), Raw("0." + "1" * 5000)),
    *("..", "../..", "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", "~", "."),
    *("a\0b", "\x1b[2J\x1b[31m", "a\nb", "a\r\nerror: b", "\u202e", "\ufeff", "\ud800", "\U0001f426"),
    *("x" * 300, "x" * 5000, "x" * 1_000_000, "a/" * 3000, "%s%n{0}", "${oc.env:HOME}", "$(touch x)", "`x`", "*", "n"),
    *("canary", "canary.Bird", "canary.sing", "os.system", "builtins.eval", "torch.load", "subprocess.run", "torch"),
    *("tensorrt", "tensorrt_rtx", "base", "__init__", "onnxruntime", "os", "../base", "rebuild", "fail"),
    *("float32", "float64", "int8", "object", "O", "V8", "U5", "datetime64", "float32, float32", "bfloat16"),
    *("10**10**10", "2**length**length**99", "length//0", "n*" * 2000 + "n", "(" * 2000, "__import__('canary')"),
    *("canary.sing()", "length.__class__", "lambda: 0", "-" * 5000 + "1", "1" * 5000, "length % 0", "n if n else 0"),
    *(["n"] * 100, ["x"] * 100_000, [0, -1, 1.5, None, "", {}], {"min": 0}, {"name": "x"}, [None], ["canary"]),
    *(Raw("[" * 500 + "]" * 500), Raw("[" * 100_000 + "]" * 100_000), Raw('{"a":' * 20_000 + "1" + "}" * 20_000)),
    *(100_000, 10**9, [1] * 100_000, {str(i): i for i in range(10_000)}),
)

#: options of a session that ask for more than a machine has, or for what it has not
OPTIONS: tuple[dict[str, Any], ...] = (
    *({"intra_op_num_threads": n} for n in (100_000, 2**31 - 1, 2**31, 2**63, -1, 1.5, "4", True, None, [1])),
    *({"providers": p} for p in (["CUDAExecutionProvider"], ["canary"], [], "CPUExecutionProvider", [["x", {}]], [1])),
    *({"providers": ["CPUExecutionProvider"] * n} for n in (2, 100_000)),
    *({"graph_optimization_level": level} for level in ("all", "ALL", 99, None, [], {}, "x" * 1000)),
    *({"custom_op_library": "canary.so"}, {"optimized_model_filepath": "/tmp/x"}, {"profile_file_prefix": "../x"}, {}),
    *({"": ""}, {"a\0b": 1}, {"providers": None, "graph_optimization_level": "disabled", "intra_op_num_threads": 1}),
)


def places(data: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in JSON data."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*where, key)
        yield from places(value, (*where, key))


def at(data: Any, path: Sequence[Any]) -> Any:
    for key in path:
        data = data[key]
    return data


def mutated(data: Any, rng: Random) -> tuple[Any, str]:
    """The data with one to three values replaced, removed, renamed, doubled or exchanged; and what was done."""
    data, told = deepcopy(data), []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        found = list(places(data))
        if not found:
            break
        depth = rng.randint(1, max(map(len, found)))  # else almost all would be digests of steps, deep down
        path = rng.choice([p for p in found if len(p) <= depth])
        told.append(_mutate(at(data, path[:-1]), path[-1], rng, [at(data, p) for p in found]))
        told[-1] = f"{'/'.join(map(str, path))[:80]} {told[-1]}"
    return data, "; ".join(told)


def _mutate(parent: Any, key: Any, rng: Random, others: Sequence[Any]) -> str:
    how = rng.choice(["replace"] * 6 + ["remove", "rename", "wrap", "exchange", "exchange"])
    if how == "remove":
        del parent[key]
    elif how == "rename" and isinstance(parent, dict):
        name = rng.choice([v for v in VALUES if isinstance(v, str)])
        parent[name] = parent.pop(key)
        return f"renamed to {name[:40]!r}"
    elif how == "wrap":
        parent[key] = rng.choice([[parent[key]], {"x": parent[key]}, str(parent[key])])
    elif how == "exchange":
        parent[key] = deepcopy(rng.choice(others))
        return f"→ {str(parent[key])[:60]}"
    else:
        value = rng.choice(VALUES)
        parent[key] = value
        return f"→ {(value.text if isinstance(value, Raw) else repr(value))[:60]}"
    return how
