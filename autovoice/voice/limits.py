"""The audio contract of a built pipeline, and the lengths that its profiles allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any, Protocol

from autovoice.errors import AudioError
from autovoice.voice.audio import Header
from autovoice.voice.clock import frame_count, output_length


class Bounds(Protocol):
    """The profile of one free symbol."""

    @property
    def min(self) -> int: ...
    @property
    def opt(self) -> int: ...
    @property
    def max(self) -> int: ...


@dataclass(frozen=True)
class Contract:
    """The rates a voice pipeline was built for, in Hz, and its hop in samples at `sample_rate`."""

    sample_rate: int
    hop: int
    content_sample_rate: int

    @classmethod
    def of(cls, contract: Mapping[str, Any]) -> Contract:
        """Read a pipeline's `audio` contract. Raises AudioError when it is missing or incomplete."""
        names = ("sample_rate", "hop", "content_sample_rate")
        bad = [n for n in names if not isinstance(contract.get(n), int) or contract[n] <= 0]
        if bad:
            fact = f"has no usable {', '.join(bad)}" if contract else "is missing"
            raise AudioError(
                f"task=convert needs a pipeline with an `audio` contract, and this one's {fact}",
                "state it in the pipeline's YAML; task=run feeds=in.npz output=out.npz runs any pipeline",
            )
        return cls(*(contract[n] for n in names))


def check_length(name: str, header: Header, contract: Contract, dims: Mapping[str, Bounds]) -> None:
    """Raise AudioError unless a recording of this length lies within `dims`.

    `dims["frames"]` bounds the model's frames and `dims["samples"]` the samples at the content rate; a symbol
    that the pipeline does not have sets no bound. Lengths in messages are rounded towards what is possible.
    """
    frames = frame_count(header.samples, header.sample_rate, contract.sample_rate, contract.hop)
    samples = output_length(header.samples, header.sample_rate, contract.content_sample_rate)
    sizes = {n: size for n, size in (("frames", frames), ("samples", samples)) if n in dims}
    if any(size > dims[n].max for n, size in sizes.items()):
        longest = _longest(contract, dims)
        raise AudioError(
            f"{name}: is {header.seconds:.2f} s long, the longest possible is {longest:.2f} s",
            f"cut it, or build for longer ones with {_override(header, contract, dims)}",
        )
    if any(size < dims[n].min for n, size in sizes.items()):
        shortest = _shortest(contract, dims)
        raise AudioError(
            f"{name}: is {header.seconds:.3f} s long, the shortest possible is {shortest:.2f} s",
            "lengthen it with silence, or give a longer recording",
        )


def _longest(contract: Contract, dims: Mapping[str, Bounds]) -> float:
    """Seconds, rounded down to 10 ms."""
    limits = []
    if "frames" in dims:
        limits.append(Fraction(dims["frames"].max * contract.hop, contract.sample_rate))
    if "samples" in dims:
        limits.append(Fraction(dims["samples"].max, contract.content_sample_rate))
    return floor(min(limits) * 100) / 100


def _shortest(contract: Contract, dims: Mapping[str, Bounds]) -> float:
    """Seconds, rounded up to 10 ms."""
    limits = [Fraction(0)]
    if "frames" in dims:
        # The last frame need not be full, so anything beyond min - 1 whole frames counts as min.
        whole = Fraction((dims["frames"].min - 1) * contract.hop, contract.sample_rate)
        limits.append(whole + Fraction(1, 10**6))
    if "samples" in dims:
        limits.append(Fraction(dims["samples"].min, contract.content_sample_rate))
    return ceil(max(limits) * 100) / 100


def _override(header: Header, contract: Contract, dims: Mapping[str, Bounds]) -> str:
    """The overrides that let this recording in, for its length rounded up to a whole second.

    A dim whose profile follows the others needs none of its own.
    """
    seconds = ceil(Fraction(header.samples, header.sample_rate))
    needed = {
        "frames": frame_count(seconds, 1, contract.sample_rate, contract.hop),
        "samples": seconds * contract.content_sample_rate,
    }
    own = [n for n in needed if n in dims and not getattr(dims[n], "profile", None)]
    return " ".join(f"dims.{n}.max={needed[n]}" for n in own if needed[n] > dims[n].max)
