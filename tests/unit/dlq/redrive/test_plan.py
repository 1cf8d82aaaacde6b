"""Which method and which targets a redrive has, and what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.aws.move_tasks import MoveTask
from refinerctl.dlq.queues import DlqKind
from refinerctl.dlq.redrive.plan import TASK_SUFFICES, Method, PlanRequest, RedrivePlan, make_plan
from refinerctl.dlq.redrive.routes import Origin, Routes
from refinerctl.errors import RefusedError, UsageError
from tests.unit.aws.test_consumers import Account
from tests.unit.dlq.redrive.memory_queue import Kept, MemoryQueue
from tests.unit.dlq.redrive.messages import DLQ, IN, ORIGIN, OTHER, SENT, UNDELIVERED, queue, resolve, undelivered

if TYPE_CHECKING:
    from refinerctl.aws.message_queue import MessageQueue

BUS = "arn:aws:events:us-east-1:000000000000:event-bus/bus"
FIFO = Origin(queue("in-dlq.fifo"), DlqKind.PROCESSING, (queue("in.fifo"),))
RUNNING = MoveTask("RUNNING", "handle", moved=7)


@dataclass(frozen=True)
class FakeSqs:
    """`known` None: the endpoint has none."""

    known: tuple[MoveTask, ...] | None = ()
    routes = Routes
    consumers = Account().health_check

    @property
    def tasks(self) -> FakeSqs:
        return self

    def latest(self, source_arn: str) -> tuple[MoveTask, ...] | None:
        return self.known

    def address(self, text: str) -> QueueAddress:
        return resolve(text)

    def sources(self, dlq: QueueAddress) -> list[QueueAddress]:
        return [IN] if dlq.arn == DLQ.arn else []


def memory(*messages: Message) -> MemoryQueue:
    return MemoryQueue("in-dlq", kept={message.id: Kept(message) for message in messages})


def planned(
    request: PlanRequest, source: MemoryQueue | int = 100, known: tuple[MoveTask, ...] | None = ()
) -> RedrivePlan:
    """`source`: a queue, or how many messages it has."""
    if isinstance(source, int):
        source = memory(*(Message("{}", SENT, 3, id=str(number)) for number in range(source)))
    client: Any = FakeSqs(known)
    queue = cast("MessageQueue", source)
    return make_plan(request, queue, SENT, client)


def several(count: int, target: str = BUS) -> list[Message]:
    return [replace(undelivered(target), id=f"{target}-{number}") for number in range(count)]


def test_sqs_moves_a_whole_dead_letter_queue() -> None:
    assert planned(PlanRequest(ORIGIN)).method is Method.MOVE_TASK
    assert planned(PlanRequest(ORIGIN), TASK_SUFFICES).method is Method.MOVE_TASK
    assert planned(PlanRequest(ORIGIN, rate=100), TASK_SUFFICES + 500).method is Method.MOVE_TASK


OBSTACLES = [
    (PlanRequest(ORIGIN, needs=("--limit",)), 1, (), "a move task does not support --limit"),
    (PlanRequest(ORIGIN, rate=501), 1, (), "at most 500 messages/s"),
    (PlanRequest(ORIGIN, rate=0.5), 1, (), "at least 1"),
    (PlanRequest(UNDELIVERED, to=IN), 1, (), "no queue has in-delivery-dlq as its DLQ"),
    (PlanRequest(ORIGIN), 1, None, "does not support move tasks"),
    (PlanRequest(ORIGIN, waits=True), 1, (), "new message ids"),
    (PlanRequest(ORIGIN, to=queue("other", "eu-west-1")), 1, (), "another account or region"),
    (PlanRequest(ORIGIN, to=replace(OTHER, arn="arn:aws:sqs:us-east-1:1:other")), 1, (), "another account or region"),
    (PlanRequest(replace(ORIGIN, gone=("late",))), 1, (), "source queue late does not exist"),
]
DISADVANTAGES = [
    (PlanRequest(FIFO), 1, (), "FIFO duplicates"),
    (PlanRequest(ORIGIN), TASK_SUFFICES + 500, (), "30,500 messages"),
]


@pytest.mark.parametrize(("request_", "depth", "known", "reason"), [*OBSTACLES, *DISADVANTAGES])
def test_a_copy_says_why_it_is_no_move_task(
    request_: PlanRequest, depth: int, known: tuple[MoveTask, ...] | None, reason: str
) -> None:
    plan = planned(request_, depth, known)

    assert plan.method is Method.COPY
    assert reason in plan.method_reason


def test_a_move_task_that_is_not_possible_is_a_usage_error() -> None:
    for request, depth, known, reason in OBSTACLES:
        with pytest.raises(UsageError, match=re.escape(reason)):
            planned(replace(request, method=Method.MOVE_TASK), depth, known)


def test_a_possible_method_can_be_chosen() -> None:
    assert planned(PlanRequest(FIFO, Method.MOVE_TASK)).method is Method.MOVE_TASK
    assert planned(PlanRequest(ORIGIN, Method.COPY)).method is Method.COPY


def test_another_existing_queue_is_moved_to() -> None:
    assert planned(PlanRequest(replace(ORIGIN, gone=("late",)), to=OTHER)).method is Method.MOVE_TASK


def test_a_running_task_with_the_same_target_and_rate_is_followed() -> None:
    def follow(task: MoveTask, request: PlanRequest) -> RedrivePlan:
        return planned(request, TASK_SUFFICES + 500, (task,))

    assert follow(RUNNING, PlanRequest(ORIGIN)).running == RUNNING
    assert follow(replace(RUNNING, destination_arn=OTHER.arn), PlanRequest(ORIGIN, to=OTHER)).running is not None
    assert follow(replace(RUNNING, rate=50), PlanRequest(ORIGIN, rate=50.0)).running is not None
    with pytest.raises(RefusedError, match="to their source queues"):
        follow(RUNNING, PlanRequest(ORIGIN, to=OTHER))
    with pytest.raises(RefusedError, match="to other"):
        follow(replace(RUNNING, destination_arn=OTHER.arn), PlanRequest(ORIGIN))
    with pytest.raises(RefusedError, match="at the rate that SQS chooses"):
        follow(RUNNING, PlanRequest(ORIGIN, rate=50.0))
    with pytest.raises(RefusedError, match=r"is moving messages out of in-dlq \(7 so far\)"):
        follow(RUNNING, PlanRequest(ORIGIN, needs=("--limit",)))


def test_messages_without_a_possible_target_are_refused_and_released() -> None:
    source = memory(*several(3))

    with pytest.raises(RefusedError, match="only AWS can send"):
        planned(PlanRequest(UNDELIVERED), source)

    assert not any(item.hidden for item in source.kept.values())


def test_a_sample_without_a_target_does_not_refuse_the_other_messages() -> None:
    plan = planned(PlanRequest(UNDELIVERED), memory(*several(100), *several(5, IN.arn)))

    assert (plan.targets, plan.sampled, list(plan.reasons.values())) == ((), 100, [100])


def test_targets_are_known_without_receiving() -> None:
    source = memory(*several(2))

    plan = planned(PlanRequest(replace(ORIGIN, sources=(IN, OTHER))), source)

    assert (plan.targets, plan.sampled, plan.depth) == ((IN, OTHER), 0, 2)
    assert "receive" not in source.calls


def test_an_empty_queue_has_a_target_only_if_one_is_given() -> None:
    assert planned(PlanRequest(ORIGIN, to=OTHER), 0).targets == (OTHER,)
    assert planned(PlanRequest(UNDELIVERED), 0).targets == ()
