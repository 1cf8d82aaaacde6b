"""Which method a redrive takes, and why."""

from __future__ import annotations

import re

import pytest

from refinerctl.aws.messages import QueueAddress
from refinerctl.dlq.queues import DlqKind
from refinerctl.dlq.redrive.types import TASK_SUFFICES, Asked, Choice, Method, MoveTask, Origin, choose
from refinerctl.errors import UsageError


def queue(name: str) -> QueueAddress:
    return QueueAddress(name, f"https://sqs.test/000000000000/{name}", f"arn:aws:sqs:us-east-1:000000000000:{name}")


PROCESSING = Origin(queue("in-dlq"), DlqKind.PROCESSING, (queue("in"),))
DELIVERY = Origin(queue("in-delivery-dlq"), DlqKind.DELIVERY)
FIFO = Origin(queue("in-dlq.fifo"), DlqKind.PROCESSING, (queue("in.fifo"),))


def chosen(asked: Asked = Asked(), origin: Origin = PROCESSING, depth: int = 100, *, knows: bool = True) -> Choice:  # noqa: B008 - frozen
    return choose(asked, origin, depth, knows_tasks=knows)


def test_a_whole_dead_letter_queue_is_left_to_sqs() -> None:
    assert chosen().method is Method.MOVE_TASK
    assert chosen(depth=TASK_SUFFICES).method is Method.MOVE_TASK


@pytest.mark.parametrize(
    ("asked", "origin", "depth", "knows", "reason"),
    [
        (Asked(needs=("filter",)), PROCESSING, 100, True, "no filter"),
        (Asked(rate=501), PROCESSING, 100, True, "500 messages/s at most"),
        (Asked(rate=0.5), PROCESSING, 100, True, "at least 1"),
        (Asked(), DELIVERY, 100, True, "no queue's dead-letter queue"),
        (Asked(), PROCESSING, 100, False, "no message move tasks"),
        (Asked(), FIFO, 100, True, "duplicates"),
        (Asked(watches=True), PROCESSING, 100, True, "comes back"),
        (Asked(), PROCESSING, TASK_SUFFICES + 500, True, "30,500 messages"),
    ],
)
def test_what_sqs_would_not_do_or_not_as_well_is_copied_and_says_why(
    asked: Asked, origin: Origin, depth: int, knows: bool, reason: str
) -> None:
    choice = chosen(asked, origin, depth, knows=knows)

    assert choice.method is Method.COPY
    assert reason in choice.reason


def test_a_rate_that_spares_what_comes_after_is_no_reason_against_sqs() -> None:
    assert chosen(Asked(rate=100), depth=1_000_000).method is Method.MOVE_TASK


@pytest.mark.parametrize(
    ("asked", "origin", "knows", "reason"),
    [
        (Asked(Method.MOVE_TASK, needs=("--limit",)), PROCESSING, True, "a move task knows no --limit"),
        (Asked(Method.MOVE_TASK, rate=1000), PROCESSING, True, "500 messages/s at most"),
        (Asked(Method.MOVE_TASK, watches=True), PROCESSING, True, "does not tell the new ids"),
        (Asked(Method.MOVE_TASK), DELIVERY, True, "in-delivery-dlq is no queue's dead-letter queue"),
        (Asked(Method.MOVE_TASK), PROCESSING, False, "this endpoint has no message move tasks"),
    ],
)
def test_what_sqs_cannot_do_is_refused_when_it_is_asked_for(
    asked: Asked, origin: Origin, knows: bool, reason: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        chosen(asked, origin, knows=knows)


def test_sqs_can_be_asked_for_where_the_copy_would_be_better() -> None:
    assert chosen(Asked(Method.MOVE_TASK), FIFO, 1_000_000).method is Method.MOVE_TASK


def test_copying_can_always_be_asked_for() -> None:
    assert chosen(Asked(Method.COPY)).method is Method.COPY


def test_a_running_task_is_followed_whatever_is_faster() -> None:
    choice = choose(Asked(), PROCESSING, 1_000_000, knows_tasks=True, running=MoveTask("RUNNING", "handle"))

    assert choice.method is Method.MOVE_TASK
    assert "running already" in choice.reason
