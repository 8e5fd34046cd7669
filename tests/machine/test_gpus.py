"""GPUs, asked of the driver's library by ctypes: here of one that is written in Python."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from autovoice.machine import gpus


class Driver:
    """libcuda with two devices; `broken` names a call that answers an error."""

    def __init__(self, broken: str = "", count: int = 2) -> None:
        self.broken, self.count = broken, count

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == self.broken:
                return 999
            getattr(self, f"_{name}")(*arguments)
            return 0

        return call

    def _cuInit(self, flags: int) -> None: ...

    def _cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = self.count

    def _cuDeviceGet(self, found: Any, index: int) -> None:
        found._obj.value = 40 + index

    def _cuDeviceGetName(self, name: Any, size: int, found: Any) -> None:
        name.value = b"NVIDIA Fake %d" % found.value

    def _cuDeviceTotalMem_v2(self, memory: Any, found: Any) -> None:
        memory._obj.value = 3 << 34  # more than 32 bits hold

    def _cuDeviceGetUuid(self, identity: Any, found: Any) -> None:
        identity.raw = bytes(range(16))

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, found: Any) -> None:
        value._obj.value = {75: 9, 76: found.value - 40}[attribute]

    def _cuGetErrorString(self, status: int, text: Any) -> None:
        text._obj.value = b"unknown error"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    gpus._found.cache_clear()
    yield
    gpus._found.cache_clear()


def _with(monkeypatch: pytest.MonkeyPatch, driver: Any) -> None:
    monkeypatch.setattr(gpus, "_driver", lambda: driver)


def test_every_device_with_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, Driver())
    first, second = gpus.gpus()
    assert first == gpus.Gpu("NVIDIA Fake 40", "9.0", 3 << 34, "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f")
    assert (second.name, second.compute_capability) == ("NVIDIA Fake 41", "9.1")
    assert gpus.why_none() == ""


def test_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, Driver())
    before = gpus.gpus()
    _with(monkeypatch, None)
    assert gpus.gpus() == before


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (None, "there is no NVIDIA driver"),
        (Driver(broken="cuInit"), "answers error 999 (unknown error)"),
        (Driver(broken="cuDeviceGetName"), "error 999 (unknown error) to cuDeviceGetName"),
        (Driver(count=0), "shows no device"),
    ],
    ids=["no_driver", "no_init", "no_name", "no_device"],
)
def test_none_and_why(monkeypatch: pytest.MonkeyPatch, driver: Any, reason: str) -> None:
    _with(monkeypatch, driver)
    assert gpus.gpus() == ()
    assert reason in gpus.why_none()


def test_no_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert gpus.gpus() == ()
    assert "libcuda" in gpus.why_none()
