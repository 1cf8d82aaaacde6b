"""The plan of a redrive: the target queues, the health of their consumers, and the method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice

from refinerctl.aws.consumers import Health
from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.aws.move_tasks import MAX_TASK_RATE, MoveTask
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.errors import ErrorFinder
from refinerctl.dlq.filters import MessageFilter
from refinerctl.dlq.queues import DlqKind
from refinerctl.dlq.redrive.from_file import ExportedFile
from refinerctl.dlq.redrive.routes import Origin, Stay
from refinerctl.dlq.services import QueueService
from refinerctl.dlq.walk import Walk
from refinerctl.errors import AccessDeniedError, RefinerctlError, RefusedError, UsageError

# Enough to find the targets; each receive raises a receive count.
SAMPLE = 100
# More messages take a move task longer than a minute; a copy is several times as fast, but has to run until its end.
TASK_SUFFICES = 60 * MAX_TASK_RATE


class Method(StrEnum):
    """SQS moves the messages itself, or they are received, sent and deleted."""

    MOVE_TASK = "move-task"
    COPY = "copy"


@dataclass(frozen=True)
class PlanRequest:
    """What the plan depends on. `needs` are options that a move task does not have; `rate` in messages per second."""

    origin: Origin
    method: Method | None = None
    to: QueueAddress | None = None
    rate: float | None = None
    needs: tuple[str, ...] = ()
    waits: bool = False
    force: bool = False


@dataclass(frozen=True)
class RedrivePlan:
    """`depth` messages can be received, of which `matching` match the filter (None: not counted).

    `reasons`: why some of a sample of `sampled` messages would stay, each with a count; `running`: SQS's task that is
    to be followed.
    """

    origin: Origin
    method: Method
    method_reason: str
    targets: tuple[QueueAddress, ...]
    depth: int
    in_flight: int = 0
    health: tuple[Health, ...] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)
    sampled: int = 0
    running: MoveTask | None = None
    matching: int | None = None


def make_plan(
    request: PlanRequest,
    messages: QueueClient | ExportedFile,
    now: datetime,
    service: QueueService,
) -> RedrivePlan:
    """Read everything, change nothing. `now` in UTC.

    Messages are received only if nothing else says where they belong, and released at once. Raises RefusedError if
    nothing could be sent, UsageError for mutually exclusive options.
    """
    name = request.origin.queue.name
    if isinstance(messages, ExportedFile):
        known, depth, in_flight = None, messages.count, 0
    else:
        known = _tasks(request, service)
        depth, in_flight = _count(messages)
    running = next((task for task in known or () if task.is_active), None)
    targets, reasons, sampled = _targets(request, messages, depth + in_flight, service)
    method, reason = _choose(request, depth, known, running)
    if running is not None and method is Method.COPY and not request.force:
        raise RefusedError(
            f"a move task of SQS is moving messages out of {name} ({running.moved:,} so far)",
            hint="Run `dlq redrive` without options to follow it, or pass --force to copy beside it.",
        )
    if running is not None and method is Method.MOVE_TASK:
        _check_same(running, request)
    return RedrivePlan(
        request.origin,
        method,
        reason,
        targets,
        depth,
        in_flight,
        tuple(service.consumers.check(target, request.origin.queue.reference, now) for target in targets),
        reasons,
        sampled,
        running,
    )


def _count(messages: QueueClient) -> tuple[int, int]:
    """How many messages can be received, and how many cannot. A count of 0 may be old: then the queue is polled."""
    there = messages.attributes()
    if there.total:
        return there.visible, there.in_flight + there.delayed
    with Walk(messages, MessageFilter(), ErrorFinder(), max_received=1) as walk:
        found = sum(len(chunk) for chunk in walk.chunks())
    return (0, 0) if walk.is_complete else (max(1, found + (walk.remaining.count or 0)), 0)


def _tasks(request: PlanRequest, service: QueueService) -> tuple[MoveTask, ...] | None:
    """None if tasks are not possible, or cannot be listed."""
    try:
        return service.tasks.latest(request.origin.queue.arn) if service.tasks else None
    except AccessDeniedError:
        return None


def _choose(
    request: PlanRequest, depth: int, known: tuple[MoveTask, ...] | None, running: MoveTask | None
) -> tuple[Method, str]:
    """The method, and why. Raises UsageError if --method requires a move task that is not possible."""
    obstacle = next(_obstacles(request, known), None)
    if request.method is Method.MOVE_TASK and obstacle:
        raise UsageError(f"a move task is not possible: {obstacle}", hint="Use --method copy, or omit --method.")
    if request.method is not None:
        return request.method, "--method"
    if running is not None and not obstacle:
        return Method.MOVE_TASK, "a move task is running already"
    if obstacle is None and request.origin.queue.is_fifo:
        obstacle = "a move task does not report which FIFO duplicates were dropped"
    if obstacle is None and depth > TASK_SUFFICES and request.rate is None:
        obstacle = f"a move task would take more than {depth // MAX_TASK_RATE} s for {depth:,} messages"
    return (Method.COPY, obstacle) if obstacle else (Method.MOVE_TASK, "all messages of the queue")


def _obstacles(request: PlanRequest, known: tuple[MoveTask, ...] | None) -> Iterator[str]:
    """The reasons why a move task is not possible."""
    origin, to = request.origin, request.to
    if not origin.queue.arn and origin.queue.url:
        yield "RabbitMQ has no message move tasks"
    for need in request.needs:
        yield f"a move task does not support {need}"
    if to is None and origin.gone:  # it ends at the first message that it cannot move
        yield f"source queue {origin.gone[0]} does not exist, and a move task would fail at its messages"
    if to is not None and to.arn.rpartition(":")[0] != origin.queue.arn.rpartition(":")[0]:
        yield "a move task does not support --to in another account or region"
    if request.rate is not None and request.rate > MAX_TASK_RATE:
        yield f"a move task moves at most {MAX_TASK_RATE} messages/s"
    if request.rate is not None and request.rate < 1:
        yield "a move task moves at least 1 message/s"
    if not origin.sources:
        yield f"no queue has {origin.queue.name} as its DLQ"
    if known is None:
        yield "the endpoint does not support move tasks, or access is denied"
    if request.waits:
        yield "a move task does not report new message ids, which --wait needs"


def _check_same(running: MoveTask, request: PlanRequest) -> None:
    """Raises RefusedError if the running task has another target or rate than the options."""
    name = request.origin.queue.name
    if running.destination_arn != (request.to.arn if request.to else None):
        where = running.destination_arn.rpartition(":")[2] if running.destination_arn else "their source queues"
        raise RefusedError(
            f"a move task of SQS is moving the messages of {name} to {where}",
            hint="Pass the same --to to follow it, or wait until it ends: a queue has one move task at a time.",
        )
    if request.rate is not None and running.rate != int(request.rate):
        rate = f"{running.rate}/s" if running.rate else "the rate that SQS chooses"
        raise RefusedError(
            f"a move task of SQS is moving the messages of {name} at {rate}",
            hint="Omit --rate to follow it; Ctrl-C then cancels it, and a new task can have another rate.",
        )


def _targets(
    request: PlanRequest,
    messages: QueueClient | ExportedFile,
    total: int,
    service: QueueService,
) -> tuple[tuple[QueueAddress, ...], Mapping[str, int], int]:
    """The queues that get messages; from a sample also why some would stay, and the sample's size."""
    origin = request.origin
    if request.to is not None:  # also if the queue seems empty: counts are approximate
        _check_target(request.to, request, messages, service)
        return (request.to,), {}, 0
    if not total:
        return (), {}, 0
    if origin.sources:
        return origin.sources, {}, 0
    if origin.kind is DlqKind.PROCESSING and origin.gone:
        raise RefusedError(
            f"{origin.queue.name} has messages of {', '.join(origin.gone)}, which does not exist",
            hint="Deploy that queue again, or name another one: --to QUEUE.",
        )
    found: dict[str, QueueAddress] = {}
    reasons: Counter[str] = Counter()
    routes = service.routes(origin, service.address)
    sampled = sample(messages)
    for message in sampled:
        target = routes.target(message)
        if isinstance(target, Stay):
            reasons[target.reason] += 1
        else:
            found[target.reference] = target
    if reasons and not found and len(sampled) < SAMPLE:
        raise RefusedError(
            f"nothing can be sent from {origin.queue.name}: {reasons.most_common(1)[0][0]}",
            hint="Pass --to QUEUE, and --key-prefix to select the messages for it.",
        )
    return tuple(found.values()), dict(reasons), len(sampled)


