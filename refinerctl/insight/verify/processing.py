"""Checks of queues and functions: messages are kept long enough, and the functions run what was released."""

from __future__ import annotations

from refinerctl.aws.lambda_ import SourceMapping
from refinerctl.console import counted
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.insight.findings import Finding, failed, passed, skipped, warned
from refinerctl.insight.verify.checks import Section, dlq_of, known, present
from refinerctl.insight.verify.snapshot import (
    CONCURRENCY,
    COUNTS,
    FAILURES,
    FUNCTION,
    IMAGE,
    INPUTS,
    LOG_GROUP,
    MAPPINGS,
    QUEUE,
    RELEASE,
    Snapshot,
    name_of,
)
from refinerctl.parallel import Answer
from refinerctl.stacks.base import Function, Queue, Service, Stage

# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
ADVISED_TIMEOUTS = 6
# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html: what Lambda starts with, limited or not.
_FIRST_INVOCATIONS = 5
# A new account starts with as few as 10: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LOW_CONCURRENCY = 50
_DIGEST_SHOWN = 19
_NO_FILTER = "`aws lambda update-event-source-mapping --uuid UUID --filter-criteria '{}'` removes the filter."
_WAIT = "Wait until Lambda is done, then run `refinerctl verify` again."

SECTION = Section("Queues and functions")


@SECTION.check(
    "queue-exists",
    Queue,
    why="It keeps the messages until the function, or a downstream consumer, has processed them.",
    fix="`refinerctl deploy` creates it.",
)
def _queue_exists(snapshot: Snapshot, queue: Queue) -> Finding | None:
    if queue.broker is not None:  # its consumers declare it
        return None
    return present(snapshot.get(QUEUE, queue.name), f"queue {queue.name} exists")


@SECTION.check(
    "redrive",
    Queue,
    why="Without a DLQ a message that cannot be processed is received again until it expires, and is lost.",
)
def _redrive(snapshot: Snapshot, queue: Queue) -> Finding | None:
    if queue.dlq is None or queue.broker is not None:
        return None
    settings = known(snapshot.get(QUEUE, queue.name))
    if settings.dlq_arn is None:
        return failed(f"queue {queue.name} has no DLQ")
    name = name_of(settings.dlq_arn)
    dlq = snapshot.get(QUEUE, name)
    if dlq.not_found:
        return failed(f"the DLQ of {queue.name} does not exist: {dlq.error}")
    sources = known(dlq).redrive_sources
    if sources is not None and settings.arn not in sources:
        return failed(f"{name} does not accept messages of {queue.name}")
    return passed(f"after {settings.max_receive_count} receives a message moves to {name}")


@SECTION.check(
    "dlq-retention",
    Queue,
    why="The age of a message in the DLQ counts from when it was first sent: it may be deleted soon after it arrives.",
    fix="Reduce the queue's retention period (message_retention_s) below its DLQ's, and deploy.",
    details="Fails if the DLQ's retention period is shorter than the queue's, warns if they are equal.",
)
def _dlq_retention(snapshot: Snapshot, queue: Queue) -> Finding | None:
    if queue.dlq is None or queue.broker is not None:
        return None
    settings = known(snapshot.get(QUEUE, queue.name))
    if settings.dlq_arn is None:
        return skipped(f"queue {queue.name} has no DLQ")
    dlq = known(snapshot.get(QUEUE, name_of(settings.dlq_arn)))
    seen = f"{dlq.name} keeps messages for {_days(dlq.retention_s)}, {queue.name} for {_days(settings.retention_s)}"
    if dlq.retention_s < settings.retention_s:
        return failed(seen)
    return warned(seen) if dlq.retention_s == settings.retention_s else passed(seen)


def _days(seconds: int) -> str:
    return f"{seconds / 86400:.3g} days"


