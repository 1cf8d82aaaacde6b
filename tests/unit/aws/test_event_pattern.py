"""EventBridge's patterns: AWS's own examples, and properties that hold for any event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.event_pattern import all_of, any_of, matches, negated, pattern_matches

EVENT = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "detail": {
        "bucket": {"name": "data-repository"},
        "object": {"key": "RefinerInput/a b+c%41 ü.json", "size": 300},
        "source-ip-address": "10.0.0.123",
        "reason": "PutObject",
        "tags": ["one", "two"],
        "records": [{"a": 1, "b": 2}, {"a": 3, "b": 4}],
        "flag": True,
        "nothing": None,
        "empty": "",
    },
}


def detail(pattern: dict[str, Any]) -> bool | None:
    return matches({"detail": pattern}, EVENT)


def key(*matchers: Any) -> bool | None:
    return detail({"object": {"key": list(matchers)}})


@pytest.mark.parametrize(
    ("matcher", "verdict"),
    [
        ("RefinerInput/a b+c%41 ü.json", True),
        ("refinerinput/a b+c%41 ü.json", False),
        ({"prefix": "RefinerInput/"}, True),
        ({"prefix": "refinerinput/"}, False),
        ({"prefix": {"equals-ignore-case": "refinerinput/"}}, True),
        ({"suffix": ".json"}, True),
        ({"suffix": ".txt"}, False),
        ({"suffix": {"equals-ignore-case": ".JSON"}}, True),
        ({"equals-ignore-case": "REFINERINPUT/A B+C%41 Ü.JSON"}, True),
        ({"wildcard": "RefinerInput/*.json"}, True),
        ({"wildcard": "*"}, True),
        ({"wildcard": "RefinerInput/a b+c%41 ?.json"}, False),
        ({"wildcard": "RefinerInput/\\*"}, False),
        ({"anything-but": "x"}, True),
        ({"anything-but": ["x", "RefinerInput/a b+c%41 ü.json"]}, False),
        ({"anything-but": {"prefix": "RefinerOutput/"}}, True),
        ({"anything-but": {"prefix": ["RefinerOutput/", "RefinerInput/"]}}, False),
        ({"anything-but": {"suffix": ".txt"}}, True),
        ({"anything-but": {"wildcard": "*/a*"}}, False),
        ({"anything-but": {"equals-ignore-case": ["x", "y"]}}, True),
        ({"exists": True}, True),
        ({"exists": False}, False),
        ({"numeric": [">", 0]}, False),
        ({"cidr": "10.0.0.0/8"}, False),
    ],
)
def test_operators_on_text(matcher: Any, verdict: bool) -> None:
    assert key(matcher) is verdict
    # A list is an alternative.
    assert key("something else", matcher) is verdict


@pytest.mark.parametrize(
    ("matcher", "verdict"),
    [
        (300, True),
        (300.0, True),
        ("300", False),
        ({"numeric": ["=", 300]}, True),
        ({"numeric": [">", 0, "<=", 300]}, True),
        ({"numeric": [">", 0, "<", 300]}, False),
        ({"anything-but": [1, 2]}, True),
        ({"anything-but": 300}, False),
    ],
)
def test_numeric_operators(matcher: Any, verdict: bool) -> None:
    assert detail({"object": {"size": [matcher]}}) is verdict


@pytest.mark.parametrize(
    ("field", "matcher", "verdict"),
    [
        ("source-ip-address", {"cidr": "10.0.0.0/24"}, True),
        ("source-ip-address", {"cidr": "10.0.1.0/24"}, False),
        ("source-ip-address", {"cidr": "2001:db8::/32"}, False),
        ("flag", True, True),
        ("flag", 1, False),
        ("nothing", None, True),
        ("nothing", {"exists": True}, True),
        ("empty", "", True),
        ("tags", "two", True),
        ("tags", "three", False),
        ("tags", {"anything-but": "one"}, True),
        ("absent", {"exists": False}, True),
        ("absent", {"exists": True}, False),
        ("absent", {"anything-but": "x"}, False),
        ("absent", None, False),
        ("object", {"exists": True}, False),  # not a leaf
        ("object", {"exists": False}, True),
    ],
)
def test_other_operators(field: str, matcher: Any, verdict: bool) -> None:
    assert detail({field: [matcher]}) is verdict


def test_all_fields_and_one_branch_of_or_must_match() -> None:
    assert detail({"reason": ["PutObject"], "bucket": {"name": ["data-repository"]}}) is True
    assert detail({"reason": ["PutObject"], "bucket": {"name": ["other"]}}) is False
    assert detail({"$or": [{"reason": ["CopyObject"]}, {"object": {"size": [{"numeric": [">", 1]}]}}]}) is True
    assert detail({"reason": ["CopyObject"], "$or": [{"tags": ["one"]}, {"tags": ["two"]}]}) is False
    assert detail({"$or": [{"reason": ["a"]}, {"reason": ["b"]}]}) is False
    assert matches({"other": {"deep": [{"exists": False}]}}, EVENT) is True


def test_objects_in_a_list_match_as_a_whole() -> None:
    assert detail({"records": {"a": [1], "b": [2]}}) is True
    assert detail({"records": {"a": [1], "b": [4]}}) is False


@pytest.mark.parametrize(
    "matcher",
    [
        {"fuzzy": "x"},
        {"prefix": 1},
        {"prefix": {"other": "x"}},
        {"prefix": "a", "suffix": "b"},
        {"wildcard": "a**b"},
        {"wildcard": "a\\b"},
        {"numeric": ["~", 1]},
        {"numeric": [">"]},
        {"numeric": [">", "1"]},
        {"cidr": "nonsense"},
        {"exists": "yes"},
        {"anything-but": {"numeric": [">", 1]}},
        {"anything-but": []},
        ["nested"],
    ],
)
def test_unknown_operators_give_no_answer(matcher: Any) -> None:
    assert key(matcher) is None
    assert detail({"absent": [matcher]}) is None
    # It may not matter.
    assert key(matcher, {"exists": True}) is True
    assert matches({"source": ["aws.ec2"], "detail": {"object": {"key": [matcher]}}}, EVENT) is False


@pytest.mark.parametrize(
    "pattern", ["", "[]", "{}", "null", "not json", '{"source": "aws.s3"}', '{"source": []}', '{"$or": []}']
)
def test_invalid_patterns_give_no_answer(pattern: str) -> None:
    assert pattern_matches(pattern, EVENT) is None


@given(st.lists(st.sampled_from([True, False, None])))
def test_three_valued_logic(verdicts: list[bool | None]) -> None:
    """Replacing None by True or False never contradicts the answer."""
    for filled in ([True if item is None else item for item in verdicts], [bool(item) for item in verdicts]):
        assert any_of(verdicts) in (any(filled), None)
        assert all_of(verdicts) in (all(filled), None)
    assert all_of(verdicts) is negated(any_of(map(negated, verdicts)))


KEYS = st.text(min_size=1, max_size=40)


@given(KEYS, KEYS)
def test_prefix_suffix_and_wildcard_agree_with_python(text: str, part: str) -> None:
    event = {"key": text}
    escaped = part.replace("\\", "\\\\").replace("*", "\\*")
    assert matches({"key": [{"prefix": part}]}, event) is text.startswith(part)
    assert matches({"key": [{"suffix": part}]}, event) is text.endswith(part)
    assert matches({"key": [{"wildcard": f"{escaped}*"}]}, event) is text.startswith(part)
    assert matches({"key": [{"wildcard": f"*{escaped}"}]}, event) is text.endswith(part)
    assert matches({"key": [{"wildcard": f"*{escaped}*"}]}, event) is (part in text)
    assert matches({"key": [{"anything-but": part}]}, event) is (part != text)
    assert matches({"key": [{"anything-but": {"prefix": part}}]}, event) is not text.startswith(part)


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
EVENTS = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: name != "$or"),
    st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1), max_leaves=6),
    min_size=1,
)


def _exact(event: dict[str, Any]) -> dict[str, Any]:
    return {name: _exact(value) if isinstance(value, dict) else [value] for name, value in event.items()}


@given(EVENTS)
def test_an_event_matches_the_pattern_made_from_it(event: dict[str, Any]) -> None:
    pattern = _exact(event)
    assert pattern_matches(json.dumps(pattern), event) is True
    assert matches({**pattern, "$never": ["x"]}, event) is False


JSON = st.recursive(
    LEAVES | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$or", "prefix", "anything-but", "exists", "numeric", "wildcard", "cidr", "a"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON, JSON)
def test_no_pattern_raises(pattern: Any, event: Any) -> None:
    given = event if isinstance(event, dict) else {"a": event}
    assert pattern_matches(json.dumps(pattern), given) in (True, False, None)


def test_many_wildcards_are_fast() -> None:
    assert matches({"key": [{"wildcard": "*a" * 40 + "*b"}]}, {"key": "a" * 1024}) is False
