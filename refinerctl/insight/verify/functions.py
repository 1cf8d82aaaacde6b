"""The functions: whether they run, what feeds them, what they are."""

from __future__ import annotations

from refinerctl.aws.lambda_ import SourceMapping
from refinerctl.errors import UsageError
from refinerctl.images import ImageReference
from refinerctl.insight.verify.answers import Absent
from refinerctl.insight.verify.framework import CannotTellError, Check, failed, known, passed, warned
from refinerctl.insight.verify.types import Finding, RulesetSnapshot, Snapshot, Status

_DIGEST_SHOWN = 19
_NO_FILTER = "`aws lambda update-event-source-mapping --uuid UUID --filter-criteria '{}'` takes it away."
# https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html: what it starts with, limited or not.
_FIRST_INVOCATIONS = 5


def _active(_: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    if isinstance(ruleset.function, Absent):
        return failed(ruleset.function.reason, "`refinerctl deploy` makes it.")
    function = known(ruleset.function)
    seen = f"{function.name} is {function.state}, its last update {function.update}"
    if function.reason and (function.state, function.update) != ("Active", "Successful"):
        seen = f"{seen}: {function.reason}"
    if "Failed" in (function.state, function.update):
        return failed(seen)
    if function.state == "Inactive":
        return warned(f"{seen}; the first input wakes it up, and waits for that")
    if function.state != "Active" or function.update != "Successful":
        return warned(seen, "Wait until Lambda is done, and verify again.")
    return passed(seen)


def _release(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    function, release = known(ruleset.function), known(snapshot.release)
    recorded = release.images.get(ruleset.names.name)
    if recorded is None:
        raise CannotTellError(f"release {release.tag or 'without a tag'} records no image of {ruleset.names.name}")
    wanted, running = _digest(recorded), _digest(function.running_image)
    if wanted == running:
        return passed(f"{function.name} runs {_short(wanted)}, as release {release.tag or 'without a tag'} has it")
    return failed(
        f"{function.name} runs {_short(running) or function.running_image}, release {release.tag or 'without a tag'} "
        f"has {_short(wanted)}"
    )


def _digest(uri: str) -> str:
    try:
        return ImageReference.parse(uri).digest or ""
    except UsageError:
        return ""


def _short(digest: str) -> str:
    return digest[:_DIGEST_SHOWN]


def _image(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    function = known(ruleset.function)
    if isinstance(ruleset.image, Absent):
        if snapshot.embedded and not _digest(function.running_image):
            raise CannotTellError(f"{function.name} runs from the image's folder on this machine")
        return failed(f"{function.name} runs an image that is gone: {ruleset.image.reason}")
    known(ruleset.image)
    return passed(f"{function.running_image} is in ECR")


def _mapping_of(ruleset: RulesetSnapshot) -> SourceMapping | None:
    """The one that is at work, if there are several."""
    queue = known(ruleset.queue)
    found = [item for item in known(ruleset.mappings) if item.queue_arn == queue.arn]
    return min(found, key=lambda item: item.state != "Enabled", default=None)


def _mapping(_: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    function, queue = known(ruleset.function), known(ruleset.queue)
    mapping = _mapping_of(ruleset)
    if mapping is None:
        return failed(f"nothing feeds {function.name} from {queue.name}")
    seen = f"the mapping from queue {queue.name} to function {function.name} is {mapping.state}"
    if mapping.state in ("Disabled", "Disabling", "Deleting"):
        return failed(seen)
    if mapping.filters:
        return warned(f"{seen}; what does not match {' or '.join(mapping.filters)} is deleted unread", _NO_FILTER)
    return passed(seen) if mapping.state == "Enabled" else warned(seen, "Wait until Lambda is done, and verify again.")


def _partial_batches(_: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    mapping = _mapping_of(ruleset)
    if mapping is None:
        raise CannotTellError("there is no mapping")
    if mapping.reports_failures:
        return passed("only the messages that failed come back")
    return failed("the mapping has no ReportBatchItemFailures")


def _concurrency(_: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    function = known(ruleset.function)
    reserved = function.reserved_concurrency
    if reserved == 0:
        return failed(f"{function.name} has a reserved concurrency of 0: Lambda never starts it")
    mapping = _mapping_of(ruleset)
    at_once = mapping.max_concurrency or _FIRST_INVOCATIONS if mapping is not None else 0
    if reserved is not None and at_once > reserved:
        return warned(
            f"the mapping starts {'up to' if mapping and mapping.max_concurrency else 'with'} {at_once} at once, "
            f"{function.name} has a reserved concurrency of {reserved}"
        )
    return passed(f"{function.name} has {'no' if reserved is None else reserved} reserved concurrency")


def _log_retention(_: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    if isinstance(ruleset.log_group, Absent):
        return Finding(Status.WARN, f"{ruleset.log_group.reason}; Lambda makes one that keeps lines for ever")
    group = known(ruleset.log_group)
    if group.retention_days is None:
        return warned(f"log group {group.name} keeps lines for ever")
    return passed(f"log group {group.name} keeps lines for {group.retention_days} days")


CHECKS = (
    Check(
        "function-active",
        "A function that has failed to start or to update processes nothing, or with old code.",
        "See Lambda's reason; `refinerctl deploy` again, or `refinerctl rollback`.",
        of_function=_active,
    ),
    Check(
        "function-release",
        "What runs should be what was reviewed and recorded.",
        "`refinerctl drift` shows what else was changed; `refinerctl deploy` puts the release back.",
        of_function=_release,
    ),
    Check(
        "function-image",
        "Lambda makes a function inactive some time after its image is gone, and cannot start it again.",
        "`refinerctl sync --tag TAG` copies the release's images to ECR again.",
        of_function=_image,
    ),
    Check(
        "mapping",
        "It takes messages from the queue to the function.",
        "`aws lambda update-event-source-mapping --uuid UUID --enabled`, or `refinerctl deploy`.",
        of_function=_mapping,
    ),
    Check(
        "mapping-partial-batches",
        "Without it the function's report is ignored: failed messages count as processed, and are lost.",
        "`refinerctl deploy` puts it back as it was released.",
        of_function=_partial_batches,
    ),
    Check(
        "function-concurrency",
        "A function that may not run leaves its inputs in the queue; throttled messages may die unprocessed.",
        "`aws lambda delete-function-concurrency --function-name NAME`, or raise it.",
        of_function=_concurrency,
    ),
    Check(
        "log-retention",
        "Logs that are kept for ever cost more every month, and may hold what should not be kept.",
        "Set log_retention_days of the stack, and deploy.",
        of_function=_log_retention,
    ),
)
