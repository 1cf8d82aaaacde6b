"""The status of a pipeline's stages as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from refinerctl.aws.alarms import Alarm


@dataclass(frozen=True)
class QueueStatus:
    """A queue's counts. `oldest_age_s` None: the queue is empty, or CloudWatch has no value."""

    name: str
    visible: int
    in_flight: int
    delayed: int
    oldest_age_s: float | None = None


@dataclass(frozen=True)
class DlqStatus:
    """A dead-letter queue. Its oldest message expires within `expires_in_s`; None if unknown."""

    name: str
    depth: int
    oldest_age_s: float | None = None
    expires_in_s: float | None = None


@dataclass(frozen=True)
class FunctionStatus:
    """A function's last hour; None if CloudWatch has no value. Durations in milliseconds.

    `runs_release`: whether it runs the digest of the current release; None if one of the two is unknown.
    """

    name: str
    state: str | None = None
    digest: str | None = None
    runs_release: bool | None = None
    invocations: int | None = None
    errors: int | None = None
    throttles: int | None = None
    duration_p50_ms: float | None = None
    duration_p95_ms: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True)
class ServiceStatus:
    """A service with its tasks, as its autoscaler published them at `at`; None if it published nothing lately.

    `consumers` are those of its queue. `rollout` is ECS's word for its deployment. `runs_release`: whether it starts
    tasks of the current release's digest; None if one of the two is unknown.
    """

    name: str
    at: datetime | None = None
    desired: int | None = None
    running: int | None = None
    pending: int | None = None
    protected: int | None = None
    consumers: int | None = None
    backlog_per_task: float | None = None
    rollout: str | None = None
    digest: str | None = None
    runs_release: bool | None = None


@dataclass(frozen=True)
class ScheduleStatus:
    """A schedule. `last_run` is the start of the last five minutes in which it started its target; None: not lately."""

    name: str
    expression: str | None = None
    is_enabled: bool | None = None
    last_run: datetime | None = None


@dataclass(frozen=True)
class LastCompletion:
    """The newest completion. `key` None: only the minute is known, from the metrics of the queue."""

    at: datetime
    key: str | None = None


@dataclass(frozen=True)
class InputsStatus:
    """Of `counted` inputs, `incomplete` have no completion; of these at least `without_message` have no message either.

    Recent inputs do not count as incomplete. `without_message` None: the stage's queues could not be read.
    `all_counted` False: there are more inputs than were counted.
    """

    counted: int
    incomplete: int
    without_message: int | None
    all_counted: bool = True


@dataclass(frozen=True)
class StageStatus:
    """One stage. None: the stage has no such component, or it could not be read.

    `problems` is what is known to be wrong; `unread` has the reasons why components could not be read, by the field of
    the component. A function that could not be read has only a name.
    """

    name: str
    prefix: str | None = None
    queue: QueueStatus | None = None
    dlq: DlqStatus | None = None
    delivery_dlq: DlqStatus | None = None
    function: FunctionStatus | None = None
    last_completion: LastCompletion | None = None
    inputs: InputsStatus | None = None
    problems: tuple[str, ...] = ()
    service: ServiceStatus | None = None
    schedule: ScheduleStatus | None = None
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineStatus:
    """All stages at one time (UTC). `release` is the tag of the current release; `is_released`: there is a release.

    `alarms` are those of the whole pipeline that are in state ALARM. `problems` says why data about several stages
    could not be read. `shared_dlqs` are the DLQs of rules that all stages share.
    """

    at: datetime
    stages: tuple[StageStatus, ...]
    release: str | None = None
    is_released: bool = False
    alarms: tuple[Alarm, ...] = ()
    problems: tuple[str, ...] = ()
    shared_dlqs: tuple[DlqStatus, ...] = ()
