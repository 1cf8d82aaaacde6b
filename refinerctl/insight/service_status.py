"""The status of a service, of its queue on a broker and of a schedule, from metrics and from ECS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from refinerctl.aws.metrics import DataPoint
from refinerctl.aws.service_metrics import SILENT, WINDOW, ServiceCounts
from refinerctl.errors import UsageError
from refinerctl.images import ImageReference
from refinerctl.insight.status_model import DlqStatus, QueueStatus, ScheduleStatus, ServiceStatus
from refinerctl.stacks.base import Queue, Schedule, Service

if TYPE_CHECKING:
    from refinerctl.aws.ecs_services import ServiceState, TaskDefinition
    from refinerctl.aws.events import ScheduleSettings


def queue_status(queue: Queue, counts: ServiceCounts | None) -> QueueStatus | None:
    """The counts of a queue on a broker; None without metrics."""
    if counts is None or counts.ready is None or counts.unacknowledged is None:
        return None
    age = counts.backlog_age_s if counts.ready or counts.unacknowledged else None
    return QueueStatus(queue.name, counts.ready, counts.unacknowledged, 0, age)


def broker_dlq_status(dlq: Queue, counts: ServiceCounts | None) -> DlqStatus | None:
    """The depth of a DLQ on a broker; None without metrics. Its messages do not expire."""
    return DlqStatus(dlq.name, counts.dlq_messages) if counts and counts.dlq_messages is not None else None


def service_status(
    service: Service,
    counts: ServiceCounts | None,
    state: ServiceState | None,
    definition: TaskDefinition | None,
    released: str | None,
) -> ServiceStatus:
    """`released` is the digest of the current release's image. Without metrics, ECS's own counts of tasks."""
    digest = _digest(definition.image) if definition else None
    runs_release = released == digest if released and digest else None
    rollout = state.primary.rollout if state and state.primary else None
    known = counts or ServiceCounts(datetime.min)
    return ServiceStatus(
        service.name,
        at=counts.at if counts else None,
        desired=_first(known.desired, state.desired if state else None),
        running=_first(known.running, state.running if state else None),
        pending=_first(known.pending, state.pending if state else None),
        protected=known.protected,
        consumers=known.consumers,
        backlog_per_task=known.backlog_per_task,
        rollout=rollout or None,
        digest=digest,
        runs_release=runs_release,
    )


def schedule_status(
    schedule: Schedule, settings: ScheduleSettings | None, invocations: Sequence[DataPoint]
) -> ScheduleStatus:
    """`invocations` are those of its target."""
    runs = [point.at for point in invocations if point.value > 0]
    return ScheduleStatus(
        schedule.name,
        settings.expression if settings else None,
        settings.is_enabled if settings else None,
        runs[-1] if runs else None,
    )


def silence(service: Service, counts: ServiceCounts | None, now: datetime) -> Iterator[str]:
    """The problem of a service whose newest metrics, if there are any, are too old."""
    if counts is not None and now - counts.at <= SILENT:
        return
    minutes = round((WINDOW if counts is None else now - counts.at).total_seconds() / 60)
    known = "are unknown" if counts is None else "are shown as of the last metrics"
    yield (
        f"no metrics of service {service.name} for {minutes} minutes: its autoscaler does not publish; "
        f"its queue and DLQ {known}"
    )


def _digest(image: str) -> str | None:
    try:
        return ImageReference.parse(image).digest
    except UsageError:  # ECS accepts any text
        return None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
