"""A task of the local environment: the process or container of its image, and how ECS describes it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from refinerctl.errors import RefinerctlError
from refinerctl.local.execution import Child, OnLine

# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
DEFAULT_STOP_SECONDS = 30
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateTaskProtection.html
DEFAULT_PROTECTION_MINUTES, MAX_PROTECTION_MINUTES = 120, 2880
# A task that lived for so long has started: an old one may be stopped in exchange.
STEADY_SECONDS = 2.0


@dataclass(frozen=True)
class Container:
    """A container of a task: `command` empty is the image's own."""

    image: str
    command: tuple[str, ...]
    memory_mb: int


class StoppableChild(Child, Protocol):
    """A child that can be asked to end."""

    def terminate(self) -> None:
        """Send it SIGTERM."""


class TaskEngine(Protocol):
    """Starts the code behind a task."""

    def start_container(self, container: Container, environment: dict[str, str], on_line: OnLine) -> StoppableChild:
        """Start an image's command with `environment`. Raises RefinerctlError if it cannot be started."""


@dataclass(frozen=True)
class LocalTaskDefinition:
    """What the agent uses of a task definition; `log_group` None: its output is only in the log file."""

    arn: str
    name: str
    container: Container
    environment: dict[str, str]
    stop_seconds: int = DEFAULT_STOP_SECONDS
    log_group: str | None = None
    log_prefix: str = "ecs"


def task_definition(answer: Any) -> LocalTaskDefinition:
    """The `taskDefinition` of ECS's answer. Raises RefinerctlError if the local environment cannot run it."""
    arn, containers = answer["taskDefinitionArn"], answer["containerDefinitions"]
    if len(containers) != 1 or containers[0].get("secrets"):
        raise RefinerctlError(
            f"task definition {arn.rpartition('/')[2]} has several containers or secrets as environment variables",
            hint="The local environment runs tasks of one container without those.",
        )
    (given,) = containers
    logs = (given.get("logConfiguration") or {}).get("options") or {}
    return LocalTaskDefinition(
        arn,
        given["name"],
        Container(
            given["image"],
            (*given.get("entryPoint", ()), *given.get("command", ())),
            int(given.get("memory") or answer.get("memory") or 512),
        ),
        {item["name"]: item["value"] for item in given.get("environment", ())},
        int(given.get("stopTimeout") or DEFAULT_STOP_SECONDS),
        logs.get("awslogs-group"),
        logs.get("awslogs-stream-prefix", "ecs"),
    )


@dataclass(eq=False)
class EcsTask:
    """A task from its start until some time after its end. `deployment` is the id of the one that started it."""

    arn: str
    cluster_arn: str
    service_name: str
    deployment: str
    definition: LocalTaskDefinition
    child: StoppableChild | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    stopping_at: datetime | None = None
    stopped_at: datetime | None = None
    reason: str = ""
    ended: str = ""
    _started: float = field(default_factory=time.monotonic)
    _kill_at: float = 0.0
    _protected_until: datetime | None = None

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def group(self) -> str:
        return f"service:{self.service_name}"

    @property
    def active(self) -> bool:
        """Whether it runs and is to go on."""
        return self.stopping_at is None and self.stopped_at is None

    @property
    def failed(self) -> bool:
        """Whether it ended by itself."""
        return self.stopped_at is not None and self.stopping_at is None

    @property
    def lived_s(self) -> float:
        return time.monotonic() - self._started

    @property
    def steady(self) -> bool:
        return self.lived_s > STEADY_SECONDS

    @property
    def protected_until(self) -> datetime | None:
        """When its protection expires; None if it is not protected."""
        until = self._protected_until
        return until if until is not None and until > datetime.now(UTC) else None

    def protect(self, enabled: bool, minutes: int | None = None) -> None:
        until = datetime.now(UTC) + timedelta(minutes=minutes or DEFAULT_PROTECTION_MINUTES)
        self._protected_until = until if enabled else None

    def stop(self, reason: str) -> None:
        """Send SIGTERM; `end_if_due` kills it after the stop timeout."""
        if self.active and self.child is not None:
            self.stopping_at, self.reason = datetime.now(UTC), reason
            self._kill_at = time.monotonic() + self.definition.stop_seconds
            self.child.terminate()

    def end_if_due(self) -> bool:
        """Whether it has ended now: by itself, or killed because the stop timeout has passed."""
        if self.child is None or self.stopped_at is not None:
            return False
        if self.stopping_at is not None and time.monotonic() > self._kill_at:
            self.child.kill()
        reason = self.child.ended()
        if reason is None:
            return False
        self.child.kill()  # what it started ends with it, as with its container
        self.fail(reason)
        return True

    def fail(self, ended: str) -> None:
        """It ended, or was not started, for this reason."""
        self.ended, self.stopped_at = ended, datetime.now(UTC)
        self.reason = self.reason or "Essential container in task exited"

    @property
    def status(self) -> str:
        """ECS's word for its lastStatus."""
        if self.stopped_at is not None:
            return "STOPPED"
        return "RUNNING" if self.stopping_at is None else "STOPPING"

    def describe(self) -> dict[str, Any]:
        """As DescribeTasks answers."""
        container: dict[str, Any] = {
            "name": self.definition.name,
            "image": self.definition.container.image,
            "taskArn": self.arn,
            "lastStatus": self.status,
        }
        if self.stopped_at is not None:
            code = re.fullmatch(r"exit status (\d+)", self.ended)
            container |= {"exitCode": int(code[1])} if code else {"reason": self.ended}
        times = {
            "createdAt": self.created_at,
            "startedAt": self.created_at,
            "stoppingAt": self.stopping_at,
            "stoppedAt": self.stopped_at,
        }
        return {
            "taskArn": self.arn,
            "clusterArn": self.cluster_arn,
            "taskDefinitionArn": self.definition.arn,
            "group": self.group,
            "startedBy": self.deployment,
            "launchType": "FARGATE",
            "lastStatus": self.status,
            "desiredStatus": "RUNNING" if self.active else "STOPPED",
            "containers": [container],
            **{name: at.timestamp() for name, at in times.items() if at is not None},
            **({"stoppedReason": self.reason} if self.reason else {}),
        }

    def metadata(self) -> dict[str, Any]:
        """As the task metadata endpoint answers, version 4."""
        family, _, revision = self.definition.arn.rpartition("/")[2].partition(":")
        states = {"DesiredStatus": "RUNNING" if self.active else "STOPPED", "KnownStatus": self.status}
        container = {"DockerId": self.id, "Name": self.definition.name, "Image": self.definition.container.image}
        return {
            "Cluster": self.cluster_arn,
            "ServiceName": self.service_name,
            "TaskARN": self.arn,
            "Family": family,
            "Revision": revision,
            "LaunchType": "FARGATE",
            "Containers": [{**container, **states, "Type": "NORMAL"}],
            **states,
        }
