"""Exported messages as if they were in a queue."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from refinerctl.dlq.records import to_line
from refinerctl.dlq.redrive.from_file import FileSource, check
from refinerctl.errors import UsageError
from tests.unit.redrive.letters import DLQ, letter, queue

LETTERS = [letter(str(number), f"body {number}") for number in range(25)]


def file_of(*lines: str) -> io.BytesIO:
    return io.BytesIO("".join(f"{line}\n" for line in lines).encode())


def whole() -> io.BytesIO:
    return file_of(*(to_line(item, DLQ) for item in LETTERS))


def received(source: FileSource) -> list[str]:
    found: list[str] = []
    while letters := source.receive(10, visibility_s=60, wait_s=1):
        found += [item.id for item in letters]
    return found


def test_all_of_a_file_is_received_once() -> None:
    source = FileSource(whole(), DLQ, 25)

    assert source.attributes().visible == 25
    assert received(source) == [item.id for item in LETTERS]
    assert (source.attributes().visible, source.attributes().in_flight) == (0, 25)


def test_messages_are_as_they_were_exported() -> None:
    (first, *_) = FileSource(whole(), DLQ, 25).receive(10, visibility_s=60, wait_s=1)

    assert first == replace(LETTERS[0], receipt="1")


def test_what_is_deleted_is_gone_and_what_is_given_back_comes_again() -> None:
    source = FileSource(whole(), DLQ, 25)
    first = source.receive(10, visibility_s=60, wait_s=1)

    source.delete([item.receipt for item in first[:5]])
    source.change_visibility([item.receipt for item in first[5:]], 0)

    assert source.attributes().total == 20
    assert sorted(received(source), key=int) == [str(number) for number in range(5, 25)]


def test_a_message_that_is_only_hidden_for_longer_does_not_come_again() -> None:
    source = FileSource(whole(), DLQ, 25)
    first = source.receive(10, visibility_s=60, wait_s=1)

    source.change_visibility([item.receipt for item in first], 60)

    assert not set(received(source)) & {item.id for item in first}


def test_what_an_earlier_part_was_done_with_is_passed_over() -> None:
    source = FileSource(whole(), DLQ, 25, done={"0", "24"})
    source.delete(["2"])  # sent by the earlier part, and not yet written down as deleted

    assert source.attributes().total == 22
    assert received(source) == [str(number) for number in range(2, 24)]


def test_a_file_is_checked_to_its_end() -> None:
    checked = check(whole())

    assert (checked.count, checked.queues) == (25, (DLQ,))
    assert checked.digest == check(whole()).digest


def test_two_queues_in_one_file_are_told_apart() -> None:
    other = queue("other-dlq")

    assert check(file_of(to_line(LETTERS[0], DLQ), to_line(LETTERS[1], other))).queues == (DLQ, other)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (whole().getvalue()[:-1], "line 25: the line has no end"),
        (whole().getvalue()[:-10] + b"\n", "line 25: not JSON"),
        (whole().getvalue() + to_line(LETTERS[3], DLQ).encode() + b"\n", "message 3 is there twice"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        check(io.BytesIO(content))

    assert refused.value.message.startswith(reason)
