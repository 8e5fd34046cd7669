"""Built folders and stores as someone might write them who wants harm: told in two lines, and nothing in them runs.

    python -m tests.campaigns.hostile_manifests --count 1000 --seed 0

Two rounds of three change a published folder, which is then loaded and run; the third changes what the store's JSON
says, and a build follows. Each happens in a process with a limit on memory and ten seconds. A manifest's own digest,
and those of engines, are made to fit again: who can write a folder can do that too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

from tests.campaigns.children import Ended, command, forked, preload
from tests.campaigns.flips import BUILT
from tests.campaigns.kills import fault, loaded
from tests.campaigns.small import Small
from tests.campaigns.tally import Tally

SECONDS, GIGABYTES, THREADS = 10, 6.0, 256
#: a module that tells when it is imported, when its module class is made, and when it is called
CANARY = """
import os
def sing(*_, **__):
    open(os.environ["CANARY"], "a").write("x")
sing()
try:
    from torch import nn
    class Bird(nn.Module):
        def __init__(self, *_, **__):
            super().__init__()
            sing()
except ImportError:
    pass
BACKEND = sing
"""


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


# -- values ----------------------------------------------------------------------------------------

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
        name = next(v for v in iter(lambda: rng.choice(VALUES), None) if isinstance(v, str))
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


# -- whole files -----------------------------------------------------------------------------------

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "deep lists": b"[" * 1_000_000,
    "deep objects": b'{"a":' * 1_000_000,
    "NUL bytes": bytes(1_000_000),
    "not UTF-8": b'{"schema": "\xff\xfe"}',
    "UTF-16": '{"schema": 1}'.encode("utf-16"),
    "a huge number": b'{"schema": ' + b"9" * 1_000_000 + b"}",
    "schema is a huge number": b'{"schema": ' + b"9" * 4000 + b"}",
    "one string": b'"' + b"x" * 50_000_000 + b'"',
    "many keys": b"{" + b",".join(b'"%d":0' % i for i in range(500_000)) + b"}",
    "the same key twice": b'{"schema": 1, "schema": 2}',
    "a list": b"[]",
    "null": b"null",
}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # its address is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def _sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(200 * 2**30)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _closed(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text("{}")


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a FIFO": _fifo,
    "a folder": _closed,
    "a socket": _socket,
    "200 GiB of nothing": _sparse,
    "a link to itself": _loop,
    **{f"a link to {t}": _link(t) for t in ("/dev/zero", "/dev/full", "/dev/random", "/dev/tty", "/proc/self/mem")},
    **{f"a link to {t}": _link(t) for t in ("/nowhere", "/", "/etc/passwd", "../../store", "/proc/kmsg")},
}


def put(path: Path, make: Callable[[Path], None] | bytes) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    path.write_bytes(make) if isinstance(make, bytes) else make(path)


# -- published folders -----------------------------------------------------------------------------


def safetensors(record: Any, tensors: Any = None, body: bytes = b"") -> bytes:
    """A file as the torch backend's engines are, with any record in it."""
    header = json.dumps({"__metadata__": {"autovoice": json.dumps(record)}, **(tensors or {})}).encode()
    return struct.pack("<Q", len(header)) + header + body


def torch_records(rng: Random) -> dict[str, Any]:
    target = rng.choice(["canary.Bird", "canary.sing", "os.system", "builtins.eval", "torch.hub.load", "torch.load"])
    nested = {"_target_": rng.choice(["canary.sing", "os.system", "builtins.exec"]), "command": "touch $CANARY"}
    kwargs = rng.choice([{}, {"command": "touch $CANARY"}, {"a": nested}, {"a": "${oc.env:CANARY}"}, {"a": [nested]}])
    inner = rng.choice([target, "torch.nn.Linear", "torch.nn.Sequential"])
    fields = {"seed": 0, "inputs": {"x": "float32"}, "outputs": {"y": "float32"}, "dtype": "float32"}
    return {"target": inner, "kwargs": kwargs, **fields}


def with_torch_engine(project: Small, data: dict[str, Any], rng: Random) -> str:
    """A component, or its fallback, that says it is loaded by torch, with an engine that names what to call."""
    content = safetensors(torch_records(rng))
    name = rng.choice(["gain.safetensors", "gain.onnx"])
    put(project.folder(BUILT) / name, content)
    backend = {"name": "torch", "loader": "torch", "options": {}, "environment": None}
    engine = {"file": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "backend": backend}
    component = data["components"][0]
    if rng.random() < 0.3:
        component["sha256"] = "0" * 64
        component["on_mismatch"] = {"policy": "torch", "fallback": {**engine, "beside": {}}}
        return f"a torch fallback: {content[8:300]!r}"
    component |= engine
    return f"a torch engine: {content[8:300]!r}"


