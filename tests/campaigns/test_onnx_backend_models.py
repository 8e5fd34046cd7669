"""A seeded sample of onnx's own models, through every step of a component."""

from __future__ import annotations

import pytest

from tests.campaigns.onnx_backend_models import Case, chosen, outcome, report

SAMPLE = 24


@pytest.fixture(scope="module")
def sample() -> list[Case]:
    return chosen(SAMPLE, seed=4, only="")


def test_each_is_built_with_equal_values_or_refused_in_two_lines(sample: list[Case]) -> None:
    found = [outcome(case) for case in sample]
    assert [o for o in found if o.kind == "other"] == [], report(found)
    assert sum(o.kind == "equal" for o in found) >= SAMPLE / 2, report(found)


def test_float16_makes_a_graph_or_says_why_not(sample: list[Case]) -> None:
    found = [outcome(case, "fp16") for case in sample[::2]]
    assert [o for o in found if o.kind == "other"] == [], report(found)
