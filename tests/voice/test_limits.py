from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from autovoice.errors import AudioError
from autovoice.voice.audio import Header
from autovoice.voice.limits import Contract, check_length

CONTRACT = Contract(22050, 256, 16000)


def message(seconds: float, dims: Mapping[str, Any], rate: int = 44100) -> str:
    with pytest.raises(AudioError) as caught:
        check_length("in.wav", Header(round(seconds * rate), rate, 1), CONTRACT, dims)
    return str(caught.value)


@pytest.fixture(params=["frames", "samples", "both", "tight samples", "tight frames"])
def dims(request: pytest.FixtureRequest, bounds: Callable[..., Any]) -> dict[str, Any]:
    return {
        "frames": {"frames": bounds(16, 256, 1024)},
        "samples": {"samples": bounds(4000, 48000, 190000)},
        "both": {"frames": bounds(16, 256, 1024), "samples": bounds(2973, 47554, 190218)},
        "tight samples": {"frames": bounds(16, 256, 1024), "samples": bounds(8000, 16000, 32000)},
        "tight frames": {"frames": bounds(64, 256, 512), "samples": bounds(400, 16000, 320000)},
    }[request.param]


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_the_lengths_named_are_possible(dims: dict[str, Any], rate: int) -> None:
    longest = float(re.search(r"longest possible is ([\d.]+) s", message(600, dims, rate))[1])
    shortest = float(re.search(r"shortest possible is ([\d.]+) s", message(1 / rate, dims, rate))[1])
    assert 0 < shortest < longest < 600
    for seconds in (shortest, longest):
        check_length("in.wav", Header(round(seconds * rate), rate, 1), CONTRACT, dims)
    assert "longest" in message(longest + 0.03, dims, rate)
    assert "shortest" in message(shortest - 0.03, dims, rate)


@pytest.mark.parametrize("seconds", [12.3, 30, 600])
def test_the_overrides_named_let_the_recording_in(
    dims: dict[str, Any], bounds: Callable[..., Any], seconds: float
) -> None:
    raised = dict(dims)
    for name, size in re.findall(r"dims\.(\w+)\.max=(\d+)", message(seconds, dims)):
        raised[name] = bounds(dims[name].min, dims[name].opt, int(size))
    check_length("in.wav", Header(round(seconds * 44100), 44100, 1), CONTRACT, raised)


def test_ten_minutes(bounds: Callable[..., Any]) -> None:
    assert message(600, {"frames": bounds(16, 256, 1024), "samples": bounds(4000, 48000, 160000)}) == (
        "in.wav: is 600.00 s long, the longest possible is 10.00 s\n"
        "  cut it, or build for longer ones with dims.frames.max=51680 dims.samples.max=9600000"
    )


def test_a_pipeline_without_bounds_takes_any_length() -> None:
    check_length("in.wav", Header(10**12, 44100, 1), CONTRACT, {})


@pytest.mark.parametrize(
    ("contract", "fact"),
    [
        ({}, "is missing"),
        ({"sample_rate": 22050, "hop": 256}, "has no usable content_sample_rate"),
        ({"sample_rate": 0, "hop": "256", "content_sample_rate": 16000}, "has no usable sample_rate, hop"),
    ],
    ids=["empty", "incomplete", "unusable"],
)
def test_a_pipeline_without_contract(contract: dict[str, Any], fact: str) -> None:
    with pytest.raises(AudioError, match=f"`audio` contract.*{fact}") as caught:
        Contract.of(contract)
    assert "task=run feeds=" in str(caught.value)
