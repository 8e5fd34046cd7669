"""Configurations that nobody means: every one is accepted, or refused in two lines a fault.

`python -m tests.campaigns.hostile_configs --count 1000 --seed 0` mutates overrides and files of a small tree, and
composes, reads, joins and plans each in a process with a limit of time and memory. Prints counts, and every outcome
that is neither success nor such a refusal; exit code 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra

from autovoice.command.invocation import Invocation
from autovoice.config.compose import compose
from autovoice.errors import AutovoiceError

SECONDS, BYTES = 10, 4 << 30
TREE: dict[str, Any] = {
    "dims": {"n": {"min": 1, "opt": 2, "max": 3}, "t": {"min": 3, "opt": 10, "max": 40, "buckets": [4, 8]}, "u": "2*t"},
    "pipeline": {
        "name": "hostile",
        "outputs": ["z"],
        "inputs": {
            "x": {"dtype": "float32", "shape": ["n", "t", 8]},
            "ids": {"dtype": "int64", "shape": ["n", "t"], "example": {"integers": [0, 5]}},
        },
    },
    "fuse": None,
    "component": {
        "c": {
            "model": {"_target_": "torch.nn.Linear", "in_features": 8, "out_features": 8},
            "checkpoint": None,
            "inputs": {"input": "x"},
            "outputs": {"y": {"dtype": "float32", "shape": ["n", "t", 8]}},
            "precision": "${precision}",
            "backend": "onnxruntime",
            "gate": "default",
            "calibration": "none",
            "quantize": {"op_types": ["MatMul"], "exclude": ["head.*"], "first": False},
            "options": {"tensorrt": {"max_aux_streams": 2}},
            "keep": {"nodes": ["a"]},
            "export": {"opset": 18},
            "seed": 3,
        },
        "d": {
            "model": {"_target_": "torch.nn.Linear", "in_features": 8, "out_features": 8},
            "inputs": ["y"],
            "outputs": {"z": {"dtype": "float32", "shape": ["n", "t", 8]}},
            "on_mismatch": "fail",
            "only_if_faster": False,
            "dims": {"t": {"max": 40}},
        },
    },
}
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 10**30, 1.5, float("inf"), float("nan"), "", " ", "x" * 5000),
    *(
        "é\u202e",
        "a=b",
        "a b",
        "???",
        "~",
        "${nobody}",
        "${pipeline}",
        "${component.c}",
        "${oc.env:NOPE_NOPE}",
        "${.x}",
    ),
    *(
        "${",
        "${x:1}",
        "\\",
        '"',
        "'",
        "a\nb",
        "on",
        "null",
        "../../x",
        "/dev/zero",
        "pkg://nope/x",
        "~root/x",
        "*",
        "[",
    ),
    *({}, [], [None], [[]], [{}], {"": 1}, {"a.b": 1}, {1: 2}, {"a": {"b": {"c": [1]}}}, [1, "a"], {"name": "x"}),
    *("x", "y", "c", "2*t", "t//0", "import os", "__import__('os')", "9**9**9", "t**t", "(" * 200, "float32", "int8"),
    *({"_target_": "os.system"}, {"_target_": "nobody.x"}, {"_target_": 3}, ["x", "y"], {"x": "y"}, "torch.nn.Linear"),
)
TEXTS = (
    *(
        "\t",
        "\x07",
        "\x00",
        "\ufeff",
        "&a [*a]",
        "*nobody",
        "<<: {a: 1}",
        "!!python/name:os.system x",
        "- a",
        "? [a]",
        ":",
    ),
    *(
        "{",
        "}",
        "[",
        "on: 1",
        "null: 1",
        "1: 2",
        "dims: 3",
        "component: []",
        "defaults: [nobody]",
        "defaults: 3",
        "---",
    ),
    *("a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b]",),
    *("a: " + "[" * 300 + "]" * 300, "a: " + "9" * 5000, "task: {a: b}", "targets: [nobody]", "hydra: 3", "%YAML 9.9"),
    "\n".join(f"x{i}: &x{i} [*x{i - 1}, *x{i - 1}, *x{i - 1}]" if i else "x0: &x0 [1, 1]" for i in range(40)),
)


@dataclass(frozen=True)
class Case:
    """One command: the pipeline's file, and overrides."""

    content: bytes
    overrides: tuple[str, ...]


def case_of(seed: int, number: int) -> Case:
    """The case of that number, the same whenever it is asked for."""
    rng = random.Random(f"{seed}/{number}")
    tree: Any = json.loads(json.dumps(TREE))
    overrides: list[str] = []
    kinds = rng.choices(("tree", "override", "text"), weights=(5, 4, 2), k=rng.randint(1, 2))
    for _ in range(rng.randint(1, 3) if "tree" in kinds else 0):
        _mutate(tree, rng)
    content = yaml.safe_dump(tree, sort_keys=False, allow_unicode=rng.random() < 0.5).encode("utf-8", "replace")
    if "text" in kinds:
        content = _garbled(content, rng)
    if "override" in kinds:
        overrides = [_override(rng) for _ in range(rng.randint(1, 2))]
    head = b"# @package _global_\n" if rng.random() < 0.95 else b""
    return Case(head + content, tuple(overrides))