@SECTION.check(
    "visibility-timeout",
    Queue,
    Function,
    why="A message that becomes visible again while it is processed is processed twice. AWS advises six times the "
    "function's timeout, so that messages of throttled batches do not move to the DLQ.",
    fix="Increase the queue's visibility timeout (visibility_timeout_s), and deploy.",
    details="Fails below the function's timeout, warns below six times as long, except in a local environment.",
)
def _visibility_timeout(snapshot: Snapshot, queue: Queue, function: Function) -> Finding:
    visibility = known(snapshot.get(QUEUE, queue.name)).visibility_timeout_s
    timeout = known(snapshot.get(FUNCTION, function.name)).timeout_s
    seen = f"visibility timeout of queue {queue.name}: {visibility} s, timeout of function {function.name}: {timeout} s"
    if visibility < timeout:
        return failed(seen)
    if snapshot.embedded:
        return passed(f"{seen}; the advised factor of {ADVISED_TIMEOUTS} is for throttling, which does not happen here")
    if visibility < ADVISED_TIMEOUTS * timeout:
        return warned(f"{seen}: less than {ADVISED_TIMEOUTS} times as long")
    return passed(seen)


@SECTION.check(
    "function-active",
    Function,
    why="A function that failed to start or to update processes nothing, or runs old code.",
    fix="Read Lambda's reason; run `refinerctl deploy` again, or `refinerctl rollback`.",
    details="Warns while an update is in progress.",
)
def _function_active(snapshot: Snapshot, component: Function) -> Finding:
    answer = snapshot.get(FUNCTION, component.name)
    if answer.not_found:
        return failed(str(answer.error), "`refinerctl deploy` creates it.")
    function = known(answer)
    seen = f"{function.name} is {function.state}, last update: {function.update}"
    if function.reason and (function.state, function.update) != ("Active", "Successful"):
        seen = f"{seen}: {function.reason}"
    if "Failed" in (function.state, function.update):
        return failed(seen)
    if function.state == "Inactive":
        return warned(f"{seen}; the next invocation activates it, and waits for that")
    if function.state != "Active" or function.update != "Successful":
        return warned(seen, _WAIT)
    return passed(seen)


@SECTION.check(
    "function-dlq",
    Function,
    why="An asynchronous invocation that failed is lost without a destination for it.",
    details="The function's destination on failure is its DLQ, which exists. Only for functions that have one.",
)
def _function_dlq(snapshot: Snapshot, component: Function) -> Finding | None:
    if component.dlq is None:
        return None
    known(snapshot.get(FUNCTION, component.name))
    destination = known(snapshot.get(FAILURES, component.name))
    if destination is None:
        return failed(f"function {component.name} has no destination for invocations that failed")
    if name_of(destination) != component.dlq.name:
        return failed(f"invocations of {component.name} that failed go to {destination}, not to {component.dlq.name}")
    return present(snapshot.get(QUEUE, component.dlq.name), f"invocations that failed go to {component.dlq.name}")


@SECTION.check(
    "function-release",
    Function,
    why="A function must run the image that was reviewed and recorded.",
    fix="`refinerctl drift` shows what else was changed; `refinerctl deploy` restores the release.",
    details="Compares the digest with the latest entry of the ledger of releases; skipped without an entry.",
)
def _function_release(snapshot: Snapshot, component: Function) -> Finding:
    function, release = known(snapshot.get(FUNCTION, component.name)), known(snapshot.get(RELEASE))
    name = snapshot.stage_of(component).name
    tag, recorded = release.tag or "without a tag", release.images.get(name)
    if recorded is None:
        return skipped(f"release {tag} records no image of {name}")
    wanted, running = recorded.partition("@")[2], function.digest or ""
    if wanted == running:
        return passed(f"{function.name} runs {wanted[:_DIGEST_SHOWN]}, the image of release {tag}")
    seen = running[:_DIGEST_SHOWN] or function.running_image
    return failed(f"{function.name} runs {seen}, but release {tag} has {wanted[:_DIGEST_SHOWN]}")


@SECTION.check(
    "function-image",
    Function,
    why="After its image is deleted, Lambda eventually makes the function inactive and cannot start it again.",
    fix="`refinerctl sync --tag TAG` copies the release's images to ECR again.",
    details="Skipped in a local environment whose function runs from the image's folder.",
)
def _function_image(snapshot: Snapshot, component: Function) -> Finding:
    function = known(snapshot.get(FUNCTION, component.name))
    image = snapshot.get(IMAGE, function.running_image)
    if image.not_found and snapshot.embedded and not function.digest:
        return skipped(f"{function.name} runs from the image's folder on this machine")
    return present(image, f"{function.running_image} is in ECR")


