"""What a trace knows of an input whose stage is a service: publications, tasks, the broker's counts, merged outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from refinerctl.aws.service_metrics import ServiceCounts, read_counts
from refinerctl.insight.function_lines import json_line, pattern_of
from refinerctl.parallel import attempt, concurrently
from refinerctl.stacks.base import Function, Service, Stage
from refinerctl.stacks.records import RecordEvent

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.s3 import ObjectInfo

PUBLICATIONS = (RecordEvent.CLAIMED, RecordEvent.PUBLISHED, RecordEvent.UNPUBLISHED)
MAX_LINES = 2_000
# A manifest lists at most the outputs of some minutes; a completion is merged by one of the next runs.
MAX_MANIFESTS = 30
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
MAX_OBJECTS = 3_000
THREADS = 8


@dataclass(frozen=True)
class ProducerLine:
    """What a producer logged of the input: claimed, published, or (with `error`) not published."""

    function: str
    event: RecordEvent
    at: datetime
    message_id: str
    traceparent: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class MergedInput:
    """A manifest that lists the input's completion."""

    manifest: str
    at: datetime


@dataclass(frozen=True)
class ServiceFacts:
    """`running` are the ids of the tasks that run now; None if they could not be read. `counts` of the queue, too."""

    service: Service
    publications: tuple[ProducerLine, ...] = ()
    running: frozenset[str] | None = None
    counts: ServiceCounts | None = None
    merged: tuple[MergedInput, ...] = ()
    merges: bool = False

    @property
    def traceparent(self) -> str | None:
        """That of the newest publication."""
        return next((item.traceparent for item in reversed(self.publications) if item.traceparent), None)


def read_service(
    app: AppContext, stage: Stage, key: str, since: datetime, now: datetime, problems: list[str]
) -> ServiceFacts | None:
    """None for a stage without a service. What could not be read is among the problems."""
    service = stage.service
    if service is None:
        return None
    upstream = app.pipeline.upstream_of(stage.queue) if stage.queue else ()
    producers = [item for item in upstream if isinstance(item, Function)]
    calls: list[Callable[[], Any]] = [
        partial(app.services.tasks, service.cluster, service.name),
        partial(read_counts, app.metrics, service, now),
        *(partial(_publications, app, item, key, since, now) for item in producers),
    ]
    answers = concurrently([partial(attempt, call) for call in calls], THREADS)
    problems += [answer.error.message for answer in answers if answer.error]
    tasks, counts, *published = answers
    found = [item for answer in published for item in answer.value or ()]
    return ServiceFacts(
        service,
        tuple(sorted(found, key=lambda item: item.at)),
        running=None if tasks.error else frozenset(task.task_id for task in tasks.value or ()),
        counts=counts.value,
        merges=app.stack.merged_completions is not None and app.storage.merged_prefix is not None,
    )


def _publications(
    app: AppContext, producer: Function, key: str, since: datetime, now: datetime
) -> tuple[ProducerLine, ...]:
    lines = app.log_groups.events(producer.log_group, since, pattern_of(key), until=now + timedelta(minutes=1))
    found = []
    for event in islice(lines, MAX_LINES):
        record = json_line(event.message)
        line = app.stack.read_log_line(record) if record is not None else None
        if line is not None and line.event in PUBLICATIONS and line.key == key:
            at = line.at or event.timestamp
            found.append(
                ProducerLine(producer.name, line.event, at, line.message_id, line.traceparent, line.error or None)
            )
    return tuple(found)


def find_merged(app: AppContext, completion: ObjectInfo, problems: list[str]) -> tuple[MergedInput, ...]:
    """The manifests since the completion was written that list it, oldest first."""
    read, prefix = app.stack.merged_completions, app.storage.merged_prefix
    if read is None or prefix is None:
        return ()
    listed = attempt(lambda: list(islice(app.results.objects(prefix), MAX_OBJECTS + 1)))
    if listed.error:
        problems.append(listed.error.message)
    later = [
        info
        for info in listed.value or ()
        if info.key.endswith(".json") and info.last_modified >= completion.last_modified
    ]
    oldest = sorted(later, key=lambda info: info.last_modified)
    if len(listed.value or ()) > MAX_OBJECTS or len(oldest) > MAX_MANIFESTS:
        problems.append(f"only {MAX_MANIFESTS} manifests below {prefix} were read")
    answers = concurrently(
        [partial(attempt, partial(app.results.read, info.key, MAX_MANIFEST_BYTES)) for info in oldest[:MAX_MANIFESTS]],
        THREADS,
    )
    problems += [answer.error.message for answer in answers if answer.error]
    bodies = (answer.value[1] for answer in answers if answer.value)
    return tuple(_listing(completion.key, zip(oldest, [read(body) for body in bodies], strict=False)))


def _listing(key: str, manifests: Iterable[tuple[ObjectInfo, frozenset[str]]]) -> Iterator[MergedInput]:
    return (MergedInput(info.key, info.last_modified) for info, completions in manifests if key in completions)
