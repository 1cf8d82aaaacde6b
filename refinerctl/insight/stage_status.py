"""The status of each stage: its queues, its consumer, its last completion and its release, read at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from refinerctl.aws.alarms import Alarm, alarms_of
from refinerctl.aws.messages import expires_in_s, waited_s
from refinerctl.aws.metrics import DataPoint, Metric
from refinerctl.aws.service_metrics import WINDOW, ServiceCounts, counts_of, wanted_metrics
from refinerctl.images import ImageReference
from refinerctl.inputs.completions import completions_of
from refinerctl.inputs.listing import InputCount, count_incomplete
from refinerctl.insight.service_status import (
    broker_dlq_status,
    queue_status,
    schedule_status,
    service_status,
    silence,
)
from refinerctl.insight.status_model import (
    DlqStatus,
    FunctionStatus,
    InputsStatus,
    LastCompletion,
    PipelineStatus,
    QueueStatus,
    ScheduleStatus,
    ServiceStatus,
    StageStatus,
)
from refinerctl.insight.wiring_status import MAPPINGS, is_mapped, rules_of, stopped
from refinerctl.parallel import Answer, attempt, concurrently
from refinerctl.stacks.base import Component, EventRule, Function, Queue, Schedule, Service, Stage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.lambda_ import FunctionConfiguration
    from refinerctl.aws.s3 import ObjectInfo
    from refinerctl.aws.sqs import QueueState
    from refinerctl.ledger.entries import Release

THREADS = 32
HOUR = timedelta(hours=1)
# SQS sends the age of the oldest message every minute, CloudWatch has it a few minutes later; older ages are stale.
AGES = timedelta(minutes=15)
# With more completions than this, the newest is not searched: a status does not list a whole bucket.
MAX_COMPLETIONS = 3000
# Calls to count the incomplete inputs of a stage: some 5,000 inputs with their completions.
INPUT_PAGES = 10
# SQS deletes a message soon after its completion was written.
SAME_INPUT = timedelta(minutes=2)
# A completion's key does not contain its stage: look up the inputs that it may belong to, at most so many.
MAX_HEADS = 64

# Periods of five minutes add up to the hour wherever CloudWatch lets them begin; percentiles do not add up.
_FUNCTION_METRICS = (
    ("invocations", "Invocations", "Sum", 300),
    ("errors", "Errors", "Sum", 300),
    ("throttles", "Throttles", "Sum", 300),
    ("p50", "Duration", "p50", 3600),
    ("p95", "Duration", "p95", 3600),
    ("concurrency", "ConcurrentExecutions", "Maximum", 300),
)
MetricKey = tuple[Component, str]
Calls = dict[object, Callable[[], Any]]


def read_status(app: AppContext, stages: Sequence[Stage], now: datetime) -> PipelineStatus:
    """Read everything in three rounds, each with all its calls at the same time. Receives no message.

    What cannot be read is among the problems. Raises RefinerctlError if nothing can be read.
    """
    reading = _Reading(app, stages, now)
    reading.ask(reading.first_round())
    reading.ask(reading.second_round())
    reading.ask(reading.third_round())
    release = reading.release
    return PipelineStatus(
        at=now,
        stages=tuple(reading.stage(stage) for stage in stages),
        release=release.tag if release else None,
        is_released=release is not None,
        alarms=reading.alarms,
        problems=reading.shared_problems(),
        shared_dlqs=reading.shared_dlqs,
    )


class _Reading:
    """The answers so far, by what they are about: a component, or a name of what all stages share."""

    def __init__(self, app: AppContext, stages: Sequence[Stage], now: datetime) -> None:
        self._app = app
        self._stages = stages
        self._now = now
        components = dict.fromkeys(item for stage in stages for item in stage.components)
        self._queues = [item for item in components if isinstance(item, Queue) and item.broker is None]
        self._services = [item for item in components if isinstance(item, Service)]
        self._schedules = [item for item in components if isinstance(item, Schedule)]
        self._functions = [item for item in components if isinstance(item, Function)]
        self._writers = [stage for stage in stages if _writes_completions(stage)]
        self._shared_rules = [item for item in app.pipeline.shared if isinstance(item, EventRule)]
        self._shared_dlqs = [rule.dlq for rule in self._shared_rules if rule.dlq is not None and self._writers]
        self._buses = {item.bus for item in (*self._shared_rules, *components) if isinstance(item, EventRule)}
        self._is_only_writer = sum(map(_writes_completions, app.pipeline.stages)) == 1
        self._answers: dict[object, Answer[Any]] = {}

    def ask(self, calls: Calls) -> None:
        answers = concurrently([partial(attempt, call) for call in calls.values()], THREADS)
        self._answers.update(zip(calls, answers, strict=True))

    def first_round(self) -> Calls:
        app = self._app
        minute = self._now.replace(second=0, microsecond=0)  # periods begin with the request; this minute is not over
        age = "ApproximateAgeOfOldestMessage"
        ages = {(queue, "age"): _of_queue(queue, age, "Maximum") for queue in (*self._queues, *self._shared_dlqs)}
        calls: Calls = {
            "metrics": partial(app.metrics.read, dict(self._hourly_metrics()), minute - HOUR, minute),
            "metrics of ages": partial(app.metrics.read, ages, self._now - AGES, self._now),
            "alarms": partial(app.alarms.find, app.pipeline.name_prefix, "ALARM"),
        }
        if app.settings.layout.is_project:
            calls["ledger"] = lambda: app.ledger.read()  # without a backend there is none
        if any(map(is_mapped, self._stages)):
            calls[MAPPINGS] = app.functions.all_mappings
        calls |= {rules_of(bus): partial(app.event_buses.rules, bus) for bus in self._buses}
        if wanted := wanted_metrics(self._services):
            calls["metrics of services"] = partial(app.metrics.read, wanted, self._now - WINDOW, self._now)
        calls |= {item: partial(app.services.get, item.cluster, item.name) for item in self._services}
        calls |= {item: partial(app.event_buses.schedule, item.group, item.name) for item in self._schedules}
        if self._has_completions and 0 < len(self._writers) <= MAX_HEADS // 2:
            calls["completions"] = partial(_newest_completions, app)
        if prefix := os.path.commonprefix([queue.name for queue in self._queues]):  # noqa: RUF071 - names, no paths
            calls["urls"] = partial(app.queues.find, prefix)  # saves a call for each queue
        return calls | {function: partial(app.functions.get, function.name) for function in self._functions}

    def second_round(self) -> Calls:
        """The queues, and the inputs that the newest completions may be of, unless only one stage writes any."""
        queues = [*self._queues, *self._shared_dlqs]
        calls: Calls = {queue: partial(self._app.queues.state, queue.name) for queue in queues}
        for item in self._services:
            if state := self._value(item):
                definition = partial(self._app.services.definition, state.task_definition, item.container)
                calls["definition", item] = definition
        if self._writers and not self._is_only_writer:
            for info in self._completions[: MAX_HEADS // len(self._writers) // 2]:
                for stage in self._writers:
                    calls |= {key: partial(self._app.bucket.head, key) for key in self._inputs_of(info.key, stage)}
        return calls

    def third_round(self) -> Calls:
        """The inputs, after the queues: a message that is processed meanwhile is not missing in both."""
        if not self._has_completions:
            return {}
        completions, now = completions_of(self._app), self._now
        return {
            ("inputs", stage): partial(count_incomplete, completions, stage.prefix or "", now, INPUT_PAGES)
            for stage in self._writers
        }

    @property
    def _has_completions(self) -> bool:
        return self._app.stack.storage is not None and self._app.stack.completion_keys is not None

    def shared_problems(self) -> tuple[str, ...]:
        """Raises RefinerctlError if there are only errors."""
        errors = [answer.error for subject, answer in self._answers.items() if subject != "urls"]
        if all(errors) and errors[0]:
            raise errors[0]
        shared = ("metrics", "metrics of ages", "metrics of services", "alarms", "completions", "ledger")
        found = [(name.partition(" of ")[0], self._answers.get(name)) for name in (*shared, MAPPINGS)]
        found += [("inputs", self._answers.get(("inputs", stage))) for stage in self._writers]
        shared_parts = {"rules": map(rules_of, self._buses), "queues": self._shared_dlqs}
        answers = [(title, self._answers[part]) for title, parts in shared_parts.items() for part in parts]
        found += [(title, answer) for title, answer in answers if not answer.not_found]
        return tuple(dict.fromkeys(f"{title}: {item.error.message}" for title, item in found if item and item.error))

    @property
    def shared_dlqs(self) -> tuple[DlqStatus, ...]:
        return tuple(dlq for queue in self._shared_dlqs if (dlq := self._sqs_dlq(queue, 0.0)))

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        return alarms_of(self._app.pipeline, self._value("alarms") or ())

    @property
    def release(self) -> Release | None:
        from refinerctl.ledger.entries import deployed

        return deployed(self._value("ledger") or ())

    def stage(self, stage: Stage) -> StageStatus:
        source: QueueState | None = self._value(stage.queue)
        waited = waited_s(source.max_receive_count, source.visibility_timeout_s) if source else 0.0
        return StageStatus(
            stage.name,
            stage.prefix,
            queue=self._queue(stage),
            dlq=self._dlq(stage, waited),
            delivery_dlq=self._sqs_dlq(stage.delivery_dlq, 0.0),
            function=self._function(stage),
            last_completion=self._last_completion(stage),
            inputs=self._inputs(stage),
            problems=tuple(self._problems(stage)),
            service=self._service(stage),
            schedule=self._schedule(stage),
            unread=self._unread(stage),
        )

    def _problems(self, stage: Stage) -> Iterator[str]:
        """What is known to be wrong with a stage."""
        answers = [self._answers[item] for item in stage.components if item in self._answers]
        if answers and all(answer.not_found for answer in answers):
            yield self._not_deployed()
            return
        yield from (answer.error.message for answer in answers if answer.error and answer.not_found)
        yield from stopped(stage, self._shared_rules, self._answers)
        if stage.service and self._value("metrics of services") is not None:
            yield from silence(stage.service, self._counts(stage), self._now)

    def _not_deployed(self) -> str:
        """The problem of a stage without any component, with the region of its tfvars if that is another one."""
        region, own = self._app.session.region, self._app.values.get("region")
        elsewhere = f"; its tfvars have region {own}" if own and own != region else ""
        return f"it is not deployed in {region}{elsewhere}"

    def _unread(self, stage: Stage) -> dict[str, str]:
        """The reasons why components could not be read, by the name of their field in StageStatus."""
        parts = {
            "queue": stage.queue,
            "dlq": stage.dlq,
            "delivery_dlq": stage.delivery_dlq,
            "function": stage.function,
            "service": stage.service,
            "schedule": stage.source,
        }
        answers = {part: self._answers[item] for part, item in parts.items() if item in self._answers}
        return {part: answer.error.message for part, answer in answers.items() if answer.error and not answer.not_found}

    def _queue(self, stage: Stage) -> QueueStatus | None:
        if stage.queue and stage.queue.broker:
            return queue_status(stage.queue, self._counts(stage))
        queue, state = stage.queue, self._value(stage.queue)
        if state is None:
            return None
        return QueueStatus(state.name, state.visible, state.in_flight, state.delayed, self._age_s(queue, state))

    def _dlq(self, stage: Stage, waited: float) -> DlqStatus | None:
        if stage.dlq and stage.dlq.broker:
            return broker_dlq_status(stage.dlq, self._counts(stage))
        return self._sqs_dlq(stage.dlq, waited)

    def _counts(self, stage: Stage) -> ServiceCounts | None:
        """What its consumer's autoscaler has published."""
        return counts_of(stage.service, self._value("metrics of services") or {}) if stage.service else None

    def _service(self, stage: Stage) -> ServiceStatus | None:
        service = stage.service
        if service is None or self._answers[service].not_found:
            return None
        definition = self._value(("definition", service))
        return service_status(service, self._counts(stage), self._value(service), definition, self._released(stage))

    def _schedule(self, stage: Stage) -> ScheduleStatus | None:
        source = stage.source
        if not isinstance(source, Schedule) or self._answers[source].not_found:
            return None
        invocations = self._points(stage.function, "invocations")
        return schedule_status(source, self._value(source), invocations)

    def _released(self, stage: Stage) -> str | None:
        """The digest of the stage's image in the current release."""
        recorded = self.release.images.get(stage.name) if self.release else None
        return ImageReference.parse(recorded).digest if recorded else None

    def _sqs_dlq(self, queue: Queue | None, waited: float) -> DlqStatus | None:
        state: QueueState | None = self._value(queue)
        if state is None:
            return None
        age = self._age_s(queue, state)
        expires = None if age is None else expires_in_s(state.retention_s, age, waited)
        return DlqStatus(state.name, state.total, age, expires)

    def _age_s(self, queue: Queue | None, state: QueueState) -> float | None:
        """An empty queue has no oldest message, whatever the metric said a minute ago."""
        points = self._points(queue, "age")
        return points[-1].value if points and state.total else None

    def _function(self, stage: Stage) -> FunctionStatus | None:
        """The metrics of a function may be readable even if the function is not."""
        function = stage.function
        if function is None or self._answers[function].not_found:
            return None
        found: FunctionConfiguration | None = self._value(function)
        digest = found.digest if found else None
        released = self._released(stage)
        concurrency = self._worst(function, "concurrency")
        return FunctionStatus(
            function.name,
            state=found.state if found else None,
            digest=digest,
            runs_release=released == digest if released and digest else None,
            invocations=self._total(function, "invocations"),
            errors=self._total(function, "errors"),
            throttles=self._total(function, "throttles"),
            duration_p50_ms=self._worst(function, "p50"),
            duration_p95_ms=self._worst(function, "p95"),
            concurrency=None if concurrency is None else round(concurrency),
        )

    def _inputs(self, stage: Stage) -> InputsStatus | None:
        found: InputCount | None = self._value(("inputs", stage))
        if found is None:
            return None
        queues = (*stage.sqs_queues, *self._shared_dlqs)  # an event that was not forwarded is in a shared DLQ
        states: list[QueueState | None] = [self._value(queue) for queue in queues]
        messages = [state.total if state else None for state in states]
        if stage.queue and stage.queue.broker:
            counts = self._counts(stage)
            messages.append(counts.messages if counts else None)
        known = [count for count in messages if count is not None]
        left = found.without_message(sum(known)) if len(known) == len(messages) else None
        return InputsStatus(found.counted, found.incomplete, left, found.all_counted)

    def _last_completion(self, stage: Stage) -> LastCompletion | None:
        if stage.consumer is None:
            return None
        done = [point.at for point in self._points(stage.queue, "processed") if point.value > 0]
        for info in self._completions if _writes_completions(stage) else ():
            if self._is_only_writer:
                return LastCompletion(info.last_modified, info.key)
            if any(self._value(key) for key in self._inputs_of(info.key, stage)):
                if done and done[-1] > info.last_modified + SAME_INPUT:
                    break  # there is a newer completion, whose input does not exist any more
                return LastCompletion(info.last_modified, info.key)
        return LastCompletion(done[-1]) if done else None

    @property
    def _completions(self) -> list[ObjectInfo]:
        return self._value("completions") or []

    def _inputs_of(self, completion_key: str, stage: Stage) -> list[str]:
        """The keys of this stage that it may be the completion of: with or without an added suffix."""
        place = stage.completions
        if place is None or not place.holds(completion_key):
            return []
        below = completion_key.removeprefix(place.prefix)
        names = dict.fromkeys((below.removesuffix(place.suffix), below))
        return [f"{stage.prefix or ''}{name}" for name in names if name]

    def _hourly_metrics(self) -> Iterator[tuple[MetricKey, Metric]]:
        """Seven of each stage: those of fifty stages fit into one call."""
        for stage in self._stages:
            if stage.queue is not None and stage.queue.broker is None:
                yield (stage.queue, "processed"), _of_queue(stage.queue, "NumberOfMessagesDeleted", "Sum")
        for function in self._functions:
            for name, metric, statistic, period_s in _FUNCTION_METRICS:
                found = Metric("AWS/Lambda", metric, "FunctionName", function.name, statistic, period_s)
                yield (function, name), found

    def _value(self, subject: object) -> Any:
        answer = self._answers.get(subject)
        return answer.value if answer else None

    def _points(self, component: Component | None, name: str) -> tuple[DataPoint, ...]:
        found: dict[tuple[object, str], tuple[DataPoint, ...]]
        found = self._value("metrics of ages" if name == "age" else "metrics") or {}
        return found.get((component, name), ())

    def _total(self, component: Component, name: str) -> int | None:
        points = self._points(component, name)
        return round(sum(point.value for point in points)) if points else None

    def _worst(self, component: Component, name: str) -> float | None:
        """CloudWatch may split the last hour in two."""
        return max((point.value for point in self._points(component, name)), default=None)


def _writes_completions(stage: Stage) -> bool:
    return stage.consumer is not None and stage.prefix is not None


def _newest_completions(app: AppContext) -> list[ObjectInfo]:
    """Newest first; none if there are too many to tell."""
    found = list(islice(completions_of(app).since(None), MAX_COMPLETIONS + 1))
    return sorted(found, key=lambda info: info.last_modified, reverse=True) if len(found) <= MAX_COMPLETIONS else []


def _of_queue(queue: Queue, name: str, statistic: str) -> Metric:
    return Metric("AWS/SQS", name, "QueueName", queue.name, statistic)
