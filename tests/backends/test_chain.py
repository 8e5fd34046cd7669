"""Components run in order over wires, wherever their memory is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from autovoice.backends.chain import link, put_feeds, run_chain, timed_chain
from autovoice.errors import EngineError

X = np.arange(4, dtype=np.float32)


class OnDevice:
    """An array in a GPU's memory, as far as that it is copied when it is read on the host."""

    def __init__(self, value: np.ndarray, log: list[str]) -> None:
        self.value = value
        self.log = log

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self.log.append("copy")
        return self.value


class Doubler:
    """A session that doubles `a` into `b`, and says in a log what is asked of it."""

    notes = ()

    def __init__(self, name: str, memory: str, log: list[str], error: Exception | None = None) -> None:
        self.name, self.memory, self.log, self.error = name, memory, log, error

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.log.append(f"run {self.name}")
        if self.error:
            raise self.error
        given = feeds["a"]
        if self.memory == "host":
            assert type(given) is np.ndarray
            return {"b": 2 * given}
        value = given.value if isinstance(given, OnDevice) else given
        return {"b": OnDevice(2 * value, self.log)}

    def put(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.log.append(f"put {self.name}")
        return {name: OnDevice(value, self.log) for name, value in feeds.items()}

    def wait(self) -> None:
        self.log.append(f"wait {self.name}")


def chain(*sessions: Any) -> list[Any]:
    """Of `w0`, through `w1`, and so on."""
    return [link(s.name, s, {"a": f"w{i}"}, {"b": f"w{i + 1}"}) for i, s in enumerate(sessions)]


def test_every_wire_comes_back_and_the_given_ones_stay_as_they_are() -> None:
    log: list[str] = []
    given = {"w0": X}
    made = run_chain(chain(Doubler("one", "host", log), Doubler("two", "host", log)), given)
    assert made.keys() == {"w0", "w1", "w2"}
    assert np.array_equal(made["w2"], 4 * X)
    assert given.keys() == {"w0"}


def test_what_stays_on_the_device_is_copied_by_nobody() -> None:
    log: list[str] = []
    made = run_chain(chain(Doubler("one", "cuda", log), Doubler("two", "cuda", log)), {"w0": X})
    assert log == ["run one", "run two"]
    assert np.array_equal(made["w2"].value, 4 * X)


def test_what_the_host_reads_is_copied_for_it() -> None:
    log: list[str] = []
    made = run_chain(chain(Doubler("one", "cuda", log), Doubler("two", "host", log)), {"w0": X})
    assert log == ["run one", "copy", "run two"]
    assert np.array_equal(made["w2"], 4 * X)


def test_feeds_are_put_where_their_readers_are() -> None:
    log: list[str] = []
    links = chain(Doubler("one", "cuda", log), Doubler("two", "host", log))
    placed = put_feeds(links, {"w0": X, "w1": X})
    assert log == ["put one"]
    assert type(placed["w0"]) is OnDevice
    assert placed["w1"] is X


def test_an_error_of_an_engine_gets_its_components_name() -> None:
    log: list[str] = []
    links = chain(Doubler("one", "host", log), Doubler("two", "host", log, EngineError("it failed", "less")))
    with pytest.raises(EngineError, match=r"^two: it failed\n  less$"):
        run_chain(links, {"w0": X})


def test_a_timed_chain_waits_at_its_end_alone_and_feeds_what_it_does_not_make() -> None:
    log: list[str] = []
    call = timed_chain(chain(Doubler("one", "cuda", log), Doubler("two", "cuda", log)), {"w0": X, "w1": X, "w2": X})
    call()
    call()
    assert log == ["put one", *2 * ["run one", "run two", "wait one", "wait two"]]