def _mapping(snapshot: Snapshot, queue: Queue, function: Function) -> Answer[SourceMapping]:
    """The event source mapping from the queue to the function; the enabled one, if there are several."""
    arn = known(snapshot.get(QUEUE, queue.name)).arn
    found = [item for item in known(snapshot.get(MAPPINGS, function.name)) if item.queue_arn == arn]
    if not found:
        missing = f"no event source mapping from queue {queue.name} to function {function.name}"
        return Answer(error=NotFoundError(missing))
    return Answer(min(found, key=lambda item: item.state != "Enabled"))


@SECTION.check(
    "mapping",
    Queue,
    Function,
    why="It passes messages from the queue to the function.",
    fix="`aws lambda update-event-source-mapping --uuid UUID --enabled`, or `refinerctl deploy`.",
    details="Warns about a filter: Lambda deletes messages that the filter does not match.",
)
def _mapping_enabled(snapshot: Snapshot, queue: Queue, function: Function) -> Finding:
    known(snapshot.get(FUNCTION, function.name))
    answer = _mapping(snapshot, queue, function)
    if answer.not_found:
        return failed(str(answer.error))
    mapping = known(answer)
    seen = f"the event source mapping from queue {queue.name} to function {function.name} is {mapping.state}"
    if mapping.state in ("Disabled", "Disabling", "Deleting"):
        return failed(seen)
    if mapping.filters:
        return warned(f"{seen}; Lambda deletes messages that do not match {' or '.join(mapping.filters)}", _NO_FILTER)
    return passed(seen) if mapping.state == "Enabled" else warned(seen, _WAIT)


@SECTION.check(
    "mapping-partial-batches",
    Queue,
    Function,
    why="Without it Lambda ignores the messages that the function reports as failed: they are deleted, and lost.",
)
def _partial_batches(snapshot: Snapshot, queue: Queue, function: Function) -> Finding:
    if known(_mapping(snapshot, queue, function)).reports_failures:
        return passed("only the messages that failed become visible again")
    return failed("the event source mapping has no ReportBatchItemFailures")


@SECTION.check(
    "function-concurrency",
    Function,
    why="A function without concurrency leaves its inputs in the queue; throttled messages may move to the DLQ.",
    fix="`aws lambda delete-function-concurrency --function-name NAME`, or increase it.",
    details="Fails at 0; warns below the event source mapping's max_concurrency, or below the 5 that Lambda "
    "starts with.",
)
def _function_concurrency(snapshot: Snapshot, component: Function) -> Finding:
    function = known(snapshot.get(FUNCTION, component.name))
    reserved = function.reserved_concurrency
    if reserved == 0:
        return failed(f"reserved concurrency of {function.name} is 0: Lambda never invokes it")
    queues = (item for item in snapshot.pipeline.upstream_of(component) if isinstance(item, Queue))
    mappings = [found for queue in queues if (found := _mapping(snapshot, queue, component).value)]
    if reserved is not None and mappings:
        limit = mappings[0].max_concurrency
        if (limit or _FIRST_INVOCATIONS) > reserved:
            starts = f"up to {limit}" if limit else f"with {_FIRST_INVOCATIONS}"
            return warned(
                f"the event source mapping starts {starts} invocations at once, "
                f"but reserved concurrency of {function.name} is {reserved}"
            )
    return passed(f"reserved concurrency of {function.name}: {'none' if reserved is None else reserved}")


