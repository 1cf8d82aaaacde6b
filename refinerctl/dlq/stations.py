"""What the commands of `dlq` ask, put together once. Part of the composition root."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from refinerctl.aws.messages import QueueAddress
from refinerctl.aws.queue_names import QueueName
from refinerctl.dlq.queues import DeadLetterQueue, DlqKind, MessageSource
from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.stacks.names import RulesetNames
from refinerctl.stations import environment_rulesets

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.message_queue import MessageQueue
    from refinerctl.dlq.errors import ErrorFinder
    from refinerctl.dlq.queues import Stations, Wanted

CLOCK_SKEW = timedelta(minutes=1)


def at_queue(app: AppContext, text: str | None) -> AppContext:
    """Where a queue is that is given by name, URL or ARN: logs, functions and metrics are in its region, too."""
    return app if text is None else app.in_region(QueueName.parse(text).region)


def queue_stations(app: AppContext) -> Stations:
    from refinerctl.aws.dead_letter_queues import DeadLetterQueues
    from refinerctl.aws.move_tasks import MoveTasks
    from refinerctl.dlq.queues import Stations

    return Stations(app.queues, DeadLetterQueues(app.session), MoveTasks(app.session), app.event_buses, app.metrics)


def stack_rulesets(app: AppContext) -> tuple[RulesetNames, ...]:
    """Those of the environment; none where the stack keeps nothing, as outside of a project."""
    return environment_rulesets(app) if app.settings.has_pipeline else ()


def wanted_queue(app: AppContext, text: str) -> Wanted:
    """A queue by name, URL or ARN, with what the stack's values say of it."""
    from refinerctl.dlq.queues import Wanted, of_stack

    return next((item for item in of_stack(stack_rulesets(app)) if item.text == text), Wanted(text))


def error_finder(app: AppContext, queue: DeadLetterQueue, *, is_needed: bool = True) -> ErrorFinder:
    """Looks up errors in the logs of the functions that read the queues whose dead letters `queue` takes.

    Unless `is_needed` nobody is going to ask, and so nobody is asked who these functions are.
    """
    from refinerctl.dlq.errors import ErrorFinder

    if queue.kind is DlqKind.DELIVERY or not is_needed:
        return ErrorFinder(app.log_groups, (), datetime.now(UTC))
    for ruleset in stack_rulesets(app):
        if ruleset.dlq == queue.name:
            groups = (ruleset.log_group,) if ruleset.has_function else ()
            return ErrorFinder(app.log_groups, groups, datetime.now(UTC) + CLOCK_SKEW)
    return consumers_errors(app, queue.sources)


def consumers_errors(
    app: AppContext, sources: Iterable[MessageSource | QueueAddress], until: datetime | None = None
) -> ErrorFinder:
    """Looks up errors in the logs of the functions that read these queues, by the stack's values and by what Lambda
    says of their consumers; up to now, or up to `until`."""
    from refinerctl.aws.consumers import Consumers
    from refinerctl.dlq.errors import ErrorFinder

    of_stack = {ruleset.queue: ruleset for ruleset in stack_rulesets(app)}
    finder = ErrorFinder(app.log_groups, (), until or datetime.now(UTC) + CLOCK_SKEW)
    found: dict[str, None] = {}
    for source in sources:
        if (ruleset := of_stack.get(source.name)) is not None:
            found |= {ruleset.log_group: None} if ruleset.has_function else {}
            continue
        try:
            consumers = Consumers(app.session).of_queue(source.arn)
        except RefinerctlError as error:
            finder.failure = error
            finder.problems.append(error.message)
            continue
        found |= {f"/aws/lambda/{consumer.function}": None for consumer in consumers}
    finder.groups = tuple(found)
    return finder


def open_queue(app: AppContext, text: str, *, force: bool = False) -> tuple[DeadLetterQueue, MessageQueue]:
    """A queue by name, URL or ARN, as it is set up, and to receive from.

    Raises NotFoundError without it; RefusedError, unless `force`, if looking at its messages could kill them.
    """
    from refinerctl.aws.message_queue import MessageQueues
    from refinerctl.dlq.queues import look_at

    queue = look_at(wanted_queue(app, text), queue_stations(app))
    if queue.max_receive_count is not None and not force:
        raise RefusedError(
            f"{queue.name} has a dead-letter queue itself: a message that is looked at {queue.max_receive_count} times "
            "moves there",
            hint="--force looks nevertheless.",
        )
    return queue, MessageQueues(app.session).at(QueueAddress(queue.name, queue.url, queue.arn))
