"""How the pipeline is doing: every ruleset's queues, function, last completion and release, looked at all at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar, cast

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.messages import QueueState
from refinerctl.aws.metric import DataPoint, Metric
from refinerctl.aws.objects import ObjectInfo
from refinerctl.dlq.queues import expires_in_s, hidden_before_s
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference
from refinerctl.insight.status_types import (
    DeadLetterStatus,
    FunctionStatus,
    LastCompletion,
    PipelineStatus,
    QueueStatus,
    RulesetStatus,
)
from refinerctl.parallel import concurrently
from refinerctl.releases.model import Release, deployed
from refinerctl.stacks.names import RulesetNames
from refinerctl.stacks.settings import Pipeline

THREADS = 32
HOUR = timedelta(hours=1)
# What is older is no age of now: SQS sends it every minute, and CloudWatch has it a few minutes later.
AGES = timedelta(minutes=15)
# A look at completions is no inventory: of more than this the newest is not looked for.
MAX_COMPLETIONS = 3000
# A message is deleted soon after its completion is written.
SAME_RECORD = timedelta(minutes=2)
# Whose completion is it? A completion's key does not tell its ruleset: inputs are asked for, at most so many.
MAX_HEADS = 64

Found = TypeVar("Found")
MetricKey = tuple[str, str]  # whose, which
_Points = Mapping[MetricKey, Sequence[DataPoint]]


class Queues(Protocol):
    def find(self, prefix: str) -> None: ...
    def state(self, name: str) -> QueueState: ...


class Functions(Protocol):
    def get(self, name: str) -> FunctionConfiguration: ...


class Metrics(Protocol):
    def read(
        self, wanted: Mapping[MetricKey, Metric], since: datetime, until: datetime
    ) -> dict[MetricKey, tuple[DataPoint, ...]]: ...


class Bucket(Protocol):
    def objects(self, prefix: str) -> Iterator[ObjectInfo]: ...
    def head(self, key: str) -> ObjectInfo | None: ...


@dataclass(frozen=True)
class Stations:
    """What is looked at. `ledger` reads the releases of the environment."""

    queues: Queues
    functions: Functions
    metrics: Metrics
    bucket: Bucket
    ledger: Callable[[], tuple[Release, ...]]


@dataclass(frozen=True)
class _Look(Generic[Found]):
    """What was found, or why it could not be looked at."""

    found: Found | None = None
    error: RefinerctlError | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        return (self.error.message,) if self.error else ()


def status(rulesets: Sequence[RulesetNames], pipeline: Pipeline, stations: Stations, now: datetime) -> PipelineStatus:
    """Look in two rounds, each with everything at the same time; nothing is changed, and no message is received.

    What cannot be looked at is told as a problem; raises RefinerctlError if nothing can.
    """
    first, second = _first_round(rulesets, pipeline, stations, now), _second_round(rulesets, stations)
    looks = _all_at_once(first)
    newest: list[ObjectInfo] = looks["completions"].found or []
    looks |= _all_at_once(second | _heads(rulesets, pipeline, stations, newest))
    # To find the queues' addresses all at once is for speed only, and never fails.
    telling = [look for name, look in looks.items() if name != "urls"]
    if all(look.error for look in telling):
        raise next(look.error for look in telling if look.error)
    release = deployed(looks["ledger"].found or ())
    points: _Points = {**(looks["metrics"].found or {}), **(looks["ages"].found or {})}
    facts = _Facts(looks, pipeline, points, newest, release)
    shared = [name for name in ("metrics", "ages", "completions", "ledger") if looks[name].error]
    return PipelineStatus(
        at=now,
        rulesets=tuple(_ruleset(ruleset, facts, rulesets) for ruleset in rulesets),
        release=release.tag if release else None,
        is_released=release is not None,
        problems=tuple(
            dict.fromkeys(
                f"{name.replace('ages', 'metrics')}: {problem}" for name in shared for problem in looks[name].problems
            )
        ),
    )


_Looks = dict[str, Callable[[], Any]]


def _all_at_once(looks: _Looks) -> dict[str, _Look[Any]]:
    return dict(zip(looks, concurrently([partial(_try, look) for look in looks.values()], THREADS), strict=True))


def _try(look: Callable[[], Any]) -> _Look[Any]:
    try:
        return _Look(look())
    except RefinerctlError as error:
        return _Look(error=error)


def _first_round(rulesets: Sequence[RulesetNames], pipeline: Pipeline, stations: Stations, now: datetime) -> _Looks:
    common = os.path.commonprefix([ruleset.base for ruleset in rulesets])  # noqa: RUF071 - names, not paths
    minute = now.replace(second=0, microsecond=0)  # periods begin where a question does, and this minute is not over
    return {
        "metrics": lambda: stations.metrics.read(_wanted(rulesets), minute - HOUR, minute),
        "ages": lambda: stations.metrics.read(_ages(rulesets), now - AGES, now),
        "completions": lambda: _newest_completions(rulesets, stations.bucket, pipeline.complete_prefix),
        "ledger": stations.ledger,
        "urls": lambda: stations.queues.find(common),
        **{
            f"function {ruleset.base}": partial(stations.functions.get, ruleset.base)
            for ruleset in rulesets
            if ruleset.has_function
        },
    }


def _second_round(rulesets: Iterable[RulesetNames], stations: Stations) -> _Looks:
    return {
        f"queue {name}": partial(stations.queues.state, name)
        for ruleset in rulesets
        for name in (ruleset.queue, ruleset.dlq, ruleset.delivery_dlq)
    }


def _wanted(rulesets: Iterable[RulesetNames]) -> dict[MetricKey, Metric]:
    """Seven metrics of each ruleset: those of fifty fit into one call."""
    wanted: dict[MetricKey, Metric] = {}
    for ruleset in rulesets:
        wanted[ruleset.base, "processed"] = Metric(
            "AWS/SQS", "NumberOfMessagesDeleted", "QueueName", ruleset.queue, "Sum"
        )
        if ruleset.has_function:
            wanted |= {(ruleset.base, name): metric for name, metric in _function_metrics(ruleset.base)}
    return wanted


def _ages(rulesets: Iterable[RulesetNames]) -> dict[MetricKey, Metric]:
    return {
        (queue, "age"): Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue, "Maximum")
        for ruleset in rulesets
        for queue in (ruleset.queue, ruleset.dlq, ruleset.delivery_dlq)
    }


def _function_metrics(function: str) -> Iterator[tuple[str, Metric]]:
    """Periods of five minutes add up to the hour wherever CloudWatch lets them begin; percentiles do not add up."""
    for name, metric, statistic, period_s in (
        ("invocations", "Invocations", "Sum", 300),
        ("errors", "Errors", "Sum", 300),
        ("throttles", "Throttles", "Sum", 300),
        ("p50", "Duration", "p50", 3600),
        ("p95", "Duration", "p95", 3600),
        ("concurrency", "ConcurrentExecutions", "Maximum", 300),
    ):
        yield name, Metric("AWS/Lambda", metric, "FunctionName", function, statistic, period_s)


def _newest_completions(rulesets: Iterable[RulesetNames], bucket: Bucket, prefix: str) -> list[ObjectInfo]:
    """Newest first; none if there are too many to tell, or too many rulesets that they may be of."""
    if len(_writers(rulesets)) > MAX_HEADS // 2:
        return []
    found = list(islice(bucket.objects(prefix), MAX_COMPLETIONS + 1))
    if len(found) > MAX_COMPLETIONS:
        return []
    return sorted(found, key=lambda info: info.last_modified, reverse=True)


def _heads(
    rulesets: Sequence[RulesetNames], pipeline: Pipeline, stations: Stations, newest: Sequence[ObjectInfo]
) -> _Looks:
    """The inputs that the newest completions may be of: not needed where only one ruleset writes completions."""
    writers = _writers(rulesets)
    if len(writers) < 2:
        return {}
    return {
        f"input {key}": partial(stations.bucket.head, key)
        for info in newest[: MAX_HEADS // len(writers) // 2]
        for ruleset in writers
        for key in _inputs_of(info.key, ruleset, pipeline)
    }


def _writers(rulesets: Iterable[RulesetNames]) -> list[RulesetNames]:
    return [ruleset for ruleset in rulesets if ruleset.has_function]


def _inputs_of(completion_key: str, ruleset: RulesetNames, pipeline: Pipeline) -> tuple[str, ...]:
    """Either image: this repository's adds `.json` to the input's name."""
    below = completion_key.removeprefix(pipeline.complete_prefix)
    return tuple(dict.fromkeys((ruleset.prefix + below.removesuffix(".json"), ruleset.prefix + below)))


@dataclass(frozen=True)
class _Facts:
    """Everything that was found."""

    looks: Mapping[str, _Look[Any]]
    pipeline: Pipeline
    points: _Points
    completions: Sequence[ObjectInfo]
    release: Release | None
    nothing: _Look[Any] = field(default_factory=_Look)

    def look(self, name: str) -> _Look[Any]:
        return self.looks.get(name, self.nothing)

    def last(self, of: str, name: str) -> DataPoint | None:
        points = self.points.get((of, name), ())
        return points[-1] if points else None

    def total(self, of: str, name: str) -> int | None:
        points = self.points.get((of, name), ())
        return round(sum(point.value for point in points)) if points else None

    def worst(self, of: str, name: str) -> float | None:
        """CloudWatch may split the last hour in two."""
        return max((point.value for point in self.points.get((of, name), ())), default=None)


def _ruleset(ruleset: RulesetNames, facts: _Facts, rulesets: Sequence[RulesetNames]) -> RulesetStatus:
    queues = [facts.look(f"queue {name}") for name in (ruleset.queue, ruleset.dlq, ruleset.delivery_dlq)]
    source, dlq, delivery_dlq = (cast("QueueState | None", look.found) for look in queues)
    function = facts.look(f"function {ruleset.base}")
    before = hidden_before_s(source.max_receive_count, source.visibility_timeout_s) if source else 0
    return RulesetStatus(
        ruleset.name,
        ruleset.prefix,
        queue=_queue(source, facts) if source else None,
        dlq=_dead_letters(dlq, facts, before) if dlq else None,
        delivery_dlq=_dead_letters(delivery_dlq, facts, 0) if delivery_dlq else None,
        function=_function(ruleset, function, facts) if ruleset.has_function else None,
        last_completion=_last_completion(ruleset, facts, rulesets),
        problems=_problems([*queues, function] if ruleset.has_function else queues),
    )


def _problems(looks: Sequence[_Look[Any]]) -> tuple[str, ...]:
    if all(isinstance(look.error, NotFoundError) for look in looks):
        return ("it is not deployed",)
    return tuple(problem for look in looks for problem in look.problems)


def _queue(state: QueueState, facts: _Facts) -> QueueStatus:
    depth = state.depth
    age = facts.last(depth.name, "age") if depth.visible or depth.in_flight or depth.delayed else None
    return QueueStatus(
        depth.name, depth.visible, depth.in_flight, depth.delayed, oldest_age_s=age.value if age else None
    )


def _dead_letters(state: QueueState, facts: _Facts, before_s: float) -> DeadLetterStatus:
    depth = state.depth.visible + state.depth.in_flight + state.depth.delayed
    age = facts.last(state.depth.name, "age") if depth else None
    if age is None:
        return DeadLetterStatus(state.depth.name, depth)
    left = expires_in_s(state.retention_s, age.value, before_s)
    return DeadLetterStatus(state.depth.name, depth, oldest_age_s=age.value, expires_in_s=left)


def _function(ruleset: RulesetNames, look: _Look[FunctionConfiguration], facts: _Facts) -> FunctionStatus | None:
    """Who may not see what it runs may still see its metrics. None: there is no such function."""
    if isinstance(look.error, NotFoundError):
        return None
    name, running = ruleset.base, look.found
    recorded = facts.release.images.get(ruleset.name) if facts.release else None
    digest = ImageReference.parse(recorded).digest if recorded else None
    concurrency = facts.worst(name, "concurrency")
    return FunctionStatus(
        name,
        state=running.state if running else None,
        digest=running.digest if running else None,
        runs_release=digest == running.digest if digest and running and running.digest else None,
        invocations=facts.total(name, "invocations"),
        errors=facts.total(name, "errors"),
        throttles=facts.total(name, "throttles"),
        duration_p50_ms=facts.worst(name, "p50"),
        duration_p95_ms=facts.worst(name, "p95"),
        concurrency=None if concurrency is None else round(concurrency),
    )


def _last_completion(ruleset: RulesetNames, facts: _Facts, rulesets: Sequence[RulesetNames]) -> LastCompletion | None:
    if not ruleset.has_function:
        return None
    alone = len(_writers(rulesets)) == 1
    done = [point for point in facts.points.get((ruleset.base, "processed"), ()) if point.value > 0]
    for info in facts.completions:
        keys = _inputs_of(info.key, ruleset, facts.pipeline)
        if alone or any(facts.look(f"input {key}").found for key in keys):
            if not alone and done and done[-1].at > info.last_modified + SAME_RECORD:
                break  # of newer ones the inputs are gone
            return LastCompletion(info.last_modified, info.key)
    return LastCompletion(done[-1].at) if done else None
