"""Refusals of Hydra and OmegaConf in two lines: the fact, and what to type instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autovoice.config.renamed import renamed
from autovoice.config.unparsed import unparsed
from autovoice.errors import AutovoiceError, choices, first_line, nearest
from autovoice.terminal.overrides import nameable, override, setting, word

#: what composing raises where a user's file or override is wrong
REFUSALS = (
    *(HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError),
    # Hydra's own, of values of a kind that it does not expect
    *(TypeError, AttributeError, LookupError, AssertionError),
)


def explained(error: Exception, hydra: Hydra, overrides: Sequence[str]) -> AutovoiceError:
    """The error to raise in place of what composing raised."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return unparsed(error.override, text)
    if m := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'(?: requires|\n|$)", text, re.S):
        return unparsed(m[1], "several values, which only a sweep takes (-m)")
    if m := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(m[1], hydra, overrides)
    if m := re.search(r"In '([^']+)': Could not find '([^']+)/([^/']*)'", text):
        return _no_option(m[1], m[2], m[3], hydra)
    if m := re.search(r"In '([^']+)': Could not load '([^']+)'", text):
        group, _, name = m[2].rpartition("/")
        return _no_option(m[1], group, name, hydra)
    if m := re.search(r"Could not delete from config\. (?:The value of )?'([^']+)'", text):
        return _undeleted(m[1], hydra, overrides)
    if m := re.search(r"Could not delete '([^']+)'\. No match", text):
        fix = f"~ takes one of these: {_groups(hydra, overrides, m[1])}"
        return AutovoiceError(f"~{m[1]}: is no group in use", fix)
    if m := re.search(r"Error merging override ([^=]+)=", text):
        return _unmerged(m[1], error, overrides)
    if m := re.match(r"(\S+) appears more than once in the final defaults list", text):
        return AutovoiceError(f"{m[1]}: is chosen twice", f"once, and without +: {m[1]}=…")
    if "Config group override must be" in text:
        return _no_choice(text, hydra, overrides)
    if isinstance(error, RecursionError):
        fact = "the files of the configuration name each other without end"
        return AutovoiceError(fact, "a file's `defaults:` may name neither itself nor a file that names it")
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return AutovoiceError(f"{mark.name}:{mark.line + 1}: not valid YAML", _problem(str(error.problem)))
    if not text.strip() and error.__cause__ is not None:
        text = str(error.__cause__)
    if isinstance(error, TypeError | AttributeError | LookupError | AssertionError):
        return _blamed(error, hydra, overrides)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fix = "; ".join(lines[1:4]) or "correct it in its file, or on the command line"
    return AutovoiceError(lines[0] if lines else type(error).__name__, fix)


def _problem(text: str) -> str:
    if "cannot start any token" in text and "\\t" in text:
        return f"{text}: YAML is indented with spaces, never with tabs"
    return text


def _no_option(by: str, group: str, name: str, hydra: Hydra) -> AutovoiceError:
    fact = f"{group}={name}: no such option in group '{group}' (asked for by {by})"
    for folder in user_trees(hydra):
        file = folder / group / f"{name}.yml"
        if file.is_file():
            return AutovoiceError(fact, shlex.join(["mv", str(file), str(file.with_suffix(".yaml"))]))
    return AutovoiceError(fact, nearest(name, hydra.config_loader.get_group_options(group)))


def user_trees(hydra: Hydra) -> list[Path]:
    """The folders that were searched beside the shipped tree."""
    path = hydra.config_loader.get_search_path().get_path()
    return [Path(p.path.removeprefix("file://")) for p in path if p.provider == "command-line" and p.path]


def _unmerged(key: str, error: Exception, overrides: Sequence[str]) -> AutovoiceError:
    why = first_line(error.__cause__) if error.__cause__ else "it is of another kind"
    values = [o.partition("=")[2] for o in overrides if o.partition("=")[0].lstrip("+") == key]
    whole = f"{word('~' + key)} {word('+' + key + '=' + (values or ['…'])[-1])}"
    return AutovoiceError(first_line(error), f"{why}; to replace it whole: {whole}")


def _composed(hydra: Hydra, overrides: Sequence[str], without: str) -> Any:
    """The configuration without the overrides of one key, or with choices of groups alone; None without either."""
    parser = OverridesParser.create()
    keys = {o: parser.parse_override(o).key_or_group for o in overrides}
    others = [o for o, key in keys.items() if key != without]
    groups = [o for o in others if hydra.config_loader.get_group_options(keys[o])]
    for some in (others, groups):
        try:
            return hydra.compose_config("config", some, run_mode=RunMode.RUN, from_shell=True)
        except REFUSALS:
            continue
    return None


def _blamed(error: Exception, hydra: Hydra, overrides: Sequence[str]) -> AutovoiceError:
    """What Hydra has no words for, told of the override without which it composes."""
    for one in reversed(overrides):  # what chooses the pipeline comes first as a rule
        key = OverridesParser.create().parse_override(one).key_or_group
        config = _composed(hydra, overrides, key)
        if one.startswith("~") and isinstance(_descended(config, key)[0], ListConfig):
            return _undeleted(key, hydra, overrides)
        if config is not None:
            return AutovoiceError(f"{one}: is nothing that can stand there: {first_line(error)}", "leave it out")
    return AutovoiceError(f"cannot be composed: {type(error).__name__}: {first_line(error)}", "see the pipeline's file")


def _groups(hydra: Hydra, overrides: Sequence[str], without: str) -> str:
    node = _composed(hydra, overrides, without)
    return choices(() if node is None else (k for k in node.hydra.runtime.choices if not k.startswith("hydra/")))


