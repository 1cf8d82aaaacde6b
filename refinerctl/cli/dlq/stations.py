"""What the commands of `dlq` ask, put together once. Part of the composition root."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from refinerctl.cli.stations import environment_rulesets
from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.models.dead_letter_queues import DeadLetterQueue
from refinerctl.models.dead_letters import DeadLetterKind, QueueAddress
from refinerctl.models.status import RulesetNames

if TYPE_CHECKING:
    from refinerctl.cli.context import AppContext
    from refinerctl.clients.aws.message_queue import MessageQueue
    from refinerctl.operations.dead_letters.errors import ErrorFinder
    from refinerctl.operations.dead_letters.queues import Stations, Wanted

CLOCK_SKEW = timedelta(minutes=1)


def queue_stations(app: AppContext) -> Stations:
    from refinerctl.clients.aws.dead_letter_queues import DeadLetterQueues
    from refinerctl.clients.aws.move_tasks import MoveTasks
    from refinerctl.operations.dead_letters.queues import Stations

    return Stations(app.queues, DeadLetterQueues(app.session), MoveTasks(app.session), app.event_buses, app.metrics)


def stack_rulesets(app: AppContext) -> tuple[RulesetNames, ...]:
    """Those of the environment; none where the stack keeps nothing, as outside of a project."""
    return environment_rulesets(app) if app.settings.has_pipeline else ()


def wanted_queue(app: AppContext, text: str) -> Wanted:
    """A queue by name, URL or ARN, with what the stack's values say of it."""
    from refinerctl.operations.dead_letters.queues import Wanted, of_stack

    return next((item for item in of_stack(stack_rulesets(app)) if item.text == text), Wanted(text))


def error_finder(app: AppContext, queue: DeadLetterQueue) -> ErrorFinder:
    """Looks up errors in the logs of the functions that read the queues whose dead letters `queue` takes."""
    from refinerctl.operations.dead_letters.errors import ErrorFinder

    problems: list[str] = []
    groups = _log_groups(app, queue, problems)
    return ErrorFinder(app.log_groups, groups, datetime.now(UTC) + CLOCK_SKEW, problems)


def _log_groups(app: AppContext, queue: DeadLetterQueue, problems: list[str]) -> tuple[str, ...]:
    """By the stack's values; of other queues by what Lambda says of their consumers."""
    from refinerctl.clients.aws.consumers import Consumers

    if queue.kind is DeadLetterKind.DELIVERY:
        return ()
    for ruleset in stack_rulesets(app):
        if ruleset.dlq == queue.name:
            return (ruleset.log_group,) if ruleset.has_function else ()
    found: dict[str, None] = {}
    for source in queue.sources:
        try:
            consumers = Consumers(app.session).of_queue(source.arn)
        except RefinerctlError as error:
            problems.append(error.message)
            continue
        found.update({f"/aws/lambda/{consumer.function}": None for consumer in consumers})
    return tuple(found)


def open_queue(app: AppContext, text: str, *, force: bool = False) -> tuple[DeadLetterQueue, MessageQueue]:
    """A queue by name, URL or ARN, as it is set up, and to receive from.

    Raises NotFoundError without it; RefusedError, unless `force`, if looking at its messages could kill them.
    """
    from refinerctl.clients.aws.message_queue import MessageQueues
    from refinerctl.operations.dead_letters.queues import look_at

    queue = look_at(wanted_queue(app, text), queue_stations(app))
    if queue.max_receive_count is not None and not force:
        raise RefusedError(
            f"{queue.name} has a dead-letter queue itself: a message that is looked at {queue.max_receive_count} times "
            "moves there",
            hint="--force looks nevertheless.",
        )
    return queue, MessageQueues(app.session).at(QueueAddress(queue.name, queue.url, queue.arn))
