"""Event patterns as an independent implementation evaluates them: the emulator's TestEventPattern."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.event_pattern import pattern_matches, rejection
from refinerctl.aws.session import AwsSession

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

NAMES = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(["x", "y", "xy", "XY", "", "ß", "SS", "x*", "*y", "10.0.0.1", "::1", "x\\*"])
NUMBERS = st.sampled_from([0, 1, 2, 1.5, -1, 300])
LEAVES = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
EVENTS = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    min_size=1,
)

ONE_OR_MORE = TEXTS | st.lists(TEXTS, min_size=1, max_size=2)
RANGES = st.tuples(st.sampled_from([">", ">="]), NUMBERS, st.sampled_from(["<", "<="]), NUMBERS).map(list)
OPERATORS = st.one_of(
    st.fixed_dictionaries({"prefix": TEXTS | st.fixed_dictionaries({"equals-ignore-case": TEXTS})}),
    st.fixed_dictionaries({"suffix": TEXTS | st.fixed_dictionaries({"equals-ignore-case": TEXTS})}),
    st.fixed_dictionaries({"equals-ignore-case": TEXTS}),
    st.fixed_dictionaries({"wildcard": TEXTS}),
    st.fixed_dictionaries({"numeric": st.tuples(st.sampled_from(["=", "<", "<=", ">", ">="]), NUMBERS).map(list)}),
    st.fixed_dictionaries({"numeric": RANGES}),
    st.fixed_dictionaries({"cidr": st.sampled_from(["10.0.0.0/8", "10.0.0.0/31", "11.0.0.0/8", "::/64", "10.0.0.1"])}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"anything-but": st.one_of(ONE_OR_MORE, NUMBERS, st.lists(LEAVES, max_size=2))}),
    st.fixed_dictionaries(
        {
            "anything-but": st.dictionaries(
                st.sampled_from(["prefix", "suffix", "equals-ignore-case", "wildcard"]), ONE_OR_MORE, max_size=1
            )
        }
    ),
)
VALUES = st.lists(LEAVES | OPERATORS, min_size=1, max_size=3)


def _levels(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    fields = st.dictionaries(NAMES | st.sampled_from(["a.b", "b.c"]), inner, min_size=1, max_size=2)
    return fields | st.builds(
        lambda fields, branches: {**fields, "$or": branches}, fields, st.lists(fields, min_size=1, max_size=3)
    )


# Objects at the top: a list of values is a leaf.
PATTERNS = _levels(VALUES | _levels(VALUES | _levels(VALUES)))


@pytest.fixture(scope="module")
def client(session: AwsSession) -> EventBridgeClient:
    return session.client("events")


def _emulated(client: EventBridgeClient, pattern: str, detail: dict[str, Any]) -> bool | str:
    """Whether it matches, or why the emulator rejects the pattern."""
    event = {"id": "1", "source": "s", "detail-type": "t", "account": "123456789012", "region": "us-east-1"}
    event |= {"time": "2026-03-01T14:02:00Z"}
    try:
        answer = client.test_event_pattern(
            EventPattern=pattern, Event=json.dumps({**event, "resources": [], "detail": detail})
        )
    except ClientError as error:
        return str(error)
    return answer["Result"]


@given(PATTERNS, EVENTS)
def test_a_verdict_is_the_emulators(client: EventBridgeClient, fields: dict[str, Any], detail: dict[str, Any]) -> None:
    pattern = json.dumps({"detail": fields})
    theirs, ours = _emulated(client, pattern, detail), pattern_matches(pattern, {"detail": detail})
    if isinstance(theirs, str):
        assert rejection(pattern) or ours is None, theirs
    else:
        assert rejection(pattern) is None
        assert ours in (theirs, None)