def _paths(node: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [p for key, value in items for p in ((*above, key), *_paths(value, (*above, key)))]


def _mutate(tree: Any, rng: random.Random) -> None:
    """One node replaced, removed, renamed, moved or added."""
    paths = _paths(tree)
    if not paths:
        return
    *way, key = rng.choice(paths)
    parent = tree
    for step in way:
        parent = parent[step]
    value = rng.choice(VALUES)
    what = rng.random()
    if what < 0.6:
        parent[key] = value
    elif what < 0.75:
        del parent[key]
    elif isinstance(parent, dict):
        new = rng.choice(("", "a b", "é", "on", "1", "a.b", "_target_", "name", "${x}", "x" * 300, "inputs", "~", key))
        parent[new if what < 0.9 else rng.choice((None, True, 3, 1.5, new))] = parent.get(key) if what < 0.9 else value
    else:
        parent.append(value)


def _garbled(content: bytes, rng: random.Random) -> bytes:
    what = rng.random()
    if what < 0.5:
        lines = content.split(b"\n")
        lines.insert(rng.randint(0, len(lines)), rng.choice(TEXTS).encode())
        return b"\n".join(lines)
    if what < 0.8:
        at = rng.randrange(len(content) or 1)
        return content[:at] + bytes(rng.choices(range(256), k=rng.randint(1, 3))) + content[at + rng.randint(0, 2) :]
    if what < 0.9:
        return content[: rng.randrange(len(content) or 1)]
    return content.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-8-sig", "latin-1")), "replace")


def _override(rng: random.Random) -> str:
    tops = ("task", "targets", "workers", "paths.outputs", "precision", "backend", "calibration", "gate", "experiment")
    paths = [".".join(map(str, p)) for p in _paths(TREE)] + [*tops, "hydra.run.dir", "component/c", "nobody", "a@b"]
    value = rng.choice(VALUES)
    text = rng.choice((str, repr, json.dumps, lambda v: yaml.safe_dump(v, default_flow_style=True).strip()))(value)
    key = (
        rng.choice(paths) if rng.random() < 0.9 else rng.choice(("", "a b", "é", ".", "a..b", "/", "a/", "@", "=", "-"))
    )
    shape = rng.random()
    if shape < 0.1:
        return rng.choice((f"~{key}", key, text, f"~{key}={text}"))
    return f"{rng.choice(('', '', '', '+', '++'))}{key}={text}"


class _Late(BaseException):
    """The limit of time is over."""


def _late(*_: object) -> None:
    raise _Late


def outcome(case: Case, folder: Path) -> tuple[str, str]:
    """(`ok`, `refused`, or what went wrong; the words of it), everything up to the plan done in `folder`."""
    file = folder / "conf" / "pipeline" / "hostile.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(case.content)
    before = signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        composed = compose(folder / "conf", ["pipeline=hostile", *case.overrides])
        invocation = Invocation(
            {**composed.data, "paths": _own(composed.data, folder)}, composed.overrides, composed.lookup
        )
        invocation.check()
        _ = invocation.plan.to_run, invocation.folder, invocation.title
        return "ok", ""
    except AutovoiceError as e:
        return ("refused" if _in_two_lines(e) else "not in two lines"), str(e)
    except _Late:
        return "hang", ""
    except BaseException:
        return "traceback", traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        GlobalHydra.instance().clear()


def _own(data: Any, folder: Path) -> Any:
    """The node `paths:` with outputs in `folder`, where there is nothing wrong with it."""
    paths = data.get("paths")
    if isinstance(paths, dict) and isinstance(paths.get("outputs"), str):
        return {**paths, "outputs": str(folder / "outputs")}
    return paths


def _in_two_lines(error: AutovoiceError) -> bool:
    """A fact, and below it, indented, a way out; nothing else, whatever the number of facts."""
    lines = str(error).split("\n")
    pairs = list(zip(lines[::2], lines[1::2], strict=False))
    return len(lines) % 2 == 0 and all(
        fact.strip() and not fact.startswith("  ") and fix.startswith("  ") and fix.strip() for fact, fix in pairs
    )


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


def _job(seed: int, number: int, folder: str) -> tuple[str, str]:
    return outcome(case_of(seed, number), Path(folder))


def campaign(count: int, seed: int, told: Callable[[int, Case, str, str], None]) -> Counter[str]:
    """Counts by outcome; `told` of every one that is neither success nor a refusal in two lines."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        pool = None
        for number in range(count):
            pool = pool or ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_limited)
            try:
                what, words = pool.submit(_job, seed, number, folder).result(timeout=6 * SECONDS)
            except (TimeoutError, BrokenProcessPool) as e:
                what, words = ("hang" if isinstance(e, TimeoutError) else "crash"), ""
                for process in list((pool._processes or {}).values()):
                    process.kill()
                pool.shutdown(wait=False, cancel_futures=True)
                pool = None
            counts[what] += 1
            if what not in ("ok", "refused"):
                told(number, case_of(seed, number), what, words)
        if pool is not None:
            pool.shutdown()
    return counts


def _print(number: int, case: Case, what: str, words: str) -> None:
    print(f"{number}: {what}: {' '.join(case.overrides)[:300]!r}\n{words[-1500:]}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts = campaign(given.count, given.seed, _print)
    print(", ".join(f"{what} {n}" for what, n in sorted(counts.items())))
    return int(bool(counts.keys() - {"ok", "refused"}))


if __name__ == "__main__":
    sys.exit(main())
