"""Implicit INT8, which TensorRT 10 has and 11 has not: its own calibrators, fed with the component's samples.

A calibration runs at one shape. So samples are grouped by length, each group is calibrated by a build of its own whose
engine is thrown away, and the engine that is kept is built from the scales of all of them, the largest of each tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from autovoice.backends.tensorrt.calibration_cache import ALGORITHMS, Cache, cache_from, given_cache, merged
from autovoice.backends.tensorrt.calibration_feed import Arrays, batches_of, buffers, calibrator
from autovoice.backends.tensorrt.calibration_groups import Group, Grouper
from autovoice.backends.tensorrt.calibration_policy import float_nodes, hold, prefer_int8, unscaled
from autovoice.backends.tensorrt.config import add_profile, set_flag
from autovoice.backends.tensorrt.log import Log
from autovoice.backends.tensorrt.network import io_of
from autovoice.backends.tensorrt.request import Request
from autovoice.errors import BuildError, CalibrationError, choices
from autovoice.spec import POINTS

if TYPE_CHECKING:
    from autovoice.spec.fields import ImplicitField

_MIB = 1 << 20
_ANEW = "precision.implicit.cache=null calibrates anew, from samples"


def calibrate(module: ModuleType, builder: Any, network: Any, config: Any, request: Request, log: Log) -> bytes:
    """Make a build an implicit INT8 one: its flags, the types of what the policy chooses and leaves out, a calibrator.

    Returns the calibration cache it is built from. Raises CalibrationError for samples or a given cache that do not
    fit, and BuildError where a calibration fails.
    """
    c = _Calibration(module, builder, network, request, log)
    c.base()  # before anything is touched
    inputs = c.inputs()
    given = c.given() if request.calibration_cache is not None else None
    flags = [*c.flags(), *c.apply_policy()]
    content = c.calibrated(flags, inputs) if given is None else given
    for flag in flags:
        config.set_flag(flag)
    if any(-1 in t["shape"] for t in inputs.values()):
        c.set_profile(config, c.profile(inputs))  # never used, and it warns of none
    config.int8_calibrator = calibrator(c.base(), _refused(c), 1, content)
    return content


def check_calibrated(config: Any) -> None:
    """Raise what went wrong inside a calibrator while its engine was built, which TensorRT does not pass on."""
    if config.int8_calibrator.failure is not None:
        raise config.int8_calibrator.failure


@dataclass(frozen=True)
class _Calibration:
    module: ModuleType
    builder: Any
    network: Any
    request: Request
    log: Log

    @property
    def implicit(self) -> ImplicitField:
        assert self.request.implicit is not None
        return self.request.implicit

    def base(self) -> Any:
        """TensorRT's class for the calibrator that is asked for."""
        found = getattr(self.module, ALGORITHMS[self.implicit["calibrator"]][0], None)
        if found is None:
            fact = f"{self.module.__name__} {self.module.__version__} has no calibrators, which went with TensorRT 11"
            raise BuildError(fact, "precision=int8 lowers to explicit Q/DQ there; so does this precision in a new plan")
        return found

    def inputs(self) -> dict[str, Any]:
        """The network's inputs. Raises CalibrationError where they are not those that are declared."""
        found, declared = io_of(self.network)[0], self.request.inputs
        for name, tensor in found.items():
            if name not in declared:
                fact = f"calibration: the network reads '{name}', which is no input of the component"
                raise CalibrationError(fact, f"it has {choices(declared)}")
            if tensor["dtype"] != declared[name]["dtype"]:
                fact = (
                    f"calibration: the network reads '{name}' as {tensor['dtype']}, declared {declared[name]['dtype']}"
                )
                raise CalibrationError(fact, "declare the type that the graph has")
        return found

    def flags(self) -> list[Any]:
        flags = self.module.BuilderFlag
        return [flags.INT8, *([flags.FP16] if self.implicit["float16"] else [])]

    def apply_policy(self) -> list[Any]:
        """Hold what may not be quantized in a higher type, and ask for int8 where that is preferred; the flag for it.

        What is held can be obeyed, as every layer has a kernel in a higher type; int8 can only be preferred. The two
        flags exclude each other: where int8 is preferred, the engine is asked whether it kept to what is held.
        """
        request, flags = self.request, self.module.BuilderFlag
        assert request.quantize is not None
        float16 = self.implicit["float16"]
        held, must, products = float_nodes(request.model, request.named, request.quantize, request.keep, float16)
        constrained = hold(self.module, self.network, held, must)
        if self.implicit["prefer_int8"] and prefer_int8(self.module, self.network, products, held):
            return [flags.PREFER_PRECISION_CONSTRAINTS]
        return [flags.OBEY_PRECISION_CONSTRAINTS] if constrained else []

    def given(self) -> bytes:
        """The user's cache, as it is. Raises CalibrationError where it is none of this calibrator and network."""
        path = self.request.calibration_cache
        assert path is not None
        content, cache = given_cache(path, self.implicit["calibrator"])
        every, missing = unscaled(self.network, cache.scales)
        if every and missing == every:
            known = f"it has {choices(list(cache.scales)[:3])}, …"
            raise CalibrationError(f"{path}: has no scale of any tensor that is multiplied here", f"{known}; {_ANEW}")
        if missing:
            self.say(
                "WARNING", f"{path}: has no scale of {missing} of {every} tensors that are multiplied: no int8 there"
            )
        return content

    def profile(self, inputs: Mapping[str, Any]) -> Any:
        made = self.builder.create_optimization_profile()
        for name in inputs:
            made.set_shape(name, *(tuple(self.request.profiles[0][name][p]) for p in POINTS))
        return made

    def set_profile(self, config: Any, profile: Any) -> None:
        if not config.set_calibration_profile(profile):
            raise BuildError(f"the calibration profile is refused: {self.log.why()}", "give samples of other lengths")

    def calibrated(self, flags: list[Any], inputs: Mapping[str, Any]) -> bytes:
        """The merged cache of one calibration for each group of samples."""
        samples = self.request.samples
        if samples is None:
            raise CalibrationError("calibration: there are neither samples nor a calibration cache", _GIVE)
        grouper = Grouper(self.request.inputs, self.request.profiles)
        caches = []
        for group in grouper.groups(samples):
            self.say("INFO", f"calibrating with {len(group.places)} samples at {group}")
            caches.append(self._cache_of(group, grouper.cropped(group, samples), flags, inputs))
        return merged(caches).content()

    def _cache_of(
        self, group: Group, samples: Iterator[tuple[str, Arrays]], flags: list[Any], inputs: Mapping[str, Any]
    ) -> Cache:
        """What TensorRT makes of one group, by a build whose engine nobody wants."""
        config = self._config(flags)
        made = add_profile(self.builder, config, group.profile, inputs)
        self.set_profile(config, made)
        kinds = {n: (group.shapes[n], np.dtype(t["dtype"])) for n, t in inputs.items()}
        with buffers(kinds) as blocks, closing(batches_of(samples, blocks)) as batches:
            feeding = calibrator(self.base(), batches, group.batch)
            config.int8_calibrator = feeding
            built = self.builder.build_serialized_network(self.network, config)
        if feeding.failure is not None:  # before anything that follows from it
            raise feeding.failure
        if built is None:
            fix = "++component.<name>.quantize.exclude=[…] leaves out what it names; precision=int8 needs no such build"
            raise BuildError(f"{self.module.__name__} could not calibrate at {group}: {self.log.why()}", fix)
        if feeding.written is None:
            fact = f"{self.module.__name__} wrote no calibration cache at {group}: {self.log.why()}"
            raise BuildError(fact, "precision=int8 quantizes by explicit pairs")
        return cache_from(feeding.written, f"what {self.module.__name__} wrote")

    def _config(self, flags: list[Any]) -> Any:
        config = self.builder.create_builder_config()
        config.set_memory_pool_limit(self.module.MemoryPoolType.WORKSPACE, self.request.options.workspace_mb * _MIB)
        config.builder_optimization_level = 0
        set_flag(config, self.module.BuilderFlag.TF32, False)
        for flag in flags:
            config.set_flag(flag)
        return config

    def say(self, severity: str, text: str) -> None:
        self.log.take(int(getattr(self.module.ILogger.Severity, severity)), text)


_GIVE = "calibration=npz gives samples, precision.implicit.cache=… a cache"


def _refused(c: _Calibration) -> Iterator[Mapping[str, int]]:
    """No batches: whoever asks for one did not take the cache that was there."""
    path: Path | None = c.request.calibration_cache
    whose = f"the calibration cache {path}" if path else "the calibration cache of its own calibrations"
    fact = f"{c.module.__name__} {c.module.__version__} does not take {whose}: it asks for samples"
    c.say("ERROR", fact)
    raise CalibrationError(fact, _ANEW if path else "precision=int8 quantizes by explicit pairs")
    yield {}
