"""What comes out of an editor."""

from __future__ import annotations

import json
import time

import pytest

from refinerctl.aws.messages import MessageAttribute
from refinerctl.dlq.redrive.edit import diff, read_edits, write_lines
from refinerctl.errors import UsageError
from tests.unit.dlq.redrive.messages import DLQ, message, text

MESSAGES = [
    message("1", '{"key":"a"}', attributes={"raw": MessageAttribute("Binary", b"\x00\xff")}),
    message("2", "plain\u2028text", system={"SenderId": "s", "MessageGroupId": "g"}),
    message("3"),
]
LINES = write_lines(MESSAGES, DLQ).splitlines(keepends=True)


def edited(number: int, **changes: object) -> bytes:
    """All lines, one of them changed."""
    record = {**json.loads(LINES[number]), **changes}
    return "".join([*LINES[:number], json.dumps(record) + "\n", *LINES[number + 1 :]]).encode()


def test_untouched_lines_are_unchanged() -> None:
    edits = read_edits("".join(LINES).encode(), MESSAGES)

    assert (dict(edits.edited), edits.unchanged, edits.removed) == ({}, ("1", "2", "3"), ())


def test_an_edited_line_is_sent_and_the_others_stay() -> None:
    edits = read_edits(edited(0, body='{"key":"b"}'), MESSAGES)

    assert list(edits.edited) == ["1"]
    assert edits.edited["1"].body == '{"key":"b"}'
    assert edits.edited["1"].attributes == MESSAGES[0].attributes
    assert edits.unchanged == ("2", "3")


def test_a_removed_line_stays_in_the_queue() -> None:
    edits = read_edits(LINES[2].encode(), MESSAGES)

    assert edits.removed == ("1", "2")


def test_attributes_and_group_can_be_edited() -> None:
    edits = read_edits(edited(1, attributes={"x": {"type": "String", "value": "y"}}), MESSAGES)
    moved = read_edits(edited(1, system={"SenderId": "s", "MessageGroupId": "other"}), MESSAGES)

    assert edits.edited["2"].attributes == {"x": text("y")}
    assert moved.edited["2"].system["MessageGroupId"] == "other"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (edited(0, id="new"), "'new' was not in the file"),
        ((LINES[0] + LINES[0]).encode(), "is in the file twice"),
        (edited(0, body=""), "an empty body"),
        (edited(0, receive_count=0), "receive_count cannot be edited"),
        (edited(0, sent="2026-03-01T14:00:01Z"), "sent cannot be edited"),
        (edited(0, body="\ud83d"), "line 1: half of a surrogate pair"),
        (edited(1, system={"SenderId": "other", "MessageGroupId": "g"}), "SenderId cannot be edited"),
        (LINES[0].encode()[:30], "line 1: not JSON"),
        (LINES[0].encode() + b"\xff\n", "line 2: not JSON"),
        (edited(2, attributes={"x": {"type": "Binary", "value": "y"}}), "line 3"),
    ],
)
def test_invalid_edits_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_edits(content, MESSAGES)

    assert reason in refused.value.message


def test_many_messages_are_compared_quickly() -> None:
    messages = [message(f"{number:08}-0000-0000-0000-000000000000") for number in range(50_000)]
    began = time.process_time()

    edits = read_edits(write_lines(messages, DLQ).encode(), messages)

    assert len(edits.unchanged) == 50_000
    assert time.process_time() - began < 5


def test_the_diff_lays_json_out() -> None:
    lines = list(diff(read_edits(edited(0, body='{"key":"b"}'), MESSAGES), MESSAGES, DLQ))

    assert lines[:2] == ["--- message 1", "+++ message 1, edited"]
    assert [line for line in lines[2:] if line[0] in "+-"] == ['-    "key": "a"', '+    "key": "b"']


def test_the_diff_shows_white_space_if_only_that_differs() -> None:
    lines = list(diff(read_edits(edited(0, body='{"key": "a"}'), MESSAGES), MESSAGES, DLQ))

    assert [line for line in lines[2:] if line[0] in "+-"] == [
        r'-  "body": "{\"key\":\"a\"}"',
        r'+  "body": "{\"key\": \"a\"}"',
    ]
