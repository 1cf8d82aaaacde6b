"""What a redrive is about to do: where messages would go, whether they would be processed there, by which method."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from refinerctl.aws.messages import Message, QueueAddress, QueueAttributes
from refinerctl.dlq.queues import DlqKind
from refinerctl.dlq.redrive.health import HealthSources, look
from refinerctl.dlq.redrive.ports import Queue
from refinerctl.dlq.redrive.routes import Routes
from refinerctl.dlq.redrive.types import Asked, Leave, Method, MoveTask, Origin, RedrivePlan, choose
from refinerctl.errors import AccessDeniedError, RefinerctlError, RefusedError, UsageError

# Enough to see which targets there are; more would raise more receive counts.
SAMPLE = 100
SAMPLE_SECONDS = 20


class Tasks(Protocol):
    def latest(self, source_arn: str) -> tuple[MoveTask, ...] | None: ...

    def source_urls(self, dlq_url: str, dlq_arn: str) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class PlanSources:
    """Who is asked. `resolve` finds a queue by name, URL or ARN."""

    resolve: Callable[[str], QueueAddress]
    tasks: Tasks
    health: HealthSources


@dataclass(frozen=True)
class PlanRequest:
    """`gone` are the names of source queues that do not exist any more; `to` takes everything.

    `is_queue`: the messages are in the origin's queue, and not in a file that came from there.
    """

    origin: Origin
    asked: Asked = field(default_factory=Asked)
    to: QueueAddress | None = None
    gone: tuple[str, ...] = ()
    force: bool = False
    is_queue: bool = True


def make_plan(request: PlanRequest, queue: Queue, sources: PlanSources, now: datetime) -> RedrivePlan:
    """Look at everything, change nothing; `queue` is where the messages are, `now` in UTC.

    Messages are received only if nothing else says where they belong, and given back at once. Raises RefusedError if
    they can go nowhere, UsageError for a request that makes no sense.
    """
    origin, facts = request.origin, queue.attributes()
    tasks = _tasks(request, sources)
    running = next((task for task in tasks or () if task.is_active), None)
    # Counts are approximate: --to holds for what an empty queue turns out to have, too.
    found = _targets(request, queue, sources, facts) if facts.total or request.to else _Targets()
    asked = replace(request.asked, needs=(*request.asked.needs, *_out_of_reach(request)))
    choice = choose(asked, origin, facts.visible, knows_tasks=tasks is not None, running=running)
    if running is not None and choice.method is Method.COPY and not request.force:
        raise RefusedError(
            f"SQS itself is moving messages out of {origin.queue.name} right now ({running.moved:,} so far)",
            hint="Wait for its end: without options `dlq redrive` follows it. --force copies beside it.",
        )
    if running is not None and choice.method is Method.MOVE_TASK:
        _check_same(running, request)
    health = tuple(look(sources.health, target, origin.queue.arn, now) for target in found.targets)
    return RedrivePlan(
        origin,
        choice,
        found.targets,
        depth=facts.visible,
        in_flight=facts.in_flight + facts.delayed,
        health=health,
        reasons=found.reasons,
        running=running,
        looked_at=found.looked_at,
    )


def _out_of_reach(request: PlanRequest) -> tuple[str, ...]:
    """Targets at which a move task would fail, or stop half-way."""
    if request.to is None:
        return tuple(f"way around {name}, which is gone" for name in request.gone)
    if request.to.arn.rpartition(":")[0] == request.origin.queue.arn.rpartition(":")[0]:
        return ()
    return ("--to in another account or region",)


def _check_same(running: MoveTask, request: PlanRequest) -> None:
    """Raises RefusedError if the task that runs does something else than what is asked for."""
    wanted = request.to.arn if request.to else None
    if running.destination_arn != wanted:
        where = running.destination_arn.rpartition(":")[2] if running.destination_arn else "where they came from"
        raise RefusedError(
            f"SQS is moving the messages of {request.origin.queue.name} to {where} right now",
            hint="Follow that with the same --to, or wait for its end: a queue has one move task at a time.",
        )
    if request.asked.rate is not None and running.rate != int(request.asked.rate):
        rate = f"{running.rate}/s" if running.rate else "a rate of its own choice"
        raise RefusedError(
            f"SQS is moving the messages of {request.origin.queue.name} at {rate} right now",
            hint="Follow that without --rate; Ctrl-C cancels it, and then a new one can have another rate.",
        )


def _tasks(request: PlanRequest, sources: PlanSources) -> tuple[MoveTask, ...] | None:
    """None if there are none here, or none for whoever asks."""
    if not request.is_queue:
        return None
    try:
        return sources.tasks.latest(request.origin.queue.arn)
    except AccessDeniedError:
        return None


def check_healthy(plan: RedrivePlan, *, force: bool) -> None:
    """Raises RefusedError if what is sent would plainly not be processed."""
    if plan.broken and not force:
        raise RefusedError(
            f"what is sent would not be processed: {'; '.join(plan.broken)}",
            hint="Repair that first. --force sends them.",
        )


@dataclass(frozen=True)
class _Targets:
    """The queues that may get something; and why some of a sample would stay, each reason with a count."""

    targets: tuple[QueueAddress, ...] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)
    looked_at: int = 0


def _targets(request: PlanRequest, queue: Queue, sources: PlanSources, facts: QueueAttributes) -> _Targets:
    origin = request.origin
    if request.to is not None:
        _check_target(request.to, request, sources)
        return _Targets((request.to,))
    if origin.sources:
        return _Targets(origin.sources)
    if origin.kind is DlqKind.PROCESSING and request.gone:
        raise RefusedError(
            f"{origin.queue.name} has dead letters of {', '.join(request.gone)}, and there is no such queue any more",
            hint="Deploy it again, or name another: --to QUEUE.",
        )
    return _sampled(request, queue, sources, facts)


def _check_target(to: QueueAddress, request: PlanRequest, sources: PlanSources) -> None:
    if request.is_queue and to.arn == request.origin.queue.arn:
        raise UsageError(f"{to.name} is where the messages are", hint="Name another queue: --to QUEUE.")
    if to.is_fifo and not request.origin.queue.is_fifo:
        raise UsageError(
            f"{to.name} is a FIFO queue, and {request.origin.queue.name} is not: its messages have no group",
            hint="Name a standard queue: --to QUEUE.",
        )
    if not request.force and (served := _served_by(to, sources)):
        raise RefusedError(
            f"{to.name} is a dead-letter queue itself, of {', '.join(served)}", hint="--force sends them there."
        )


def _served_by(queue: QueueAddress, sources: PlanSources) -> list[str]:
    """The names of the queues whose dead letters it takes; none for who may not ask."""
    try:
        return [url.rpartition("/")[2] for url in sources.tasks.source_urls(queue.url, queue.arn)]
    except RefinerctlError:
        return []


def _sampled(request: PlanRequest, queue: Queue, sources: PlanSources, facts: QueueAttributes) -> _Targets:
    routes = Routes(request.origin, sources.resolve)
    found: dict[str, QueueAddress] = {}
    reasons: Counter[str] = Counter()
    letters = sample(queue)
    for letter in letters:
        target = routes.target(letter)
        if isinstance(target, Leave):
            reasons[target.reason] += 1
        else:
            found[target.arn] = target
    if reasons and not found and len(letters) >= facts.visible:
        name = request.origin.queue.name
        raise RefusedError(
            f"nothing can be sent from {name}: {reasons.most_common(1)[0][0]}",
            hint="--to QUEUE names a queue, and --key-prefix whose messages are for it.",
        )
    return _Targets(tuple(found.values()), dict(reasons), len(letters))


def sample(queue: Queue, limit: int = SAMPLE) -> list[Message]:
    """Up to `limit` messages, given back: their receive counts are one higher. Raises RefinerctlError."""
    found: list[Message] = []
    try:
        while len(found) < limit:
            letters = queue.receive(min(10, limit - len(found)), visibility_s=SAMPLE_SECONDS, wait_s=1)
            if not letters:
                break
            found.extend(letters)
    finally:
        receipts = [letter.receipt for letter in found]
        for start in range(0, len(receipts), 10):
            with contextlib.suppress(RefinerctlError):
                queue.change_visibility(receipts[start : start + 10], 0)
    return found
