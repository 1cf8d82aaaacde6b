"""Records of messages in files: read as they were written, or an error with line and field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinerctl.aws.messages import Message, MessageAttribute, QueueAddress
from refinerctl.dlq.records import MessageRecord, from_record, read_records, to_line, to_record
from refinerctl.errors import UsageError

QUEUE = QueueAddress("a-dlq", "https://sqs.example/0/a-dlq", "arn:aws:sqs:us-east-1:0:a-dlq")
SENT = datetime(2026, 3, 1, 14, 2, 0, 123000, UTC)

attributes = st.one_of(
    st.builds(MessageAttribute, st.sampled_from(["String", "Number", "String.custom", "Number.int"]), st.text()),
    st.builds(MessageAttribute, st.sampled_from(["Binary", "Binary.png"]), st.binary()),
)
messages = st.builds(
    Message,
    id=st.text(),
    body=st.text(),
    sent_at=st.datetimes(timezones=st.just(UTC)),
    receive_count=st.integers(0, 10**9),
    attributes=st.dictionaries(st.text(), attributes, max_size=10),
    system=st.dictionaries(st.text(), st.text(), max_size=5),
)


@given(message=messages, queue=st.builds(QueueAddress, st.text(), st.text(), st.text()))
@settings(max_examples=150, deadline=None)
def test_message_is_read_as_it_was_written(message: Message, queue: QueueAddress) -> None:
    line = to_line(message, queue)

    assert line.isprintable()  # whatever is in it: one line, and nothing that steers a terminal
    assert list(read_records([line.encode() + b"\n"])) == [MessageRecord(message, queue)]
    assert json.loads(line) == to_record(message, queue)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5), st.data())
@settings(max_examples=150, deadline=None)
def test_any_value_of_a_field_is_read_or_a_usage_error(value: object, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(record())))
    try:
        from_record(record(**{field: value}), 7)
    except UsageError as error:
        assert error.message.startswith("line 7: field")  # noqa: PT017 - both ways are right


def record(**changes: Any) -> dict[str, Any]:
    attributes = {"who": MessageAttribute("String", "me"), "raw": MessageAttribute("Binary", b"\x00\xff")}
    return to_record(Message("{}", SENT, 3, attributes, "m1"), QUEUE) | changes


def test_record_has_every_field() -> None:
    assert record() == {
        "id": "m1",
        "queue": "a-dlq",
        "queue_url": QUEUE.url,
        "queue_arn": QUEUE.arn,
        "sent": "2026-03-01T14:02:00.123000Z",
        "receive_count": 3,
        "attributes": {"who": {"type": "String", "value": "me"}, "raw": {"type": "Binary", "base64": "AP8="}},
        "system": {},
        "body": "{}",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bdy": "x"}, "line 7: unknown field 'bdy'"),
        ({"body": None}, "line 7: field 'body': expected a string, found null"),
        ({"id": 1}, "line 7: field 'id': expected a string, found a number"),
        ({"sent": "yesterday"}, "line 7: field 'sent': 'yesterday' is not a time like 2026-03-01T14:02:00Z"),
        ({"receive_count": True}, "line 7: field 'receive_count': expected an integer of 0 or more"),
        ({"attributes": []}, "line 7: field 'attributes': expected an object, found an array"),
        (
            {"attributes": {"a": {"type": "Binary", "value": "x"}}},
            "line 7: field 'attributes.a': type Binary needs base64",
        ),
        ({"attributes": {"a": {"type": "Binary", "base64": "!"}}}, "line 7: field 'attributes.a': not base64"),
        (
            {"attributes": {"a": {"type": "Text", "value": "x"}}},
            "line 7: field 'attributes.a': type 'Text' is not String, Number or Binary, or like String.custom",
        ),
        (
            {"attributes": {str(n): {"type": "String", "value": "x"} for n in range(11)}},
            "line 7: field 'attributes': a message has at most 10, found 11",
        ),
        ({"system": {"MessageGroupId": 1}}, "line 7: field 'system.MessageGroupId': expected a string, found a number"),
    ],
)
def test_invalid_field_is_named_with_its_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        from_record(record(**changes), 7)
    assert raised.value.message == message


def test_missing_field_is_named() -> None:
    given = record()
    del given["body"]
    with pytest.raises(UsageError, match="line 1: field 'body' is missing"):
        from_record(given)


def test_empty_lines_are_skipped_and_broken_ones_named() -> None:
    good = json.dumps(record()).encode()
    read = read_records([good, b"\n", b'{"id": '])
    assert next(read).message.id == "m1"
    with pytest.raises(UsageError, match="line 3: not JSON"):
        next(read)
    with pytest.raises(UsageError, match="line 1: not JSON"):
        next(read_records([b"\xff"]))
    with pytest.raises(UsageError, match="line 1: not JSON: nested too deeply"):
        next(read_records([b"[" * 200_000]))
    with pytest.raises(UsageError, match="line 1: expected a JSON object, found an array"):
        next(read_records([b"[]"]))
