"""The metrics of an ECS service that consumes a queue of a private broker, as its autoscaler publishes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from refinerctl.aws.metrics import DataPoint, Metric, Metrics
from refinerctl.stacks.base import Service

DIMENSION = "Service"
# They are published every minute, and CloudWatch may have them minutes later. Older ones say nothing about now.
WINDOW = timedelta(minutes=15)
# An autoscaler that has published nothing for so long fails, or does not run.
SILENT = timedelta(minutes=5)

_NAMES = {
    "ready": "Ready",
    "unacknowledged": "Unacknowledged",
    "consumers": "Consumers",
    "desired": "Desired",
    "running": "Running",
    "pending": "Pending",
    "protected": "Protected",
    "dlq_messages": "DlqMessages",
    "backlog_per_task": "BacklogPerTask",
    "backlog_age_s": "BacklogAge",
}


@dataclass(frozen=True)
class ServiceCounts:
    """The newest value of each metric, None without one; `at` is the minute of the newest (UTC)."""

    at: datetime
    ready: int | None = None
    unacknowledged: int | None = None
    consumers: int | None = None
    desired: int | None = None
    running: int | None = None
    pending: int | None = None
    protected: int | None = None
    dlq_messages: int | None = None
    backlog_per_task: float | None = None
    backlog_age_s: float | None = None

    @property
    def messages(self) -> int | None:
        """In the queue and in its DLQ; None if one of the counts is not known."""
        counts = (self.ready, self.unacknowledged, self.dlq_messages)
        return None if None in counts else sum(count or 0 for count in counts)


def wanted_metrics(services: Iterable[Service]) -> dict[tuple[Service, str], Metric]:
    """What to read, by service and name of the count; nothing of a service that publishes none."""
    return {
        (service, name): Metric(service.metric_namespace, metric, DIMENSION, service.name, "Maximum")
        for service in services
        if service.metric_namespace
        for name, metric in _NAMES.items()
    }


def counts_of(service: Service, points: Mapping[tuple[Service, str], tuple[DataPoint, ...]]) -> ServiceCounts | None:
    """The newest counts of a service; None if it has no metric in the window."""
    newest = {name: found[-1] for name in _NAMES if (found := points.get((service, name), ()))}
    if not newest:
        return None
    values = {name: point.value for name, point in newest.items()}
    floats = {name: values.pop(name, None) for name in ("backlog_per_task", "backlog_age_s")}
    counts = {name: round(value) for name, value in values.items()}
    return ServiceCounts(max(point.at for point in newest.values()), **counts, **floats)  # type: ignore[arg-type]


def read_counts(metrics: Metrics, service: Service, now: datetime) -> ServiceCounts | None:
    """The newest counts of one service; None if there are none in the last minutes."""
    return counts_of(service, metrics.read(wanted_metrics([service]), now - WINDOW, now))
