from __future__ import annotations

import pickle

import pytest

from autovoice.errors import ChangedError, ConfigError, ExportError, Fault


class Sized(ExportError):
    """A kind with more to it than its two lines."""

    def __init__(self, fact: str, fix: str, size: int) -> None:
        super().__init__(fact, fix)
        self.size = size


ERRORS = [
    ExportError("a", "b"),
    ChangedError("a", "b", "path"),
    ConfigError([Fault("x", "is wrong", "x=1"), Fault("y", "is wrong", "x=1")]),
    Sized("a", "b", 3),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_errors_of_every_kind_come_back_from_a_worker(error: ExportError) -> None:
    """A result that cannot be received would look like a worker that died."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert (str(back), vars(back)) == (str(error), vars(error))
