"""What a redrive is about to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import pytest

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAddress, QueueAttributes
from refinerctl.dlq.redrive.health import HealthSources
from refinerctl.dlq.redrive.plan import PlanRequest, PlanSources, make_plan
from refinerctl.dlq.redrive.types import Asked, Method, MoveTask, Origin, RedrivePlan
from refinerctl.errors import RefinerctlError, RefusedError
from tests.unit.redrive.letters import DLQ, IN, ORIGIN, OTHER, SENT, UNDELIVERED, letter, queue, resolve, undelivered
from tests.unit.redrive.test_health import FakeMetrics

BUS = "arn:aws:events:us-east-1:000000000000:event-bus/bus"


@dataclass
class FakeQueue:
    """Gives its letters in their order, and then those again that were given back."""

    letters: list[Message]
    visible: int | None = None
    address: QueueAddress = DLQ
    _hidden: list[Message] = field(default_factory=list)

    def attributes(self) -> QueueAttributes:
        count = len(self.letters) if self.visible is None else self.visible
        return QueueAttributes(SENT, count, len(self._hidden), 0, 262_144)

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        found, self.letters = self.letters[:count], self.letters[count:]
        self._hidden += found
        return found

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        back = [item for item in self._hidden if item.receipt in receipts]
        self._hidden = [item for item in self._hidden if item not in back]
        self.letters += back
        return [EntryResult() for _ in receipts]

    def send(
        self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = lambda: None
    ) -> list[EntryResult]:
        raise AssertionError("a plan sends nothing")

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        raise AssertionError("a plan deletes nothing")


@dataclass(frozen=True)
class FakeTasks:
    tasks: tuple[MoveTask, ...] | None = ()

    def latest(self, source_arn: str) -> tuple[MoveTask, ...] | None:
        return self.tasks

    def source_urls(self, dlq_url: str, dlq_arn: str) -> tuple[str, ...]:
        return ()


class Unknown:
    def of_queue(self, queue_arn: str) -> NoReturn:
        raise RefinerctlError("denied")


def unknown(_: object) -> NoReturn:
    raise RefinerctlError("denied")


def planned(source: FakeQueue, request: PlanRequest, *tasks: MoveTask) -> RedrivePlan:
    health = HealthSources(Unknown(), unknown, unknown, FakeMetrics({}))
    return make_plan(request, source, PlanSources(resolve, FakeTasks(tasks), health), SENT)


def several(count: int, target: str = BUS) -> list[Message]:
    return [replace(undelivered(target), id=str(number), receipt=f"r{number}") for number in range(count)]


def test_what_can_go_nowhere_is_refused() -> None:
    source = FakeQueue(several(3))

    with pytest.raises(RefusedError, match="takes events of AWS from AWS alone"):
        planned(source, PlanRequest(UNDELIVERED))

    assert len(source.letters) == 3


def test_a_sample_that_can_go_nowhere_does_not_speak_for_the_others() -> None:
    source = FakeQueue([*several(100), *several(5, IN.arn)])

    plan = planned(source, PlanRequest(UNDELIVERED))

    assert (plan.targets, plan.looked_at, list(plan.reasons.values())) == ((), 100, [100])


def test_another_queue_takes_also_what_an_empty_queue_turns_out_to_have() -> None:
    assert planned(FakeQueue([]), PlanRequest(ORIGIN, to=OTHER)).targets == (OTHER,)
    assert planned(FakeQueue([]), PlanRequest(UNDELIVERED)).targets == ()


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (PlanRequest(ORIGIN, to=OTHER), None),
        (PlanRequest(ORIGIN, to=queue("other", "eu-west-1")), "another account or region"),
        (PlanRequest(ORIGIN, to=replace(OTHER, arn="arn:aws:sqs:us-east-1:111111111111:other")), "another account"),
        (PlanRequest(ORIGIN, gone=("late",)), "way around late, which is gone"),
        (PlanRequest(ORIGIN, gone=("late",), to=OTHER), None),
    ],
)
def test_what_a_move_task_cannot_reach_is_copied(request_: PlanRequest, reason: str | None) -> None:
    choice = planned(FakeQueue([letter()]), request_).choice

    assert choice.method is (Method.COPY if reason else Method.MOVE_TASK)
    assert (reason or "") in choice.reason


RUNNING = MoveTask("RUNNING", "handle", moved=7)


def test_a_running_task_is_followed_if_it_does_what_is_asked_for() -> None:
    def follow(task: MoveTask, asked: Asked | None = None, to: QueueAddress | None = None) -> RedrivePlan:
        return planned(FakeQueue([letter()]), PlanRequest(ORIGIN, asked or Asked(), to), task)

    assert follow(RUNNING).running == RUNNING
    assert follow(replace(RUNNING, destination_arn=OTHER.arn), to=OTHER).running is not None
    assert follow(replace(RUNNING, rate=50), Asked(rate=50.0)).running is not None
    with pytest.raises(RefusedError, match="to where they came from right now"):
        follow(RUNNING, to=OTHER)
    with pytest.raises(RefusedError, match="to other right now"):
        follow(replace(RUNNING, destination_arn=OTHER.arn))
    with pytest.raises(RefusedError, match="at a rate of its own choice"):
        follow(RUNNING, Asked(rate=50.0))


def test_a_dead_letter_queue_of_several_needs_no_look() -> None:
    source = FakeQueue([letter("1"), letter("2")])

    plan = planned(source, PlanRequest(Origin(DLQ, ORIGIN.kind, (IN, OTHER))))

    assert (plan.targets, plan.looked_at, plan.depth) == ((IN, OTHER), 0, 2)
