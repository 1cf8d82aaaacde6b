"""The queues: what they keep, and for how long."""

from __future__ import annotations

from refinerctl.insight.verify.answers import Absent
from refinerctl.insight.verify.framework import (
    CannotTellError,
    Check,
    failed,
    known,
    name_of,
    passed,
    present,
    queue_of,
    warned,
)
from refinerctl.insight.verify.types import Finding, RulesetSnapshot, Snapshot

# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
ADVISED_TIMEOUTS = 6


def _queue(_: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    return present(ruleset.queue, lambda queue: f"queue {queue.name} is there")


def _redrive(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    queue = known(ruleset.queue)
    if queue.dlq_arn is None:
        return failed(f"queue {queue.name} has no dead-letter queue")
    dlq = queue_of(snapshot, queue.dlq_arn)
    if isinstance(dlq, Absent):
        return failed(f"the dead-letter queue of {queue.name} is gone: {dlq.reason}")
    sources = known(dlq).redrive_sources
    if sources is not None and queue.arn not in sources:
        return failed(f"{name_of(queue.dlq_arn)} takes no dead letters of {queue.name}")
    return passed(f"after {queue.max_receive_count} receives a message goes to {name_of(queue.dlq_arn)}")


def _dlq_retention(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    queue = known(ruleset.queue)
    if queue.dlq_arn is None:
        raise CannotTellError(f"queue {queue.name} has no dead-letter queue")
    dlq = known(queue_of(snapshot, queue.dlq_arn))
    seen = f"{dlq.name} keeps messages for {_days(dlq.retention_s)}, {queue.name} for {_days(queue.retention_s)}"
    if dlq.retention_s < queue.retention_s:
        return failed(seen)
    if dlq.retention_s == queue.retention_s:
        return warned(seen)
    return passed(seen)


def _days(seconds: int) -> str:
    return f"{seconds / 86400:.3g} days"


def _visibility_timeout(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    queue, function = known(ruleset.queue), known(ruleset.function)
    hidden, timeout = queue.visibility_timeout_s, function.timeout_s
    seen = f"queue {queue.name} hides a message for {hidden} s, function {function.name} may run for {timeout} s"
    if hidden < timeout:
        return failed(seen)
    if snapshot.embedded:
        return passed(f"{seen}; the advised {ADVISED_TIMEOUTS}-fold is for throttling, which this environment has not")
    if hidden < ADVISED_TIMEOUTS * timeout:
        return warned(f"{seen}: less than {ADVISED_TIMEOUTS} times as long")
    return passed(seen)


CHECKS = (
    Check(
        "queue-exists",
        "It keeps the inputs until the function, or whoever comes downstream, has processed them.",
        "`refinerctl deploy` makes it.",
        of_ruleset=_queue,
    ),
    Check(
        "redrive",
        "Without it a message that cannot be processed comes back until it is too old, and is gone.",
        "`refinerctl deploy` puts it back as it was released.",
        of_ruleset=_redrive,
    ),
    Check(
        "dlq-retention",
        "A dead letter's age counts from when it was first sent: it may be gone soon after it has died.",
        "Lower message_retention_s of the stack below the 14 days of its dead-letter queues, and deploy.",
        of_ruleset=_dlq_retention,
    ),
    Check(
        "visibility-timeout",
        "A message that comes back while it is being processed is processed twice; AWS advises six times the "
        "function's timeout, so that throttled batches do not die.",
        "Raise the ruleset's visibility_timeout_s, or leave it out, and deploy.",
        of_function=_visibility_timeout,
    ),
)
