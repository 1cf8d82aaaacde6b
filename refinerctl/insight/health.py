"""Whether a pipeline is healthy, and why not: what `status` says first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from refinerctl.console import counted, seconds
from refinerctl.insight.status_model import DlqStatus, PipelineStatus, StageStatus

# The alarms of stack `refiner` start at this age, too.
OLD_S = 3600.0
_SHOWN_ALARMS = 3


class PipelineHealth(StrEnum):
    """`unknown`: nothing is known to be wrong, but not everything could be read."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


def health(found: PipelineStatus) -> PipelineHealth:
    """The health by all that was read."""
    if any(_wrong(found)):
        return PipelineHealth.UNHEALTHY
    return PipelineHealth.UNKNOWN if any(_unread(found)) else PipelineHealth.HEALTHY


def reasons(found: PipelineStatus) -> list[str]:
    """Why it is not healthy, the most urgent first; then what is unknown. Of several that are alike the first."""
    return [*_folded(_wrong(found)), *_folded(_unread(found))]


def verdict(found: PipelineStatus, width: int | None) -> tuple[str, bool]:
    """A line: the health, and as many reasons as fit into `width` characters, but at least one.

    Also whether that are all reasons.
    """
    state, told = health(found), reasons(found)
    title = {PipelineHealth.UNHEALTHY: "not healthy", PipelineHealth.UNKNOWN: "health unknown"}.get(state, str(state))
    if not told:
        return title, True
    for shown in range(len(told), 0, -1):
        left = f"; {counted(len(told) - shown, 'more reason')}" if shown < len(told) else ""
        line = f"{title}: {'; '.join(told[:shown])}{left}"
        if width is None or len(line) <= width:
            break
    return line, shown == len(told)


def _wrong(found: PipelineStatus) -> Iterator[str]:
    yield from (f"{stage.name}: {text}" for stage in found.stages for text in stage.problems)
    if found.alarms:
        yield _alarms(found)
    for stage in found.stages:
        if stage.inputs and (lost := stage.inputs.without_message):
            yield (
                f"{stage.name}: at least {counted(lost, 'input')} with neither a completion nor a message; to list "
                "them, run `refinerctl inputs --incomplete`"
            )
    yield from (f"all stages: {_in_dlq(dlq)}" for dlq in found.shared_dlqs if dlq.depth)
    yield from (f"{stage.name}: {text}" for stage in found.stages for text in _about_messages(stage))
    yield from (f"{stage.name}: {text}" for stage in found.stages for text in _about_release(stage, found))


def _alarms(found: PipelineStatus) -> str:
    named = [
        f"{alarm.name} ({seconds((found.at - alarm.since).total_seconds())})" if alarm.since else alarm.name
        for alarm in found.alarms
    ]
    more = f", and {len(named) - _SHOWN_ALARMS} more" if named[_SHOWN_ALARMS:] else ""
    return f"{counted(len(named), 'alarm')}: {', '.join(named[:_SHOWN_ALARMS])}{more}"


def _about_messages(stage: StageStatus) -> Iterator[str]:
    for dlq in (stage.dlq, stage.delivery_dlq):
        if dlq is not None and dlq.depth:
            yield _in_dlq(dlq)
    consumer, age = stage.function or stage.service, stage.queue.oldest_age_s if stage.queue else None
    if stage.queue and consumer and age is not None and age > OLD_S:
        yield f"the oldest message of queue {stage.queue.name} is {seconds(age)} old"


def _in_dlq(dlq: DlqStatus) -> str:
    expiry = "" if dlq.expires_in_s is None else f", the oldest expires within {seconds(dlq.expires_in_s)}"
    return f"{counted(dlq.depth, 'message')} in DLQ {dlq.name}{expiry}"


def _about_release(stage: StageStatus, found: PipelineStatus) -> Iterator[str]:
    consumer = stage.function or stage.service
    if consumer is not None and consumer.runs_release is False:
        yield f"does not run the image of {found.release or 'the current release'}"
    if stage.service is not None and stage.service.rollout == "FAILED":
        yield f"the deployment of service {stage.service.name} failed"


def _unread(found: PipelineStatus) -> Iterator[str]:
    yield from found.problems
    yield from (f"{stage.name}: {text}" for stage in found.stages for text in stage.unread.values())


def _folded(texts: Iterable[str]) -> Sequence[str]:
    """Of texts that differ only in their resource the first, with the number of the others."""
    alike: dict[str, list[str]] = {}
    for text in texts:
        alike.setdefault(text.partition(": ")[2].partition(" on ")[0], []).append(text)
    return [f"{found[0]}, and {len(found) - 1} more like it" if found[1:] else found[0] for found in alike.values()]
