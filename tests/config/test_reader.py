from __future__ import annotations

from typing import Any

import pytest

from autovoice.config.reader import Reader
from autovoice.errors import Fault


def reader(data: Any, where: str = "a.b") -> Reader:
    return Reader(data, where, [])


def said(r: Reader) -> list[str]:
    return [str(f) for f in r.faults]


@pytest.mark.parametrize(
    ("kind", "value"),
    [(int, 3), (float, 0.5), (str, "x"), (bool, False), (list, [1]), (dict, {"a": 1})],
    ids=lambda v: v.__name__ if isinstance(v, type) else "",
)
def test_takes_a_value_of_its_kind(kind: type, value: Any) -> None:
    r = reader({"key": value})
    assert r.take("key", kind) == value
    r.done()
    assert said(r) == []


def test_a_float_accepts_a_whole_number() -> None:
    value = reader({"key": 2}).take("key", float)
    assert (value, type(value)) == (2.0, float)


@pytest.mark.parametrize(
    ("kind", "value", "fact", "fix"),
    [
        pytest.param(int, True, "must be a whole number, got True", "a.b.key=1", id="bool_for_int"),
        pytest.param(int, 1.5, "must be a whole number, got 1.5", "a.b.key=1", id="float_for_int"),
        pytest.param(float, "1", "must be a number, got '1'", "a.b.key=1", id="string_for_float"),
        pytest.param(float, True, "must be a number, got True", "a.b.key=1", id="bool_for_float"),
        pytest.param(str, 1, "must be a string, got 1", """'a.b.key="1"'""", id="int_for_string"),
        pytest.param(
            str,
            False,
            "must be a string, got False",
            """'a.b.key="false"'; a name that is the word false, no or off stands in quotes""",
            id="bool_for_string",
        ),
        pytest.param(str, ["c.wav"], "must be a string, got ['c.wav']", "a.b.key=c.wav", id="list_for_string"),
        pytest.param(str, ["a", "b"], "must be a string, got ['a', 'b']", "a.b.key=text", id="names_for_string"),
        pytest.param(bool, 1, "must be true or false, got 1", "a.b.key=true, or a.b.key=false", id="int_for_bool"),
        pytest.param(list, "a", "must be a list, got 'a'", "a.b.key=[a]", id="string_for_list"),
        pytest.param(list, "*.x", "must be a list, got '*.x'", """a.b.key='["*.x"]'""", id="pattern_for_list"),
        pytest.param(list, 64, "must be a list, got 64", "a.b.key=[64]", id="number_for_list"),
        pytest.param(list, {"a": 1}, "must be a list, got {'a': 1}", "a.b.key=[first,second]", id="mapping_for_list"),
        pytest.param(dict, [], "must be a mapping, got []", "a.b.key='{key: value}'", id="list_for_mapping"),
    ],
)
def test_wrong_kind(kind: type, value: Any, fact: str, fix: str) -> None:
    r = reader({"key": value})
    assert r.take("key", kind) == kind()
    assert said(r) == [f"a.b.key: {fact}\n  {fix}"]


@pytest.mark.parametrize(
    ("kind", "default", "example", "fix"),
    [
        pytest.param(int, 44100, "", "a.b.key=44100", id="whole"),
        pytest.param(float, 0.5, "", "a.b.key=0.5", id="number"),
        pytest.param(int, None, "", "a.b.key=1, or a.b.key=null", id="nothing"),
        pytest.param(dict, {}, "{fp32: 60}", "a.b.key='{fp32: 60}'", id="example"),
        pytest.param(dict, None, "{fp32: 60}", "a.b.key='{fp32: 60}', or a.b.key=null", id="example_or_nothing"),
    ],
)
def test_the_way_out_is_the_default_or_the_example_that_was_given(
    kind: type, default: Any, example: str, fix: str
) -> None:
    r = reader({"key": "many"})
    assert r.take("key", kind, default, example) == default
    assert [f.fix for f in r.faults] == [fix]


def test_of_a_file_that_was_looked_up_the_way_out_is_its_line() -> None:
    r = reader({"keep": {"nodes": "head"}}, where="precision/half")
    assert r.child("keep").strings("nodes") == ()
    assert said(r) == ["precision/half.keep.nodes: must be a list, got 'head'\n  nodes: [head], in precision/half.yaml"]


def test_a_wrong_kind_reads_as_the_default_where_there_is_one() -> None:
    r = reader({"key": "many"})
    assert r.take("key", int, 7) == 7
    assert said(r) == ["a.b.key: must be a whole number, got 'many'\n  a.b.key=7"]


@pytest.mark.parametrize("data", [{}, {"key": None}], ids=["absent", "null"])
def test_required(data: dict[str, Any]) -> None:
    r = reader(data)
    assert r.take("key", str) == ""
    assert r.faults == [Fault("a.b.key", "is required", "add `key:` (a string)")]


@pytest.mark.parametrize("data", [{}, {"key": None}], ids=["absent", "null"])
def test_default(data: dict[str, Any]) -> None:
    r = reader(data)
    assert r.take("key", int, 7) == 7
    assert said(r) == []


def test_unknown_keys_are_all_reported_in_their_order_with_the_nearest() -> None:
    r = reader({"zoo": 1, "nmae": 2, "name": "x", 5: 3})
    r.take("name", str)
    r.done()
    assert said(r) == [
        "a.b.zoo: unknown key 'zoo'\n  available: name",
        "a.b.nmae: unknown key 'nmae'\n  did you mean 'name'? available: name",
        "a.b.5: unknown key '5'\n  available: name",
    ]


def test_not_a_mapping_is_one_fault_and_reads_as_empty() -> None:
    r = reader([1])
    assert r.take("key", int, 7) == 7
    r.done()
    assert said(r) == ["a.b: must be a mapping, got [1]\n  a.b='{key: value}'"]


def test_children_share_the_faults_and_know_where_they_are() -> None:
    r = reader({"parts": {"one": {"size": "big"}, 2: {"size": 3}}}, where="")
    sizes = {name: child.take("size", int) for name, child in r.children("parts")}
    assert sizes == {"one": 0, "2": 3}
    assert said(r) == ["parts.one.size: must be a whole number, got 'big'\n  parts.one.size=1"]


def test_an_absent_child_reads_as_empty() -> None:
    r = reader({})
    assert r.child("keep").strings("nodes") == ()
    assert said(r) == []


def test_strings() -> None:
    r = reader({"good": ["a", "b"], "bad": ["a", 1]})
    assert (r.strings("good"), r.strings("bad"), r.strings("absent")) == (("a", "b"), (), ())
    assert said(r) == ["""a.b.bad: must be a list of names, got ['a', 1]\n  a.b.bad='[a,"1"]'"""]
