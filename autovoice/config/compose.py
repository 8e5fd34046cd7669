"""The Hydra edge: overrides in, plain data out. No Hydra or OmegaConf object leaves this module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from autovoice.errors import AutovoiceError, ConfigError, Fault, choices, nearest

PACKAGE = Path(__file__).resolve().parent.parent


def conf_dir() -> Path:
    """The shipped tree: inside an installed wheel, or beside the package in a checkout."""
    for folder in (PACKAGE / "conf", PACKAGE.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise AutovoiceError("the shipped configuration is missing", f"looked for conf/config.yaml in {PACKAGE}")


@dataclass(frozen=True)
class Groups:
    """The groups beside a composed configuration, of the shipped tree and of the user's."""

    config: DictConfig
    overrides: tuple[str, ...]

    def names(self, group: str) -> list[str]:
        """What there is to choose from."""
        return list(GlobalHydra.instance().config_loader().get_group_options(group))

    def __call__(self, group: str, name: str, where: str) -> Mapping[str, Any] | Fault:
        """The node of `group` called `name`, composed in full, which takes a while."""
        loader, options = GlobalHydra.instance().config_loader(), self.names(group)
        if name not in options:
            return Fault(where, f"unknown {group} '{name}'", nearest(name, options))
        try:
            node = loader.load_configuration(f"{group}/{name}", overrides=[], run_mode=RunMode.RUN)[group]
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as e:
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            raise _explained(e, hydra, self.overrides) from e
        with open_dict(self.config):
            self.config[f"_{group}"] = node  # inside the whole, so that its interpolations resolve
        try:
            return _plain(self.config[f"_{group}"], f"{group}/{name}")
        finally:
            with open_dict(self.config):
                del self.config[f"_{group}"]


@dataclass(frozen=True)
class Composed:
    """One composed configuration as plain data, with the overrides it was composed from."""

    data: Mapping[str, Any]
    overrides: tuple[str, ...]
    config: DictConfig

    @property
    def lookup(self) -> Groups:
        return Groups(self.config, self.overrides)


def start(config_dir: Path | None) -> Hydra:
    """Hydra over the shipped tree and, ranked below it, the user's own."""
    path = create_config_search_path(str(conf_dir()))
    if config_dir is not None:
        if not config_dir.is_dir():
            raise AutovoiceError(f"--config-dir {config_dir}: no such folder", "give the folder of your own tree")
        path.append("command-line", f"file://{config_dir.resolve()}", anchor="main")
    GlobalHydra.instance().clear()
    return Hydra.create_main_hydra2(task_name="autovoice", config_search_path=path)


def shadowed(config_dir: Path | None) -> list[str]:
    """The user's files that the shipped tree hides: Hydra would ignore them without a word."""
    if config_dir is None:
        return []
    shipped = conf_dir()
    found = (f.relative_to(config_dir) for f in sorted(config_dir.rglob("*.yaml")))
    return [str(f) for f in found if (shipped / f).exists()]