@SECTION.check(
    "log-retention",
    Function | Service,
    why="Logs that never expire cost more every month, and may hold data that must not be kept.",
    fix="Set the log group's retention (log_retention_days), and deploy.",
    details="Warns only, unless the log group of a service does not exist.",
)
def _log_retention(snapshot: Snapshot, consumer: Function | Service) -> Finding:
    known(snapshot.settings(consumer))
    answer = snapshot.get(LOG_GROUP, consumer.log_group)
    if answer.not_found and isinstance(consumer, Service):
        return failed(f"{answer.error}: no task can start")
    if answer.not_found:
        return warned(f"{answer.error}; Lambda will create one whose lines never expire")
    group = known(answer)
    if group.retention_days is None:
        return warned(f"the lines of log group {group.name} never expire")
    return passed(f"log group {group.name} keeps lines for {group.retention_days} days")


@SECTION.check(
    "quota-concurrency",
    why="Lambda throttles functions when no concurrency is left: inputs wait, and may move to the DLQ.",
    fix="Request a higher quota in Service Quotas: Lambda, concurrent executions; or lower max_concurrency.",
    details=f"Warns if fewer than {LOW_CONCURRENCY} executions are unreserved, or fewer than all max_concurrency.",
)
def _quota_concurrency(snapshot: Snapshot) -> Finding | None:
    functions = list(snapshot.pipeline.by_kind(Function))
    if not functions:
        return None
    concurrency = known(snapshot.get(CONCURRENCY))
    seen = f"{concurrency.unreserved} of the account's {concurrency.limit} concurrent executions are unreserved"
    wanted = sum(_max_concurrency(snapshot, function) for function in functions)
    if wanted > concurrency.unreserved:
        return warned(f"{seen}; the functions may want {wanted}")
    return warned(seen) if concurrency.unreserved < LOW_CONCURRENCY else passed(seen)


def _max_concurrency(snapshot: Snapshot, function: Function) -> int:
    """What it may take of the unreserved executions."""
    settings = snapshot.get(FUNCTION, function.name).value
    if settings is None or settings.reserved_concurrency is not None:
        return 0
    return sum(mapping.max_concurrency or 0 for mapping in snapshot.get(MAPPINGS, function.name).value or ())


@SECTION.check(
    "inputs-complete",
    Function | Service,
    why="An input whose event was lost is not processed, and is in no queue and no DLQ.",
    fix="`refinerctl inputs --incomplete` lists such inputs, `refinerctl replay --incomplete` sends them through the "
    "pipeline again.",
    details="Counts the inputs below the stage's prefix that have no completion, or one that is older than the input. "
    "Recent inputs do not count. Warns if there are more of them than messages in the stage's queues and DLQs and in "
    "the DLQ of the forwarding rule; those on a broker count by the metrics of its consumer. Reads at most 40 pages "
    "of keys: about 20,000 inputs, the first ones by key.",
)
def _inputs_complete(snapshot: Snapshot, consumer: Function | Service) -> Finding | None:
    stage, shared = snapshot.stage_of(consumer), (dlq_of(item) for item in snapshot.pipeline.shared)
    if not stage.prefix or snapshot.bucket is None:
        return None
    count = known(snapshot.get(INPUTS, snapshot.bucket, stage))
    if count is None:
        return None
    queues = [*stage.sqs_queues, *(dlq for dlq in shared if dlq)]
    messages = sum(known(snapshot.get(QUEUE, queue.name)).total for queue in queues)
    lost = count.without_message(messages + _on_broker(snapshot, stage))
    whole = "" if count.all_counted else "; there are more inputs, which were not counted"
    seen = f"{counted(count.counted, 'input')} below {stage.prefix}"
    if lost:
        return warned(f"of {seen} at least {lost:,} have neither a completion nor a message{whole}")
    as_many = ", and at least as many messages" if count.incomplete else ""
    return passed(f"{seen}: {count.incomplete:,} without completion{as_many}{whole}")


def _on_broker(snapshot: Snapshot, stage: Stage) -> int:
    """The messages in the stage's queue and DLQ on a broker. Raises RefinerctlError if nobody counts them."""
    if stage.queue is None or stage.queue.broker is None or stage.service is None:
        return 0
    counts = known(snapshot.get(COUNTS, stage.service))
    if counts is None or counts.messages is None:
        raise RefinerctlError(f"there are no recent metrics of {stage.service.name}: messages are not counted")
    return counts.messages
