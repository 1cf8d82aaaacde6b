"""What comes out of an editor."""

from __future__ import annotations

import json
import time

import pytest

from refinerctl.aws.messages import MessageAttribute
from refinerctl.dlq.redrive.edits import diff, read_edits, write_lines
from refinerctl.errors import UsageError
from tests.unit.redrive.letters import DLQ, letter, text

LETTERS = [
    letter("1", '{"key":"a"}', attributes={"raw": MessageAttribute("Binary", b"\x00\xff")}),
    letter("2", "plain\u2028text", system={"SenderId": "s", "MessageGroupId": "g"}),
    letter("3"),
]
LINES = write_lines(LETTERS, DLQ).splitlines(keepends=True)


def edited(number: int, **changes: object) -> bytes:
    """All lines, one of them changed."""
    record = {**json.loads(LINES[number]), **changes}
    return "".join([*LINES[:number], json.dumps(record) + "\n", *LINES[number + 1 :]]).encode()


def test_what_is_not_touched_is_unchanged() -> None:
    edits = read_edits("".join(LINES).encode(), LETTERS)

    assert (dict(edits.edited), edits.unchanged, edits.removed) == ({}, ("1", "2", "3"), ())


def test_an_edited_line_is_sent_and_the_others_stay() -> None:
    edits = read_edits(edited(0, body='{"key":"b"}'), LETTERS)

    assert list(edits.edited) == ["1"]
    assert edits.edited["1"].body == '{"key":"b"}'
    assert edits.edited["1"].attributes == LETTERS[0].attributes
    assert edits.unchanged == ("2", "3")


def test_a_removed_line_stays_in_the_queue() -> None:
    edits = read_edits(LINES[2].encode(), LETTERS)

    assert edits.removed == ("1", "2")


def test_attributes_and_group_can_be_edited() -> None:
    edits = read_edits(edited(1, attributes={"x": {"type": "String", "value": "y"}}), LETTERS)
    moved = read_edits(edited(1, system={"SenderId": "s", "MessageGroupId": "other"}), LETTERS)

    assert edits.edited["2"].attributes == {"x": text("y")}
    assert moved.edited["2"].system["MessageGroupId"] == "other"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (edited(0, id="new"), "'new' was not among"),
        ((LINES[0] + LINES[0]).encode(), "is there twice"),
        (edited(0, body=""), "no body left"),
        (edited(0, receive_count=0), "receive count"),
        (edited(0, sent="2026-03-01T14:00:01Z"), "when it was sent is SQS's own"),
        (edited(0, body="\ud83d"), "line 1: half of a surrogate pair"),
        (edited(1, system={"SenderId": "other", "MessageGroupId": "g"}), "SenderId is SQS's own"),
        (LINES[0].encode()[:30], "line 1: not JSON"),
        (LINES[0].encode() + b"\xff\n", "line 2: not JSON"),
        (edited(2, attributes={"x": {"type": "Binary", "value": "y"}}), "line 3"),
    ],
)
def test_what_makes_no_sense_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_edits(content, LETTERS)

    assert reason in refused.value.message


def test_very_many_take_no_time_to_speak_of() -> None:
    letters = [letter(f"{number:08}-0000-0000-0000-000000000000") for number in range(50_000)]
    began = time.process_time()

    edits = read_edits(write_lines(letters, DLQ).encode(), letters)

    assert len(edits.unchanged) == 50_000
    assert time.process_time() - began < 5


def test_the_diff_lays_json_out() -> None:
    lines = list(diff(read_edits(edited(0, body='{"key":"b"}'), LETTERS), LETTERS, DLQ))

    assert lines[:2] == ["--- message 1", "+++ message 1, edited"]
    assert [line for line in lines[2:] if line[0] in "+-"] == ['-    "key": "a"', '+    "key": "b"']


def test_the_diff_shows_white_space_if_nothing_else_differs() -> None:
    lines = list(diff(read_edits(edited(0, body='{"key": "a"}'), LETTERS), LETTERS, DLQ))

    assert [line for line in lines[2:] if line[0] in "+-"] == [
        r'-  "body": "{\"key\":\"a\"}"',
        r'+  "body": "{\"key\": \"a\"}"',
    ]
