"""The table and the warnings of `dlq list`."""

from __future__ import annotations

from refinerctl.dlq.list import COLUMNS, row, warnings
from refinerctl.dlq.queues import DeadLetterQueue, DlqKind, MessageSource


def test_row_says_what_is_unknown() -> None:
    sources = (MessageSource("a"), MessageSource("b", exists=False))
    full = DeadLetterQueue(
        "a-dlq",
        kind=DlqKind.PROCESSING,
        sources=sources,
        depth=415,
        in_flight=2,
        oldest_age_s=7500.0,
        expires_in_s=1_200_000.0,
    )
    assert dict(zip(COLUMNS, (text for text, _ in row(full)), strict=True)) == {
        "QUEUE": "a-dlq",
        "KIND": "processing",
        "FROM": "a, b (deleted)",
        "DEPTH": "415",
        "IN FLIGHT": "2",
        "OLDEST": "2h5m",
        "EXPIRES": "13d21h",
    }
    assert [text for text, _ in row(DeadLetterQueue("x", error="denied"))] == ["x", *["unknown"] * 6]
    empty = DeadLetterQueue("x", kind=DlqKind.PROCESSING, depth=0, in_flight=0)
    assert [text for text, _ in row(empty)][-2:] == ["-", "-"]


def test_warnings_for_messages_that_expire_within_a_day_and_for_unreadable_queues() -> None:
    queues = (
        DeadLetterQueue("late", expires_in_s=86_399.0),
        DeadLetterQueue("soon", expires_in_s=86_400.0),
        DeadLetterQueue("missing", error="queue missing does not exist"),
    )
    assert list(warnings(queues)) == [
        "late: the oldest message expires in 23h59m at the latest",
        "missing: queue missing does not exist",
    ]
