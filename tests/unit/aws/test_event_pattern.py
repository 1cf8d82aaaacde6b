"""EventBridge's patterns: AWS's own examples, and properties that hold for any event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.event_pattern import all_of, any_of, negated, pattern_matches, rejection

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


def matches(pattern: Any, event: dict[str, Any]) -> bool | None:
    return pattern_matches(json.dumps(pattern), event)


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
    ("pattern", "event", "verdict"),
    [
        # A dot in a name is a level.
        ({"a.b": [1]}, {"a": {"b": 1}}, True),
        ({"a": {"b": [1]}}, {"a.b": 1}, True),
        ({"a": {"b.c": [1]}}, {"a.b": {"c": 1}}, True),
        ({"a.b": {"c": [1]}}, {"a": {"b": {"c": 2}}}, False),
        ({"$or": [{"a.b": [1]}, {"c": [1]}]}, {"a": {"b": 1}}, True),
        ({"a": {"$or": [{"b.c": [1]}, {"d": [1]}]}}, {"a": {"b": {"c": 2}}}, False),
        ({"a.b": [{"exists": False}]}, {"a": {"b": 1}}, False),
        ({"a.b": [{"exists": False}]}, {"a": {"c": 1}}, True),
        # The same field twice.
        ({"a": {"b": [1]}, "a.b": [2]}, {"a": {"b": 2}}, None),
        ({"a": {"b": [1]}, "a.b": [2], "c": [3]}, {"a": {"b": 2}, "c": 4}, False),
        ({"a": ["x"], "$or": [{"a": ["y"]}, {"b": [1]}]}, {"a": "x", "b": 1}, True),
        ({"a": ["x"], "$or": [{"a": ["y"]}, {"b": [1]}]}, {"a": "y"}, None),
        # Arrays within arrays.
        ({"a": [1]}, {"a": [[0, [1]], 2]}, True),
        ({"a": {"b": [1]}}, {"a": [[{"b": 0}], [{"b": 1}]]}, True),
        ({"a": {"b": [1], "c": [2]}}, {"a": [[{"b": 1}, {"c": 2}]]}, False),
        ({"a": {"b": [1], "c": [2]}}, {"a": [[{"b": 1, "c": 2}]]}, True),
        ({"a": {"b": [1], "c": [2]}}, {"a": {"b": [[0], [1]], "c": [[2], [3]]}}, True),
        ({"a": {"b": [1], "c": [2]}}, {"a": {"b": [0, 1], "c": [2, 3]}}, True),
        ({"a": [1], "a.b": [2]}, {"a": [1, {"b": 2}]}, True),
        # A field without a value is absent.
        ({"a": [{"exists": True}]}, {"a": []}, False),
        ({"a": [{"exists": False}]}, {"a": []}, True),
        ({"a": [{"exists": True}]}, {"a": [[], {}]}, False),
        ({"a": [{"exists": True}]}, {"a": [None]}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": []}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": [{"c": 1}]}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": "x"}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": {"b": [1]}}, False),
        ({"a": {"b": [{"exists": False}], "c": [1]}}, {"a": [{"b": 1}, {"c": 1}]}, None),
        ({"a": [{"exists": False}, 1]}, {"b": 1}, True),
        # `$or` that is no operator is a field.
        ({"$or": {"a": [1]}}, {"$or": {"a": 1}}, True),
        ({"$or": [1]}, {"$or": 1}, True),
        ({"$or": ["x", "y"]}, {"a": "x"}, False),
        # Addresses and numbers are compared by their value.
        ({"a": ["10.0.0.1"]}, {"a": "010.0.0.1"}, True),
        ({"a": ["::1"]}, {"a": "0:0:0:0:0:0:0:1"}, True),
        ({"a": ["::1"]}, {"a": "::2"}, False),
        ({"a": ["1.2.3"]}, {"a": "1.2.3"}, True),
        ({"a": [{"cidr": "10.0.0.5/24"}]}, {"a": "10.0.0.200"}, True),
        ({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": 167772161}, False),
        ({"a": [0.1]}, {"a": 0.1}, True),
        ({"a": [{"numeric": ["=", 0.1]}]}, {"a": 0.1}, True),
        ({"a": [9007199254740993]}, {"a": 9007199254740992}, False),
        # AWS documents numbers up to 5e9, with six decimal places.
        ({"a": [{"numeric": [">", 0]}]}, {"a": 6_000_000_000}, None),
        ({"a": [{"numeric": [">", 6_000_000_000]}]}, {"a": 5}, None),
        ({"a": [{"numeric": [">", 0.1234567]}]}, {"a": 5}, None),
        ({"a": [{"anything-but": 6_000_000_000}]}, {"a": 5}, None),
        ({"a": [6_000_000_000]}, {"a": 6_000_000_000}, True),
        # What is not a text is anything but a text.
        ({"a": [{"anything-but": ["x"]}]}, {"a": 5}, True),
        ({"a": [{"anything-but": [5]}]}, {"a": "x"}, True),
        ({"a": [{"anything-but": {"prefix": "x"}}]}, {"a": None}, True),
        ({"a": [{"prefix": ""}]}, {"a": 1}, False),
        ({"a": [{"prefix": ""}]}, {"a": "1"}, True),
        # Case, character by character.
        ({"a": [{"equals-ignore-case": "straße"}]}, {"a": "STRASSE"}, True),
        ({"a": [{"equals-ignore-case": "strasse"}]}, {"a": "straße"}, False),
        ({"a": [{"suffix": {"equals-ignore-case": "(É"}}]}, {"a": "x(é"}, True),
        ({"a": [{"equals-ignore-case": "😀"}]}, {"a": "😀"}, None),
        ({"a": [{"wildcard": "*\\\\n"}]}, {"a": "x\\n"}, True),
        ({"a": [{"wildcard": "*[a]?"}]}, {"a": "\n[a]?"}, True),
        ({"a": [{"wildcard": "a*a"}]}, {"a": "a"}, False),
    ],
)
def test_paths_arrays_and_values(pattern: Any, event: Any, verdict: bool | None) -> None:
    assert matches(pattern, event) is verdict
    assert rejection(json.dumps(pattern)) is None


def test_a_name_may_occur_twice() -> None:
    pattern = '{"detail": {"a": [1]}, "detail": {"b": [2]}}'
    assert pattern_matches(pattern, {"detail": {"a": 1, "b": 2}}) is True
    assert pattern_matches(pattern, {"detail": {"b": 2}}) is False


@pytest.mark.parametrize(
    "matcher",
    [
        {"fuzzy": "x"},
        {"exactly": "x"},
        {"prefix": {"other": "x"}},
        {"anything-but": {"numeric": [">", 1]}},
        {"anything-but": {"prefix": []}},
        {"cidr": "10.0.0.1/32"},
        {"prefix": 'RefinerInput"'},
    ],
)
def test_unknown_operators_give_no_answer(matcher: Any) -> None:
    assert key(matcher) is None
    assert detail({"absent": [matcher]}) is None
    # It may not matter.
    assert key(matcher, {"exists": True}) is True
    assert matches({"source": ["aws.ec2"], "detail": {"object": {"key": [matcher]}}}, EVENT) is False


@pytest.mark.parametrize(
    "matcher",
    [
        {},
        {"prefix": 1},
        {"prefix": "a", "suffix": "b"},
        {"prefix": {}},
        {"suffix": {"equals-ignore-case": 1}},
        {"equals-ignore-case": None},
        {"wildcard": "a**b"},
        {"wildcard": "a\\b"},
        {"wildcard": "a\\"},
        {"numeric": ["~", 1]},
        {"numeric": [">"]},
        {"numeric": []},
        {"numeric": 5},
        {"numeric": [">", "1"]},
        {"numeric": [">", True]},
        {"numeric": ["<", 5, ">", 3]},
        {"numeric": [">", 5, "<", 5]},
        {"numeric": ["=", 5, "<", 7]},
        {"cidr": "nonsense"},
        {"cidr": "10.0.0.1"},
        {"cidr": "10.0.0.0/33"},
        {"cidr": 10},
        {"exists": "yes"},
        {"anything-but": []},
        {"anything-but": True},
        {"anything-but": None},
        {"anything-but": ["x", 1]},
        {"anything-but": {}},
        {"anything-but": {"prefix": ""}},
        {"anything-but": {"suffix": [1]}},
        {"anything-but": {"wildcard": ["**"]}},
        ["nested"],
    ],
)
def test_an_invalid_operand_matches_nothing_because_aws_rejects_it(matcher: Any) -> None:
    assert key(matcher, {"exists": True}) is False
    assert rejection(json.dumps({"detail": {"object": {"key": [matcher]}}}))


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("[]", "it is not an object"),
        ("null", "it is not an object"),
        ("{}", "it has an object without fields"),
        ('{"detail": {}}', "it has an object without fields"),
        ("not json", "it is not JSON"),
        ('{"a": [NaN]}', "it is not JSON"),
        ('{"source": "aws.s3"}', "source is neither an object nor an array"),
        ('{"detail": {"a.b": []}}', "the array of detail.a.b is empty"),
        ('{"$or": []}', "$or needs at least two objects"),
        ('{"$or": [{"a": [1]}]}', "$or needs at least two objects"),
        ('{"$or": [{"a": [1]}, {"prefix": [1]}]}', "prefix is within $or"),
    ],
)
def test_patterns_that_aws_rejects(pattern: str, reason: str) -> None:
    assert rejection(pattern) == reason
    assert pattern_matches(pattern, EVENT) is False


def test_too_many_combinations_are_rejected_before_they_are_made() -> None:
    branches = [{"$or": [{f"a{number}": [1]} for number in range(10)]} for _ in range(10)]
    hundred = {"$or": branches}
    assert matches({"a": hundred, "b": {"$or": [{f"c{number}": [1]} for number in range(10)]}}, {}) is False
    assert rejection(json.dumps({"a": hundred, "b": hundred, "c": hundred})) == "$or has more than 1,000 combinations"


def test_a_rule_without_pattern_matches_nothing() -> None:
    assert pattern_matches("", EVENT) is False


def test_a_deeply_nested_pattern_gives_no_answer() -> None:
    assert pattern_matches('{"a":' * 5000 + "1" + "}" * 5000, EVENT) is None


@given(st.lists(st.sampled_from([True, False, None])))
def test_three_valued_logic(verdicts: list[bool | None]) -> None:
    """Replacing None by True or False never contradicts the answer."""
    for filled in ([True if item is None else item for item in verdicts], [bool(item) for item in verdicts]):
        assert any_of(verdicts) in (any(filled), None)
        assert all_of(verdicts) in (all(filled), None)
    assert all_of(verdicts) is negated(any_of(map(negated, verdicts)))


KEYS = st.text(min_size=1, max_size=40)


# EventBridge compares texts with their quotes, so that a quote in an operand has no certain answer.
PARTS = st.text(st.characters(codec="utf-8", exclude_characters='"'), min_size=1, max_size=40)


@given(KEYS, PARTS)
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
NAMES = st.sampled_from(["a", "b", "c", "ä", "d e"])
EVENTS = st.dictionaries(
    NAMES, st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, min_size=1), max_leaves=6), min_size=1
)


def _exact(event: dict[str, Any]) -> dict[str, Any]:
    return {name: _exact(value) if isinstance(value, dict) else [value] for name, value in event.items()}


@given(EVENTS)
def test_an_event_matches_the_pattern_made_from_it(event: dict[str, Any]) -> None:
    pattern = _exact(event)
    assert pattern_matches(json.dumps(pattern), event) is True
    assert matches({**pattern, "$never": ["x"]}, event) is False
    assert matches({"$or": [{"$never": ["x"]}, pattern]}, event) is True


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