def compose(config_dir: Path | None, overrides: Sequence[str]) -> Composed:
    """Compose once. Raises AutovoiceError with the nearest valid name for whatever does not exist."""
    hydra = start(config_dir)
    try:
        config = hydra.compose_config("config", list(overrides), run_mode=RunMode.RUN, from_shell=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as e:
        raise _explained(e, hydra, overrides) from e
    with open_dict(config):
        config.pop("hydra", None)
    return plain(config, overrides)


def check_sweep(config_dir: Path | None, overrides: Sequence[str]) -> None:
    """Compose every value of a sweep once, so that a wrong one is told in two lines before any job starts.

    Raises AutovoiceError. Values that only Hydra or a sweeper can choose (glob, interval) are left to them.
    """
    parser = OverridesParser.create()
    values: list[list[str]] = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as e:
            raise AutovoiceError(f"{text}: {str(e).splitlines()[0]}", "quote it for the shell, or correct it") from e
        if not override.is_sweep_override():
            values.append([text])
        elif override.is_discrete_sweep() and "glob(" not in text:
            values.append([f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()])
    first = [v[0] for v in values if v]
    compose(config_dir, first)
    for i, alternatives in enumerate(v for v in values if v):
        for other in alternatives[1:]:
            compose(config_dir, [*first[:i], other, *first[i + 1 :]])
    GlobalHydra.instance().clear()  # Hydra's own main starts afresh


def plain(config: DictConfig, overrides: Sequence[str]) -> Composed:
    """Plain data of a composed configuration, every interpolation resolved, nothing missing."""
    return Composed(_plain(config), tuple(overrides), config)


def _plain(config: DictConfig, file: str = "") -> Any:
    """Containers to dicts and lists; `file` is where a looked-up node stands, whose keys are not the tree's."""
    try:
        for name in ("dims", "pipeline"):  # what others refer to first, so that a fault is told where it stands
            if isinstance(config.get(name), DictConfig):
                OmegaConf.to_container(config[name], resolve=True, throw_on_missing=True)
        _drop_empty_buckets(config)
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as e:
        key = e.full_key or "config"
        key = f"{file}.{key.partition('.')[2]}" if file else key
        if isinstance(e, MissingMandatoryValue):
            fault = Fault(key, "is required", f"set it in {file}.yaml" if file else f"set it: {key}=…")
        else:
            fault = Fault(key, str(e).splitlines()[0], "every ${…} names a value of this tree")
        raise ConfigError([fault]) from e


def _drop_empty_buckets(config: DictConfig) -> None:
    """Take `buckets: []` out of the dims, in place: it stands there to be found, and says nothing.

    Whoever reads `${dims}` whole, as a source of calibration data does, would make another step of it.
    """
    dims = config.get("dims")
    names = [str(n) for n in dims] if isinstance(dims, DictConfig) else []
    for node in (dims[n] for n in names if not OmegaConf.is_interpolation(dims, n)):
        if isinstance(node, DictConfig) and node.get("buckets") == []:
            with open_dict(node):
                del node["buckets"]


def _explained(error: Exception, hydra: Hydra, overrides: Sequence[str]) -> AutovoiceError:
    text = str(error)
    if isinstance(error, OverrideParseException) and error.override not in text:  # the parser may not name it
        return AutovoiceError(f"{error.override}: {text.splitlines()[0]}", "quote it for the shell, or correct it")
    if m := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(m[1], hydra, overrides)
    if m := re.search(r"In '([^']+)': Could not find '([^']+)/([^/']*)'", text):
        options = hydra.config_loader.get_group_options(m[2])
        return AutovoiceError(
            f"{m[2]}={m[3]}: no such option in group '{m[2]}' (asked for by {m[1]})", nearest(m[3], options)
        )
    if m := re.search(r"Error merging override ([^=]+)=", text):
        why = str(error.__cause__).splitlines()[0] if error.__cause__ else "it is of another kind"
        return AutovoiceError(text.splitlines()[0], f"{why}; to replace it whole: '~{m[1]}' '+{m[1]}=…'")
    if "Config group override must be" in text:
        return AutovoiceError(f"{' '.join(overrides)}: {text}", "a group takes the name of one of its options")
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return AutovoiceError(f"{mark.name}:{mark.line + 1}: not valid YAML", str(error.problem))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return AutovoiceError(lines[0] if lines else type(error).__name__, "; ".join(lines[1:4]))


def _unknown_key(key: str, hydra: Hydra, overrides: Sequence[str]) -> AutovoiceError:
    """Compose without the override that failed, and offer what stands beside it."""
    parser = OverridesParser.create()
    others = [o for o in overrides if parser.parse_override(o).key_or_group != key]
    try:
        node: Any = hydra.compose_config("config", others, run_mode=RunMode.RUN, from_shell=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError):
        return AutovoiceError(f"{key}: no such key", "see `autovoice --cfg job` for all there are")
    if "/" in key:
        groups = [k for k in node.hydra.runtime.choices if not k.startswith("hydra/")]
        return AutovoiceError(f"{key}: no such group in use", nearest(key, groups))
    parent, parts = [], key.split(".")
    while len(parts) > 1 and isinstance(node, DictConfig) and parts[0] in node:
        node = node[parts[0]]
        parent.append(parts.pop(0))
    if not isinstance(node, DictConfig):
        whole = f"it is {node!r}; give it whole: {'.'.join(parent)}='{{{parts[0]}: …}}'"
        return AutovoiceError(f"{key}: {'.'.join(parent)} has no keys below it", whole)
    names = [str(k) for k in node if k != "hydra"]
    if len(parts) == 1 and parts[0] in names:  # the key is there: something inside the value given is not
        inside = [str(k) for k in node[key.split(".")[-1]]] if isinstance(node[parts[0]], DictConfig) else []
        return AutovoiceError(f"{key}: the value has a key that is not there", f"it has {choices(inside)}; add with +")
    where = ".".join(parent) or "the configuration"
    fix = nearest(parts[0], names)
    return AutovoiceError(f"{key}: no key '{parts[0]}' in {where}", f"{fix}; a new one is added with +{key}=…")
