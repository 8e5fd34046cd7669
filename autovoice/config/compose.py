"""The Hydra edge: overrides in, plain data out. No Hydra or OmegaConf object leaves this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from autovoice.config.explain import REFUSALS, explained, user_trees
from autovoice.config.interpolations import unresolved
from autovoice.config.tree import tree_warnings, watch
from autovoice.config.unparsed import unparsed
from autovoice.errors import AutovoiceError, ConfigError, Fault, nearest

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
        except REFUSALS as e:
            raise explained(e, _hydra(), self.overrides) from e
        with open_dict(self.config):
            self.config[f"_{group}"] = node  # inside the whole, so that its interpolations resolve
        try:
            found: Mapping[str, Any] = _plain(self.config[f"_{group}"], f"{group}/{name}")
            return found
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
    hydra = Hydra.create_main_hydra2(task_name="autovoice", config_search_path=path)
    if config_dir is not None:
        for source in (s for s in _sources(hydra) if s.provider == "command-line"):
            watch(source, config_dir)
    return hydra


def _sources(hydra: Hydra) -> list[ConfigSource]:
    return list(hydra.config_loader.get_sources())


def user_tree() -> Path | None:
    """The folder of --config-dir of what was composed last."""
    hydra = GlobalHydra.instance().hydra
    return None if hydra is None else next(iter(user_trees(hydra)), None)


def _hydra() -> Hydra:
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return hydra


def warnings_of_tree(config_dir: Path | None) -> list[str]:
    """What of the user's tree Hydra would pass over without a word."""
    return list(tree_warnings(config_dir, conf_dir()))


def compose(config_dir: Path | None, overrides: Sequence[str]) -> Composed:
    """Compose once. Raises AutovoiceError with the nearest valid name for whatever does not exist."""
    hydra = start(config_dir)
    try:
        config = hydra.compose_config("config", list(overrides), run_mode=RunMode.RUN, from_shell=True)
    except REFUSALS as e:
        raise explained(e, hydra, overrides) from e
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
            raise unparsed(text, str(e)) from e
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
        raise ConfigError([unresolved(e, key, file, user_trees(_hydra()))]) from e
    except RecursionError as e:
        fault = Fault(file or "config", "its ${…} lead into each other without end", "give one of them a value")
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
