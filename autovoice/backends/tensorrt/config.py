"""A builder configuration's flags and profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autovoice.errors import BuildError
from autovoice.spec import POINTS

if TYPE_CHECKING:
    from autovoice.spec.fields import Profile


def set_flag(config: Any, flag: Any, on: bool) -> None:
    if on:
        config.set_flag(flag)
    else:
        config.clear_flag(flag)


def add_profile(builder: Any, config: Any, profile: Profile, inputs: Mapping[str, Any]) -> Any:
    """Add an optimization profile. Raises BuildError where the tool refuses it."""
    made = builder.create_optimization_profile()
    for name in inputs:
        made.set_shape(name, *(tuple(profile[name][p]) for p in POINTS))
    if config.add_optimization_profile(made) < 0:
        shown = "; ".join(f"{n} {' … '.join(str(list(profile[n][p])) for p in POINTS)}" for n in inputs)
        raise BuildError(f"the optimization profile is refused: {shown}", "set dims.<name>.min, opt and max in order")
    return made