def _check_target(
    to: QueueAddress, request: PlanRequest, messages: QueueClient | ExportedFile, service: QueueService
) -> None:
    dlq = request.origin.queue
    if to.reference == dlq.reference and not isinstance(messages, ExportedFile):
        raise UsageError(f"the messages are already in {to.name}", hint="Name another queue: --to QUEUE.")
    if to.is_fifo and not dlq.is_fifo:
        raise UsageError(
            f"{to.name} is a FIFO queue, and messages of {dlq.name} have no group",
            hint="Name a standard queue: --to QUEUE.",
        )
    if request.force:
        return
    try:
        served = [queue.name for queue in service.sources(to)]
    except RefinerctlError:  # may not be read
        served = []
    if served:
        raise RefusedError(
            f"{to.name} is itself the DLQ of {', '.join(served)}", hint="Pass --force to send messages there."
        )


def sample(messages: QueueClient | ExportedFile, limit: int = SAMPLE) -> list[Message]:
    """Up to `limit` messages; those of a queue are released, and their receive counts one higher."""
    if isinstance(messages, ExportedFile):
        return list(islice(messages.messages(), limit))
    with Walk(messages, MessageFilter(), ErrorFinder(), max_received=limit, needs_end=False) as walk:
        return [message for chunk in walk.chunks() for message in chunk]