def _no_choice(text: str, hydra: Hydra, overrides: Sequence[str]) -> AutovoiceError:
    """A group was given something that is no name of an option."""
    parser = OverridesParser.create()
    for text_of_one in overrides:
        parsed = parser.parse_override(text_of_one)
        if not parsed.key_or_group:
            return AutovoiceError(f"{text_of_one}: has no key", "an override is key=value, as workers=2")
        options = hydra.config_loader.get_group_options(parsed.key_or_group)
        if options and not isinstance(parsed.value(), str | list):
            fix = f"the name of an option: {parsed.key_or_group}={options[0]}; {nearest('', options)}"
            return AutovoiceError(f"{text_of_one}: is no option of the group {parsed.key_or_group}", fix)
    fact, fix = f"{' '.join(overrides)}: {text}", "a group takes the name of one of its options"
    for text_of_one in overrides:
        key = parser.parse_override(text_of_one).key_or_group
        below = _subgroups(hydra, key)
        if below:
            fact, fix = f"{text_of_one}: {key} is a group of groups", f"choose in one of them: {key}/{below[0]}=…"
            return AutovoiceError(fact, fix)
    return AutovoiceError(fact, fix)


def _subgroups(hydra: Hydra, group: str) -> list[str]:
    from hydra.core.object_type import ObjectType

    return list(hydra.config_loader.get_group_options(group, ObjectType.GROUP)) if group else []


def _undeleted(key: str, hydra: Hydra, overrides: Sequence[str]) -> AutovoiceError:
    node, parent, rest = _descended(_composed(hydra, overrides, key), key)
    where = ".".join(parent)
    if isinstance(node, ListConfig):
        values = OmegaConf.to_container(node, resolve=False)
        assert isinstance(values, list)
        left = [v for i, v in enumerate(values) if str(i) != rest[0]] if len(rest) == 1 else values
        fact = f"~{key}: {where} is a list, of which no part can be left out"
        return AutovoiceError(fact, f"give it whole: {setting(where, left)}")
    if not rest:
        return AutovoiceError(f"~{key}: has another value than the one given", f"{shlex.quote('~' + key)}, without one")
    names = [str(k) for k in node if k != "hydra"] if isinstance(node, DictConfig) else []
    return AutovoiceError(f"~{key}: no key '{rest[0]}' in {where or 'the configuration'}", nearest(rest[0], names))


def _descended(node: Any, key: str) -> tuple[Any, list[str], list[str]]:
    """The deepest node on the way to `key`, the path to it, and what is left of the key."""
    parent, parts = [], key.split(".")
    while parts and isinstance(node, DictConfig) and parts[0] in node:
        if node._get_node(parts[0]) is not None and OmegaConf.is_missing(node, parts[0]):
            break
        try:
            node = node[parts[0]]
        except OmegaConfBaseException:
            break
        parent.append(parts.pop(0))
    return node, parent, parts


def _unknown_key(key: str, hydra: Hydra, overrides: Sequence[str]) -> AutovoiceError:
    """Compose without the override that failed, and offer what stands beside it."""
    if old := renamed(key):
        return AutovoiceError(f"{key}: {old.fact}", old.fix)
    config = _composed(hydra, overrides, key)
    if config is None:
        return AutovoiceError(f"{key}: no such key", "`autovoice --cfg job` without it shows all there are")
    if "/" in key or "@" in key:
        groups = [k for k in config.hydra.runtime.choices if not k.startswith("hydra/")]
        return AutovoiceError(f"{key}: no such group in use", nearest(key, groups))
    node, parent, rest = _descended(config, key)
    if not rest:
        return _not_in_value(key, node, hydra, overrides)
    if isinstance(node, ListConfig):
        whole = setting(".".join(parent), OmegaConf.to_container(node, resolve=False))
        return AutovoiceError(f"{key}: {'.'.join(parent)} is a list, which is given whole", whole)
    if not isinstance(node, DictConfig):
        return _below_a_leaf(key, node, parent, rest)
    where = ".".join(parent) or "the configuration"
    fix = nearest(rest[0], [str(k) for k in node if k != "hydra"])
    if hydra.config_loader.get_group_options(key):
        fix = f"it is chosen in the pipeline's own file: defaults: [/{key}: …]"
        return AutovoiceError(f"{key}: no such group in use", fix)
    new = f"; a new one is added with +{key}=…" if nameable(key) else ""
    return AutovoiceError(f"{key}: no key '{rest[0]}' in {where}", fix + new)


def _below_a_leaf(key: str, node: Any, parent: list[str], rest: list[str]) -> AutovoiceError:
    path, inner = ".".join(parent), "{" + rest[0] + ": …}"
    fact = f"{key}: {path} has no keys below it"
    return AutovoiceError(fact, f"it is {node!r}; give it whole: {override(path, inner)}")


def _not_in_value(key: str, node: Any, hydra: Hydra, overrides: Sequence[str]) -> AutovoiceError:
    """The key is there: something inside the value given is not, or a group's option was meant."""
    parser = OverridesParser.create()
    values = [p.value() for o in overrides if (p := parser.parse_override(o)).key_or_group == key]
    inside = [str(k) for k in node] if isinstance(node, DictConfig) else []
    if inside and not any(isinstance(v, dict) for v in values):
        fact = f"{key}: is declared by the pipeline's own file, so no option of a group takes its place"
        leaf = f"{key}.{inside[0]}"
        return AutovoiceError(fact, f"it has {choices(inside)}, each to be set by itself: {leaf}=…")
    return AutovoiceError(f"{key}: the value has a key that is not there", f"it has {choices(inside)}; add with +")