def with_loader(project: Small, data: dict[str, Any], rng: Random) -> str:
    loader = rng.choice(
        ["canary", "base", "tensorrt", "tensorrt_rtx", "torch", "os", "../canary", "canary:sing", "", None, [], {}, 1]
    )
    data["components"][0]["backend"]["loader"] = loader
    return f"loader {loader!r}"


def with_options(project: Small, data: dict[str, Any], rng: Random) -> str:
    options = rng.choice(OPTIONS)
    data["components"][rng.randrange(len(data["components"]))]["backend"]["options"] = options
    return f"options {str(options)[:100]}"


def with_engine(project: Small, data: dict[str, Any], rng: Random) -> str:
    """An engine whose digest fits, and which is no longer a sound graph."""
    component = rng.choice(data["components"])
    path = project.folder(BUILT) / component["file"]
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    made = rng.choice([bytes(content), bytes(content), external(rng), b"", b"\x08\x0a", rng.randbytes(1000)])
    put(path, made)
    component["sha256"], component["size"] = hashlib.sha256(made).hexdigest(), len(made)
    return f"engine {component['file']}: {made[:60]!r}"


def external(rng: Random) -> bytes:
    """A graph whose weights lie in a file that is none of its own."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", "length", 8]) for n in "xy")
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8], data_location=TensorProto.EXTERNAL)
    place = rng.choice(["/etc/passwd", "../../../../etc/passwd", "/dev/zero", "manifest.json", "fifo", "a\0b", ""])
    for key, value in {"location": place, "offset": "0", "length": rng.choice(["32", str(2**40), "-1"])}.items():
        weights.external_data.add(key=key, value=value)
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "g", [x], [y], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert isinstance(made, onnx.ModelProto)
    return bytes(made.SerializeToString())


def with_special(project: Small, data: dict[str, Any], rng: Random) -> str:
    """Something that is no regular file where an engine stands."""
    what = rng.choice(sorted(SPECIAL))
    put(project.folder(BUILT) / data["components"][0]["file"], SPECIAL[what])
    return f"engine is {what}"


def with_mutations(project: Small, data: dict[str, Any], rng: Random) -> str:
    changed, told = mutated(data, rng)
    data.clear()
    data |= changed
    return told


CHANGES = (with_torch_engine, with_loader, with_options, with_engine, with_special, *(with_mutations,) * 7)


def signed(data: dict[str, Any]) -> bytes:
    """The manifest as its writer would write it, where it carries a digest of itself."""
    from autovoice import manifest

    content = dumped(data)
    sign = getattr(manifest, "signed", None)
    if sign is None or any(isinstance(at(data, p), Raw) for p in places(data)):
        return content
    try:
        return bytes(manifest.dump(sign(data)))
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):  # what no writer could write
        return content


def hostile_folder(project: Small, rng: Random) -> str:
    """Change a published folder; what was done."""
    path = project.folder(BUILT) / "manifest.json"
    if rng.random() < 0.12:
        special = {**TEXTS, **SPECIAL}
        what = rng.choice(sorted(special))
        put(path, special[what])
        return f"manifest is {what}"
    data = json.loads(path.read_bytes())
    told = rng.choice(CHANGES)(project, data, rng)
    put(path, signed(data))
    return told


# -- the store -------------------------------------------------------------------------------------


def hostile_store(project: Small, rng: Random) -> str:
    """Change a JSON file of the store, or put something else in its place; what was done."""
    folder = project.store
    files = [folder / "hashes.json", folder / "imports.json", folder / "last" / "small.json"]
    path = rng.choice([*files, *[rng.choice(sorted(folder.glob("objects/*/*/record.json")))] * 3])
    name = path.relative_to(folder)
    if rng.random() < 0.25 or not path.is_file():
        special = {**TEXTS, **SPECIAL}
        what = rng.choice(sorted(special))
        put(path, special[what])
        return f"{name} is {what}"
    mode = path.stat().st_mode
    data, told = mutated(json.loads(path.read_bytes()), rng)
    put(path, dumped(data))
    path.chmod(mode & 0o777)
    return f"{name}: {told}"


# -- rounds ----------------------------------------------------------------------------------------


class Hostile:
    """A built project, harmed and restored again and again."""

    def __init__(self, root: Path, tally: Tally) -> None:
        self.project, self.base, self.tally = Small(root / "project"), Small(root / "base"), tally
        self.canary = root / "sang"
        (root / "nest").mkdir()
        (root / "nest" / "canary.py").write_text(CANARY)
        sys.path.insert(0, str(root / "nest"))
        os.environ["CANARY"] = str(self.canary)
        self.project.write(BUILT)
        ended = forked(command(self.project.root, self.project.arguments(BUILT)), 60)
        assert (ended.how, ended.value) in (("returned", 0), ("returned", None)), ended
        self.project.copy_to(self.base.root)

    def round(self, seed: int, number: int) -> None:
        rng = Random(f"{seed}-{number}")
        self.base.copy_to(self.project.root)
        kind = rng.choice(["folder", "folder", "store"])
        what = hostile_folder(self.project, rng) if kind == "folder" else hostile_store(self.project, rng)
        call = self._load if kind == "folder" else self._build
        ended = forked(call, SECONDS, GIGABYTES)
        self.judge(kind, number, ended, what)
        if kind == "store":
            self.completes(number, what)

    def _load(self) -> str:
        got = loaded(self.project.folder(BUILT))
        threads = len(os.listdir("/proc/self/task"))
        return f"{len(got)} outputs" if threads <= THREADS else f"{threads} threads"

    def _build(self) -> Any:
        return command(self.project.root, self.project.arguments(BUILT))()

    def completes(self, number: int, what: str) -> None:
        """However a store was harmed, the command that was refused once is not refused again."""
        ended = forked(self._build, SECONDS * 3)
        if ended.how != "returned" or ended.value:
            self.tally.fail(
                "store: is not mended by the next build", number, f"{ended.why} {ended.said[-400:]}; {what}"
            )
            return
        wrong = fault(self.project.folder(BUILT), [BUILT])
        if wrong:
            self.tally.fail("store: the build after it is wrong", number, f"{wrong}; {what}")

    def judge(self, kind: str, number: int, ended: Ended, what: str) -> None:
        fail = self.tally.fail
        if self.canary.exists():
            self.canary.unlink()
            fail(f"{kind}: code was executed", number, f"{ended.why}; {what}")
        said = ended.said if kind == "store" else ended.value
        if ended.how == "refused" or (kind == "store" and ended.how == "returned" and ended.value):
            text = str(said).strip()
            self.tally.note(f"{kind}: refused")
            if "Traceback" in ended.said:
                fail(f"{kind}: traceback", number, f"{ended.said[-1500:]}; {what}")
            elif len(text.splitlines()) > 8 or len(text) > 2000:
                fail(f"{kind}: an error of {_rough(text)}", number, f"{text[:200]!r}; {what}")
            elif any(c < " " and c not in "\n\t" for c in text):
                fail(f"{kind}: control characters in an error", number, f"{text[:300]!r}; {what}")
        elif ended.how == "returned" and kind == "folder" and "threads" in str(ended.value):
            fail("folder: starts as many threads as it is told", number, f"{ended.value}; {what}")
        elif ended.how == "returned":
            self.tally.note(f"{kind}: harmless")
            if "Traceback" in ended.said:
                fail(f"{kind}: traceback", number, f"{ended.said[-1500:]}; {what}")
        else:
            error = str(ended.value).partition(":")[0] if ended.how == "raised" else ""
            frames = [line.strip() for line in ended.said.splitlines() if "autovoice/" in line]
            fail(f"{kind}: {ended.how} {error}".strip(), number, f"{str(ended.value)[:300]}; {what}; {frames[-1:]}")


def _rough(text: str) -> str:
    return "many lines" if len(text.splitlines()) > 8 else "thousands of characters"


def hostile(root: Path, count: int, seed: int, first: int = 0) -> Tally:
    tally = Tally(f"python -m tests.campaigns.hostile_manifests --count 1 --seed {seed} --first {{}}")
    one = Hostile(root, tally)
    for number in range(first, first + count):
        one.round(seed, number)
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first round's number")
    options = parser.parse_args(arguments)
    preload()
    root = Path(tempfile.mkdtemp(prefix="hostile-"))
    try:
        tally = hostile(root, options.count, options.seed, options.first)
    finally:
        shutil.rmtree(root)
    print(tally.report(options.count), flush=True)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
