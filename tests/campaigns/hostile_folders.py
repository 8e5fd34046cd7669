"""A published folder, changed by someone who wants harm and can make digests fit again."""

from __future__ import annotations

import hashlib
import json
import struct
from random import Random
from typing import Any

import onnx
from onnx import TensorProto, helper

from tests.campaigns.flips import BUILT
from tests.campaigns.hostile_files import SPECIAL, TEXTS, put
from tests.campaigns.hostile_values import OPTIONS, Raw, at, dumped, mutated, places
from tests.campaigns.small import Small


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
    from autovoice.runtime import manifest

    content = dumped(data)
    sign = getattr(manifest, "sealed", None)
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
