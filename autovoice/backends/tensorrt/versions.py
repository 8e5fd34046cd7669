"""The installed TensorRT and the features of each version, by parsed versions, without importing it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from packaging.version import Version

from autovoice.errors import BuildError


@dataclass(frozen=True)
class Tool:
    """A builder and runtime: the packages that may hold it, the modules it is imported by, versions from … below."""

    name: str
    distributions: tuple[str, ...]
    modules: tuple[str, ...]
    least: Version
    below: Version
    extra: str

    @property
    def supported(self) -> str:
        return f"{self.least} ≤ version < {self.below}"


TENSORRT = Tool(
    "tensorrt",
    ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu13-bindings", "tensorrt-cu12-bindings"),
    ("tensorrt", "tensorrt_bindings"),
    Version("10.6"),
    Version("12"),
    "tensorrt",
)
RTX = Tool(
    "tensorrt_rtx",
    ("tensorrt-rtx", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu13-libs"),
    ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    Version("1.0"),
    Version("2"),
    "tensorrt-rtx",
)


@dataclass(frozen=True)
class Features:
    """What an API of some version has."""

    #: networks are strongly typed only where a flag asks for it; later ones always are
    strongly_typed_flag: bool
    #: calibrators, and flags that let the builder choose lower types
    implicit_int8: bool
    #: tactics are timed on a GPU, and the timings can be kept
    timing_cache: bool
    #: engines for GPUs that are not there, by compute capability
    ahead_of_time: bool


def installed(tool: Tool) -> Version:
    """The version of a tool. Raises BuildError where it is absent, or not one that is supported."""
    for name in tool.distributions:
        try:
            found = Version(version(name))
        except PackageNotFoundError:
            continue
        check_supported(tool, found)
        return found
    fix = f"pip install 'autovoice[{tool.extra}]', or backend=onnxruntime, which runs anywhere"
    raise BuildError(f"{tool.name} is not installed here", fix)


def check_supported(tool: Tool, found: Version) -> None:
    if not tool.least <= found < tool.below:
        fix = f"supported: {tool.supported}; pip install 'autovoice[{tool.extra}]'"
        raise BuildError(f"{tool.name} {found} is not supported", fix)


def features(tool: Tool, found: Version) -> Features:
    if tool is RTX:
        return Features(strongly_typed_flag=True, implicit_int8=False, timing_cache=False, ahead_of_time=True)
    old = found.major <= 10
    return Features(strongly_typed_flag=old, implicit_int8=old, timing_cache=True, ahead_of_time=False)


def imported(tool: Tool) -> ModuleType:
    """The tool's module. Raises BuildError in the importer's words, and for a version that is not supported."""
    said = []
    for name in tool.modules:
        try:
            module = importlib.import_module(name)
        except ImportError as e:  # a missing library of the tool's own is one too
            said.append(f"import {name}: {e}")
            continue
        check_supported(tool, Version(module.__version__))
        return module
    fix = f"pip install 'autovoice[{tool.extra}]'; it needs its libraries beside its Python package"
    raise BuildError(f"{tool.name} cannot be imported: {'; '.join(said)}", fix)
