"""Files are read as fast as `sha256sum` reads them, and not at all when they have not changed."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from statistics import median

import pytest

from autovoice.store.hashing import file_sha256

pytestmark = [
    pytest.mark.performance,
    pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum to compare with"),
]


@pytest.fixture
def large(tmp_path, measure):
    """256 MB where it is measured, 8 MB elsewhere; a day old, so that its digest may be remembered."""
    path = tmp_path / "large.bin"
    block = os.urandom(8_000_000)
    with open(path, "wb") as file:
        for _ in range(32 if measure.enabled else 1):
            file.write(block)
    return path


def test_first_reading(measure, large):
    clock = itertools.count(10**18, 10**9)

    def ours():
        os.utime(large, ns=(next(clock),) * 2)  # another mtime: nothing remembered holds
        file_sha256(large)

    def theirs():
        subprocess.run(["sha256sum", str(large)], check=True, capture_output=True)

    digest = subprocess.run(["sha256sum", str(large)], capture_output=True, text=True).stdout.split()[0]
    assert file_sha256(large) == digest
    seconds = measure.interleaved(ours, {"sha256sum": theirs}, rounds=15)
    measure.at_most("over_sha256sum", median(seconds["subject"]) / median(seconds["sha256sum"]), 1.1)


def test_second_reading(measure, large):
    clock = itertools.count(10**18, 10**9)

    def first():
        os.utime(large, ns=(next(clock),) * 2)
        file_sha256(large)

    seconds = measure.interleaved(lambda: file_sha256(large), {"first": first}, rounds=15)
    measure.at_most("cached_over_first", median(seconds["subject"]) / median(seconds["first"]), 1 / 100)
