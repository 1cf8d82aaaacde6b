"""The health of a pipeline and the reasons for it: the first line of `status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from refinerctl.console import counted, seconds
from refinerctl.insight.status_model import DlqStatus, PipelineStatus, StageStatus

# A backlog of this age is a reason; the alarms of stack `refiner` have the same threshold.
OLD_S = 3600.0
_SHOWN_ALARMS = 3


class PipelineHealth(StrEnum):
    """`unknown`: nothing is known to be wrong, but not everything could be read."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


def health(found: PipelineStatus) -> PipelineHealth:
    """The health of the pipeline, from its status."""
    if any(_wrong(found)):
        return PipelineHealth.UNHEALTHY
    return PipelineHealth.UNKNOWN if any(_unread(found)) else PipelineHealth.HEALTHY


def reasons(found: PipelineStatus) -> list[str]:
    """The reasons why it is unhealthy, the most urgent first, then what is unknown; similar ones are combined."""
    return [*_folded(_wrong(found)), *_folded(_unread(found))]


def health_line(found: PipelineStatus, width: int | None) -> tuple[str, bool]:
    """The health and as many reasons as fit into `width` characters, at least one; whether these are all reasons."""
    state, every = health(found), reasons(found)
    title = "health unknown" if state is PipelineHealth.UNKNOWN else str(state)
    if not every:
        return title, True
    for shown in range(len(every), 0, -1):
        left = f"; {counted(len(every) - shown, 'more reason')}" if shown < len(every) else ""
        line = f"{title}: {'; '.join(every[:shown])}{left}"
        if width is None or len(line) <= width:
            break
    return line, shown == len(every)


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
    """The first of the texts that differ only in their resource, with the number of the others."""
    similar: dict[str, list[str]] = {}
    for text in texts:
        similar.setdefault(text.partition(": ")[2].partition(" on ")[0], []).append(text)
    return [f"{found[0]}, and {len(found) - 1} similar" if found[1:] else found[0] for found in similar.values()]
