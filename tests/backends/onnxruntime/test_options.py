"""Options of ONNX Runtime that are refused while a build is planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autovoice.backends.onnxruntime.options import MOST_THREADS, check_options, environment
from autovoice.errors import BuildError
from tests.builders import ORT


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"provders": ["x"]}, "backend.options: unknown key 'provders'\n  did you mean 'providers'? available: "),
        (
            {"providers": "CPUExecutionProvider"},
            "backend.options.providers: 'CPUExecutionProvider' is no list of names\n",
        ),
        (
            {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider", "CPUExecutionProvider"]},
            "backend.options.providers: CPUExecutionProvider is there twice\n  name each provider once",
        ),
        ({"providers": [1]}, "backend.options.providers: [1] is no list of names\n  backend.options.providers=[CPU"),
        (
            {"graph_optimization_level": "most"},
            "backend.options.graph_optimization_level: 'most'\n  one of all, basic, ",
        ),
        ({"graph_optimization_level": 5}, "backend.options.graph_optimization_level: 5\n"),
        ({"intra_op_num_threads": "four"}, "backend.options.intra_op_num_threads: 'four'\n  a whole number; 0 takes "),
        ({"intra_op_num_threads": -4}, "backend.options.intra_op_num_threads: -4\n"),
        (
            {"intra_op_num_threads": MOST_THREADS + 1},
            f"backend.options.intra_op_num_threads: {MOST_THREADS + 1}\n  at most {MOST_THREADS}; 0 takes one per core",
        ),
        ({"intra_op_num_threads": True}, "backend.options.intra_op_num_threads: True\n"),
    ],
)
def test_wrong_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BuildError) as raised:
        check_options(options)
    assert str(raised.value).startswith(said)


def test_an_engine_depends_on_nothing_here() -> None:
    """What was built before options were checked is found again."""
    assert environment(ORT, "float32") is None  # type: ignore[func-returns-value]


def test_what_is_tried_after_a_crash_is_checked_as_early() -> None:
    with pytest.raises(BuildError, match="graph_optimization_level: 'extend'"):
        environment(replace(ORT, after_crash=({"graph_optimization_level": "extend"},)), "fp32")


@pytest.mark.parametrize(
    "options",
    [
        {"providers": [1] * 100_000},
        {"providers": ["CPUExecutionProvider"] * 100_000},
        {"graph_optimization_level": "x" * 100_000},
        {"intra_op_num_threads": 10**4000},
        {"x" * 100_000: 1},
    ],
    ids=["numbers", "names", "level", "threads", "key"],
)
def test_wrong_options_are_told_in_two_lines_however_long(options: dict[str, Any]) -> None:
    with pytest.raises(BuildError) as raised:
        check_options(options)
    lines = str(raised.value).splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) < 400
