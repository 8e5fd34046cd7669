"""`task=scaffold onnx=model.onnx output=my/conf`: YAML that builds a network, from the network itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autovoice.command.invocation import Invocation
from autovoice.config.paths import located
from autovoice.config.reader import NAME, Reader
from autovoice.errors import AutovoiceError, ConfigError, Fault, unwritable
from autovoice.plan.code import add_cwd_to_path
from autovoice.store.atomic import write_atomically
from autovoice.store.output import Output
from autovoice.terminal.escape import say
from autovoice.terminal.table import table


@dataclass(frozen=True)
class Request:
    """What to describe, and the tree to write into; of `onnx` and `model` there is one."""

    tree: Path
    onnx: Path | None
    written: str
    model: Mapping[str, Any]
    shapes: Mapping[str, Any]
    sizes: Mapping[str, int]
    name: str | None
    overwrite: bool


def run(invocation: Invocation) -> int:
    """Write a pipeline, a component and a calibration. Raises AutovoiceError for what no component can be."""
    from autovoice.scaffold.render import command, files_of
    from autovoice.scaffold.study import study

    request = read(invocation)
    subject = _subject(request)
    if not NAME.fullmatch(subject.name):
        raise ConfigError([Fault("name", f"'{subject.name}' cannot name a file", "letters, digits and _")])
    studied = study(subject, request.sizes)
    files = files_of(subject, studied, request.tree)
    _write(files, request.overwrite)
    rows = [[kind, n, t["dtype"], _axes(t["shape"])] for kind, n, t in _tensors(studied.inputs, studied.outputs)]
    if studied.odd:
        say(f" note: on noise {', '.join(studied.odd)} is not finite: decide what `example:` the inputs have")
    print(table(["", subject.name, "dtype", "shape"], rows))
    found = command(subject, request.tree)
    say(
        "",
        *map(str, files),
        "",
        f" build it:    {found}",
        f" in int8:     {found} precision=int8 calibration={subject.name}",
    )
    return 0


def read(invocation: Invocation) -> Request:
    """The keys of the command line. Raises ConfigError with every fault."""
    faults: list[Fault] = []
    r = Reader(invocation.data, "", faults)
    onnx, model = r.take("onnx", str, None), r.raw("model")
    node = {"_target_": model} if isinstance(model, str) else model
    if (onnx is None) == (node is None):
        fix = "onnx=model.onnx, or model=my_package.Net shapes='{mel: [batch, 80, frames]}'"
        r.fault("onnx", "task=scaffold describes one ONNX file or one module", fix)
    if node is not None and not (isinstance(node, Mapping) and isinstance(node.get("_target_"), str)):
        r.fault("model", f"{model!r} names no module", "model=my_package.Net, or model='{_target_: my_package.Net}'")
    if invocation.settings.output is None:
        r.fault("output", "task=scaffold needs a folder to write to", "output=my/conf")
    sizes = r.take("sizes", dict, {}, "{frames: 100}")
    if not all(type(v) is int and v > 0 for v in sizes.values()):
        r.fault("sizes", f"{sizes!r}: sizes are whole numbers", "sizes='{frames: 100}'")
    shapes, name = r.take("shapes", dict, {}, "{mel: [batch, 80, frames]}"), r.take("name", str, None)
    if faults:
        raise ConfigError(faults)
    assert invocation.settings.output is not None
    path = None if onnx is None else _located(onnx)
    overwrite = invocation.settings.overwrite
    return Request(invocation.settings.output, path, onnx or "", node or {}, shapes, sizes, name, overwrite)


def _located(text: str) -> Path:
    try:
        path = located(text)
    except AutovoiceError as e:
        raise ConfigError([Fault("onnx", e.fact, e.fix)]) from e
    if not path.is_file():
        raise ConfigError([Fault("onnx", f"{path}: is no file", "onnx=/path/to/model.onnx")])
    return path


def _subject(request: Request) -> Any:
    from autovoice.scaffold.subject import from_module, from_onnx

    if request.onnx is not None:
        return from_onnx(request.onnx, request.written, request.name)
    add_cwd_to_path()
    kwargs = {k: v for k, v in request.model.items() if k != "_target_"}
    return from_module(request.model["_target_"], kwargs, request.shapes, request.name)


def _write(files: Mapping[Path, str], overwrite: bool) -> None:
    """All of them or none: each is checked before the first is written."""
    for path in files:
        if path.exists():
            Output(path, overwrite).check()
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
        except OSError as e:
            raise unwritable(str(path), e, "output=/another/folder") from e


def _tensors(*groups: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [(kind, n, t) for kind, group in zip(("in", "out"), groups, strict=True) for n, t in group.items()]


def _axes(shape: list[str | int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
