"""An account in memory, and the app that reads it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

from refinerctl.app import AppContext
from refinerctl.aws.alarms import Alarm
from refinerctl.aws.ecs_services import Services, ServiceState, Task, TaskDefinition
from refinerctl.aws.events import EventBuses, RuleSettings, ScheduleSettings
from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.metrics import DataPoint, Metric, Metrics, Name
from refinerctl.aws.sqs import QueueState
from refinerctl.config import GlobalFlags
from refinerctl.errors import NotFoundError, RefinerctlError, TransientError
from refinerctl.ledger.entries import Release
from refinerctl.rabbitmq.management import Management
from refinerctl.stacks.base import (
    Broker,
    CompletionPlace,
    EventRule,
    Function,
    Pipeline,
    Queue,
    Schedule,
    Stack,
    Stage,
    Storage,
)
from refinerctl.stacks.refiner import STACK
from tests.unit.fakes import START, FakeBucket, FakeFunctions, FakeLogGroups, FakeQueues

DIGEST = f"sha256:{'a' * 64}"
STORAGE = Storage("data-repository", "RefinerInput/", "RefinerOutput/", "RefinerComplete/")


def stage_of(name: str, prefix: str | None = None, *, has_function: bool = True) -> Stage:
    """A stage as stack `refiner` has them."""
    base = f"x-{name}"
    rule = EventRule(base, "bus", prefix or f"{name}/", dlq=Queue(f"{base}-delivery-dlq"))
    function = Function(base) if has_function else None
    place = CompletionPlace("RefinerComplete/", ".json") if has_function else None
    return Stage(name, rule, Queue(base, dlq=Queue(f"{base}-dlq")), function, completions=place)


# A stack of another shape: a schedule starts a function; a queue with a DLQ has no function; nothing is kept in S3.
TINY_STAGES = (
    Stage("tick", Schedule("tick"), consumer=Function("tick")),
    Stage("jobs", queue=Queue("jobs", dlq=Queue("jobs-dlq"))),
)
TINY = Stack("tiny", pipeline=lambda _settings, _values: Pipeline("", TINY_STAGES))


class FakeMetrics(Metrics):
    """Metrics by component's name and metric's name; keeps what was asked for."""

    def __init__(self) -> None:
        self.points: dict[tuple[str, str], tuple[DataPoint, ...]] = {}
        self.requests: list[Mapping[Any, Metric]] = []
        self.error: RefinerctlError | None = None

    def set(self, of: str, name: str, *values: float) -> None:
        """One value for each of the last minutes."""
        points = (DataPoint(START - timedelta(minutes=len(values) - n), value) for n, value in enumerate(values))
        self.points[of, name] = tuple(points)

    def read(
        self, wanted: Mapping[Name, Metric], since: datetime, until: datetime
    ) -> dict[Name, tuple[DataPoint, ...]]:
        if self.error:
            raise self.error
        self.requests.append(wanted)
        return {key: self.points.get((metric.of, metric.name), ()) for key, metric in wanted.items()}


@dataclass
class FakeAlarms:
    alarms: tuple[Alarm, ...] = ()
    error: RefinerctlError | None = None

    def find(self, prefix: str, state: str | None = None) -> tuple[Alarm, ...]:
        if self.error:
            raise self.error
        return tuple(alarm for alarm in self.alarms if alarm.name.startswith(prefix) and state in (None, alarm.state))


@dataclass
class FakeLedger:
    releases: tuple[Release, ...] = ()

    def read(self) -> tuple[Release, ...]:
        return self.releases


class FakeSchedules(EventBuses):
    """Schedules of an account; one that is not known does not exist."""

    def __init__(self) -> None:
        self.known: dict[str, ScheduleSettings] = {}
        self.known_rules: dict[str, bool] = {}  # whether each is enabled; on any bus

    def rules(self, bus: str) -> tuple[RuleSettings, ...]:
        return tuple(RuleSettings(name, "arn", "", is_enabled) for name, is_enabled in self.known_rules.items())

    def schedule(self, group: str, name: str) -> ScheduleSettings:
        if name not in self.known:
            raise NotFoundError(f"schedule {group}/{name} does not exist")
        return self.known[name]


class FakeServices(Services):
    """Services of an account with their task definitions; one that is not known does not exist."""

    def __init__(self) -> None:
        self.known: dict[str, ServiceState] = {}
        self.definitions: dict[str, TaskDefinition] = {}
        self.running: tuple[Task, ...] = ()

    def tasks(self, cluster: str, service: str) -> tuple[Task, ...]:
        return self.running

    def get(self, cluster: str, name: str) -> ServiceState:
        if name not in self.known:
            raise NotFoundError(f"service {name} of cluster {cluster} does not exist")
        return self.known[name]

    def definition(self, arn: str, container: str) -> TaskDefinition:
        return self.definitions[arn]


@dataclass
class Account:
    """What is deployed for `stages`, empty at first."""

    stages: tuple[Stage, ...]
    stack: Stack = STACK
    queues: FakeQueues = field(default_factory=FakeQueues)
    functions: FakeFunctions = field(default_factory=FakeFunctions)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    bucket: FakeBucket = field(default_factory=FakeBucket)
    logs: FakeLogGroups = field(default_factory=FakeLogGroups)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    alarms: FakeAlarms = field(default_factory=FakeAlarms)
    shared: tuple[Any, ...] = ()
    shared_edges: tuple[tuple[Any, Any], ...] = ()
    schedules: FakeSchedules = field(default_factory=FakeSchedules)
    services: FakeServices = field(default_factory=FakeServices)

    def __post_init__(self) -> None:
        pipeline = Pipeline("x", self.stages, self.shared)
        self.queues.messages |= {queue.name: [] for queue in pipeline.by_kind(Queue) if queue.broker is None}
        self.schedules.known_rules |= {rule.name: True for rule in pipeline.by_kind(EventRule)}
        for schedule in pipeline.by_kind(Schedule):
            self.schedules.known[schedule.name] = ScheduleSettings(
                schedule.name, "arn", "rate(5 minutes)", is_enabled=True, target_arn="arn"
            )
        for function in pipeline.by_kind(Function):
            image = f"r@{DIGEST}"
            self.functions.known[function.name] = FunctionConfiguration(
                function.name, "arn", image_uri=image, timeout_s=60
            )

    def set_counts(self, name: str, visible: int = 0, in_flight: int = 0) -> None:
        self.queues.states[name] = QueueState(
            name, "", 60, 1209600, max_receive_count=5, visible=visible, in_flight=in_flight
        )

    @property
    def app(self) -> AppContext:
        app = AppContext(GlobalFlags())
        app.stack, app.pipeline = self.stack, Pipeline("x", self.stages, self.shared, self.shared_edges)
        app.queues, app.functions, app.metrics, app.log_groups = self.queues, self.functions, self.metrics, self.logs
        app.ledger, app.alarms = self.ledger, self.alarms  # type: ignore[assignment]
        app.session = SimpleNamespace(region="us-east-1")  # type: ignore[assignment]
        app.event_buses, app.services = self.schedules, self.services
        app.broker = _unreachable  # type: ignore[method-assign]
        if self.stack.storage is not None:
            app.storage, app.bucket = STORAGE, self.bucket
        return app


def _unreachable(component: Broker) -> Management:
    raise TransientError(f"broker {component.name} cannot be reached", hint="Forward a port.")


class Rounds:
    """Lets calls through only when so many of them wait: so many are in flight at the same time."""

    def __init__(self, *sizes: int) -> None:
        self._barriers = [threading.Barrier(size, timeout=20) for size in sizes]
        self.calls = [0] * len(sizes)

    def of(self, client: object, **rounds: int) -> Any:
        """The client's methods of these names, which wait in these rounds."""

        def call(name: str, *arguments: Any) -> Any:
            self.calls[rounds[name]] += 1
            self._barriers[rounds[name]].wait()
            return getattr(client, name)(*arguments)

        return SimpleNamespace(**{name: partial(call, name) for name in rounds})
