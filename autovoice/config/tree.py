"""The user's own tree of YAML, file by file: what Hydra ignores, misreads, or cannot read at all."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.plugins.config_source import ConfigSource
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autovoice.errors import AutovoiceError, first_line

#: of one file, aliases written out, and of brackets inside brackets
MOST_VALUES, DEEPEST = 100_000, 100
_KEY_OF = {"tag:yaml.org,2002:bool": "as true or false", "tag:yaml.org,2002:null": "as null"}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def tree_warnings(config_dir: Path | None, shipped: Path) -> Iterator[str]:
    """What Hydra would pass over without a word."""
    if config_dir is None:
        return
    for file in sorted(config_dir.rglob("*.yaml")):
        name = file.relative_to(config_dir)
        if (shipped / name).exists():
            yield f"{config_dir}/{name} is hidden by the shipped file of that name; rename it"
    for file in sorted(config_dir.rglob("*.yml")):
        if not file.with_suffix(".yaml").exists():
            words = shlex.join(["mv", str(file), str(file.with_suffix(".yaml"))])
            yield f"{file} is not read, files of a tree end in .yaml: {words}"


def watch(source: ConfigSource, root: Path) -> None:
    """Have every file that `source` loads from `root` checked first, in place."""
    load = source.load_config

    def checked(config_path: str) -> Any:
        path = root / (config_path if config_path.endswith(".yaml") else f"{config_path}.yaml")
        check_file(path)
        try:
            result = load(config_path)
            _check_defaults(path, result.config)
            return result
        except yaml.MarkedYAMLError:
            raise  # names the file and its line
        except (ValueError, OSError, RecursionError, OmegaConfBaseException, yaml.YAMLError) as e:
            raise AutovoiceError(f"{path}: cannot be read: {first_line(e)}", "correct the file") from e

    source.load_config = checked


def check_file(path: Path) -> None:
    """Raise AutovoiceError for what is no mapping of names in UTF-8, or would not fit into memory."""
    text = _text(path)
    try:
        _walk(path, text)
    except yaml.MarkedYAMLError:
        return  # told by whoever loads it, with the line
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1 if isinstance(e.position, int) else 1
        fact = f"{path}:{line}: holds the character U+{ord(chr(e.character)):04X}, which YAML does not allow"
        raise AutovoiceError(fact, 'write it as an escape inside double quotes, as "\\x07"') from e


def _check_defaults(path: Path, config: Any) -> None:
    """`defaults:` is a list of names, and of {group: option}."""
    data = cast(dict[str, Any], OmegaConf.to_container(config))
    defaults = data.get("defaults", [])
    fix = "defaults: [_self_, /dims: default, /component/<name>: <option>]"
    if not isinstance(defaults, list):
        raise AutovoiceError(f"{path}: `defaults:` must be a list, got {defaults!r}", fix)
    for item in defaults:
        values = list(item.values()) if isinstance(item, dict) else [item]
        options = values[0] if len(values) == 1 and isinstance(values[0], list) else values
        if len(values) != 1 or not all(isinstance(o, str) or (o is None and isinstance(item, dict)) for o in options):
            raise AutovoiceError(f"{path}: `defaults:` has {item!r}, which is neither a name nor group: option", fix)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as e:
        raise AutovoiceError(f"{path}: {e.strerror}", "a file that can be read") from e
    kind = "utf-8"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        kind = "utf-16"
    elif content.startswith(codecs.BOM_UTF8):
        fix = "sed -i '1s/^\\xEF\\xBB\\xBF//' " + shlex.quote(str(path))
        raise AutovoiceError(f"{path}:1: begins with a byte order mark, behind which `# @package` is not seen", fix)
    try:
        if kind == "utf-8":
            return content.decode()
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        fix = _converted("latin1", path)
        raise AutovoiceError(f"{path}:{line}: is not UTF-8: byte 0x{content[e.start]:02X}", fix) from e
    raise AutovoiceError(f"{path}:1: is UTF-16, not UTF-8", _converted(kind, path))


def _converted(kind: str, path: Path) -> str:
    name, new = shlex.quote(str(path)), shlex.quote(f"{path}.new")
    return f"iconv -f {kind} -t utf-8 {name} > {new} && mv {new} {name}, where it is {kind}"


@dataclass
class _Frame:
    """A mapping or a list that is still open."""

    mapping: bool
    anchor: str | None
    values: int = 1
    items: int = 0


def _walk(path: Path, text: str) -> None:
    """Event by event: neither depth nor aliases cost more than the text is long."""
    stack = [_Frame(False, None)]
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, Loader=_LOADER):
        where = f"{path}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if isinstance(event, yaml.CollectionStartEvent):
            mapping = isinstance(event, yaml.MappingStartEvent)
            if len(stack) == 1 and not mapping:
                _refuse_top(path, "a list")
            stack.append(_Frame(mapping, event.anchor))
            if len(stack) > DEEPEST:
                raise AutovoiceError(f"{where}: nested more than {DEEPEST} deep", "fewer levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = stack.pop()
            _add(stack[-1], closed.values)
            if closed.anchor:
                sizes[closed.anchor] = closed.values
        elif isinstance(event, yaml.AliasEvent):
            if any(f.anchor == event.anchor for f in stack):
                fact = f"{where}: *{event.anchor} stands inside &{event.anchor} itself"
                raise AutovoiceError(fact, "an alias repeats what is complete before it")
            _add(stack[-1], sizes.get(event.anchor or "", 1))
        elif isinstance(event, yaml.ScalarEvent):
            if len(stack) == 1 and (event.value or not event.implicit[0]):
                _refuse_top(path, "one value")
            _check_key(where, event, stack[-1])
            _add(stack[-1], 1)
            if event.anchor:
                sizes[event.anchor] = 1
        if stack[-1].values > MOST_VALUES:
            raise AutovoiceError(f"{where}: comes to more than {MOST_VALUES} values", "fewer aliases of aliases")


def _refuse_top(path: Path, what: str) -> None:
    raise AutovoiceError(f"{path}: holds {what}, not a mapping", "lines of `key: value`")


def _add(frame: _Frame, values: int) -> None:
    frame.values += values
    frame.items += 1


def _check_key(where: str, event: yaml.ScalarEvent, frame: _Frame) -> None:
    """Names that YAML reads as something else than names."""
    if not frame.mapping or frame.items % 2 or not event.implicit[0]:
        return
    tag = ""
    if _odd(event.value):
        tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, event.value, (True, False))  # type: ignore[no-untyped-call]
    if read := _KEY_OF.get(tag):
        shown = event.value or "''"
        fact = f"{where}: the key {shown} is read {read}, not as a name"
        raise AutovoiceError(fact, f'"{event.value}": …, with the quotes')


def _odd(text: str) -> bool:
    """What may be true, false or null in YAML; most keys are longer."""
    return len(text) <= 5
