"""Reports for tests of their page: realistic ones of any number of stages, always the same."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from refinerctl.insight.findings import Status
from refinerctl.insight.report.activity import Activity, Flow, StageActivity
from refinerctl.insight.report.page import PipelineReport
from refinerctl.insight.report.tally import FailureGroup, Histogram, Interval
from refinerctl.insight.status_model import (
    DlqStatus,
    FunctionStatus,
    LastCompletion,
    PipelineStatus,
    QueueStatus,
    ServiceStatus,
    StageStatus,
)
from refinerctl.insight.verify.checks import CheckResult
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.stacks import find_stack
from refinerctl.stacks.base import (
    Broker,
    Bucket,
    EventBus,
    EventRule,
    Function,
    Pipeline,
    Queue,
    Schedule,
    Service,
    Stage,
)

NOW = datetime(2026, 3, 14, 9, 27, tzinfo=UTC)
SINCE = NOW - timedelta(hours=24)
HOUR = timedelta(hours=1)
_NAMES = (
    "RefinerInput",
    "LabResults",
    "eICR",
    "Immunizations",
    "VitalRecords",
    "Syndromic-Surveillance-Emergency-Department",
)


def name_of(number: int) -> str:
    return _NAMES[number] if number < len(_NAMES) else f"Stage{number:02}"


def pipeline(functions: list[str], others: list[str] | None = None) -> Pipeline:
    """Of stack refiner, with these stages: with a function, and without one."""
    stack = find_stack("refiner")
    assert stack.pipeline
    rulesets = {name: {"prefix": f"{name}/", "image_uri": "r:v1"} for name in functions}
    rulesets |= {name: {"prefix": f"{name}/"} for name in others or []}
    found = stack.pipeline(stack.settings, {"rulesets": rulesets})
    order = [*functions, *(others or [])]
    return replace(found, stages=tuple(sorted(found.stages, key=lambda stage: order.index(stage.name))))


def report(stages: int = 1, *, trouble: bool = True) -> PipelineReport:
    """So many stages with a function and, if there are any, that of the completions."""
    chance = random.Random(stages)  # noqa: S311 - the same every time
    names = [name_of(number) for number in range(stages)]
    activity = [_activity(chance, name, number, trouble=trouble) for number, name in enumerate(names)]
    states = [_status(item, number, trouble=trouble) for number, item in enumerate(activity)]
    if names:
        done = sum(item.flow.completed or 0 for item in activity)
        activity.append(StageActivity("RefinerComplete", Flow(done, 0, done, 0)))
        states.append(_complete(done))
    return PipelineReport(
        env="production",
        stack="refiner",
        pipeline=pipeline(names, ["RefinerComplete"] if names else []),
        since=SINCE,
        status=PipelineStatus(NOW, tuple(states), release="v1.8.2", is_released=True),
        activity=Activity(HOUR, tuple(activity)),
        releases=releases(names),
        checks=tuple(checks(names, trouble=trouble)),
        problems=("the logs of eICR: access denied to logs:FilterLogEvents",) if trouble and names else (),
    )


def empty() -> PipelineReport:
    """An environment in which nothing was ever done and nothing checked."""
    status = PipelineStatus(NOW, (StageStatus("RefinerInput", "RefinerInput/", function=FunctionStatus("f")),))
    quiet = StageActivity("RefinerInput", Flow(0, 0, 0, 0, 0, 0), (Interval(SINCE, 0, 0),))
    return PipelineReport("staging", "refiner", pipeline(["RefinerInput"]), SINCE, status, Activity(HOUR, (quiet,)))


def unknown() -> PipelineReport:
    """Nothing could be read."""
    function = FunctionStatus("f")
    unread = StageStatus("RefinerInput", "RefinerInput/", function=function, problems=("access denied",))
    return PipelineReport(
        "staging", "refiner", pipeline(["RefinerInput"]), SINCE, PipelineStatus(NOW, (unread,)), Activity(HOUR)
    )


def hostile(text: str) -> PipelineReport:
    """Whatever others can choose is this text."""
    failure = FailureGroup(text, text, 3, SINCE, NOW, text, (text,), (text,))
    state = StageStatus(text, text, QueueStatus(text, 1, 0, 0), function=FunctionStatus(text), problems=(text,))
    histogram = Histogram((0.1, 1.0, 10.0), (4, 1))
    activity = StageActivity(text, Flow(1, 0, 1, 1, 1, 0), (Interval(SINCE, 1, 0),), histogram, None, (failure,))
    other = StageActivity(text + "2", Flow(1, 0, 1, 1, 1, 0), (Interval(SINCE, 1, 0),), histogram)
    bucket, bus, source = Bucket(text), EventBus(text), EventRule(text, text, text, Queue(text))
    stages = (
        Stage(text, source, Queue(text, Queue(text)), Function(text)),
        Stage(text + "2", Schedule(text, dlq=Queue(text)), None, Function(text)),
    )
    return PipelineReport(
        env=text,
        stack=text,
        pipeline=Pipeline(text, stages, (bucket, bus), ((bucket, bus), (bus, source))),
        since=SINCE,
        status=PipelineStatus(NOW, (state,), release=text, is_released=True, problems=(text,)),
        activity=Activity(HOUR, (activity, other)),
        releases=(Release(ReleaseAction.DEPLOY, text, {text: text}, text, text, NOW),),
        checks=tuple(CheckResult(text, status, text, text, text, text) for status in Status),
        problems=(text,),
    )


def scheduled() -> PipelineReport:
    """Of a stack without data: a schedule that starts a function, and queues that others fill or empty."""
    dlq = Queue("dlq")
    stages = (
        Stage("produce", Schedule("every-5-minutes", dlq=dlq), None, Function("producer")),
        Stage("clean", Schedule("nightly"), None, Function("cleaner")),
        Stage("work", None, Queue("work", dlq), Function("worker")),
        Stage("poll", Schedule("hourly"), Queue("poll")),
    )
    states = (
        StageStatus("produce", "", None, None, DlqStatus("dlq", 2), FunctionStatus("producer", invocations=9)),
        StageStatus("clean", "", function=FunctionStatus("cleaner")),
        StageStatus("work", "", QueueStatus("work", 5, 1, 0), DlqStatus("dlq", 0), None, FunctionStatus("w")),
        StageStatus("poll", "", QueueStatus("poll", 0, 0, 0)),
    )
    activity = (
        StageActivity("produce", Flow(attempts=9, completed=8, failed=1), (Interval(SINCE, 8, 1),)),
        StageActivity("work", Flow(queued=7, attempts=7, completed=7, failed=0), (Interval(SINCE + HOUR, 7, 0),)),
    )
    return PipelineReport(
        "production",
        "batch",
        Pipeline("x", stages),
        SINCE,
        PipelineStatus(NOW, states),
        Activity(HOUR, activity),
        has_completions=False,
    )


def services() -> PipelineReport:
    """Of a stack with a broker: a producer, and a service that consumes its queue."""
    broker = Broker("broker")
    dlq = Queue("work-dlq", broker=broker)
    producer = Function("producer", dlq=Queue("producer-dlq"))
    stages = (
        Stage("producer", Schedule("producer", dlq=Queue("producer-delivery-dlq")), None, producer),
        Stage("worker", None, Queue("work", dlq, broker), Service("worker", "c", "/aws/ecs/w"), input_prefix="in/"),
    )
    service = ServiceStatus("worker", NOW, desired=4, running=3, pending=1, protected=2)
    states = (
        StageStatus("producer", dlq=DlqStatus("producer-dlq", 1), function=FunctionStatus("producer", invocations=9)),
        StageStatus("worker", "in/", QueueStatus("work", 5, 1, 0), DlqStatus("work-dlq", 2), service=service),
    )
    activity = (
        StageActivity("producer", Flow(attempts=9, completed=8, failed=1), (Interval(SINCE, 8, 1),)),
        StageActivity("worker", Flow(attempts=7, completed=7, failed=0), (Interval(SINCE + HOUR, 7, 0),)),
    )
    return PipelineReport(
        "production",
        "forecasts",
        Pipeline("x", stages),
        SINCE,
        PipelineStatus(NOW, states),
        Activity(HOUR, activity),
    )


def _activity(chance: random.Random, name: str, number: int, *, trouble: bool) -> StageActivity:
    fails = trouble and number % 5 == 0
    size = 60 if number == 0 else chance.randint(2, 40)
    intervals = []
    for hour in range(24):
        load = 0.15 + max(0.0, 1 - abs((SINCE + hour * HOUR).hour - 14) / 7)
        failed = chance.randint(1, 6) if fails and hour in (17, 18, 19) else 0
        intervals.append(Interval(SINCE + hour * HOUR, round(size * load * chance.uniform(0.8, 1.2)), failed))
    completed, failed = sum(part.completed for part in intervals), sum(part.failed for part in intervals)
    return StageActivity(
        name,
        Flow(completed + failed, 0, completed + failed, completed + failed, completed, failed),
        tuple(intervals),
        _histogram(chance, completed, [0.25 * 1.5**step for step in range(16)]),
        _histogram(chance, completed, [40 * 1.4**step for step in range(16)]),
        _failures(name, failed) if failed else (),
    )


def _histogram(chance: random.Random, count: int, edges: list[float]) -> Histogram:
    counts = [0] * (len(edges) - 1)
    for _ in range(count):
        counts[min(len(counts) - 1, max(0, round(chance.gauss(4.5, 1.6) + (chance.random() < 0.04) * 5)))] += 1
    return Histogram(tuple(edges), tuple(counts))


def _failures(name: str, count: int) -> tuple[FailureGroup, ...]:
    rare, hour = max(1, count // 6), SINCE + 17 * HOUR
    keys = tuple(f"{name}/2026/03/14/Fall {number:04}+Ä%20(final).xml" for number in range(min(count, 10)))
    ids = tuple(f"8f5c0a1e-77d1-4b5e-9f0a-0c2f6f1d{number:04x}" for number in range(min(count, 10)))
    missing, timeout = "NoSuchKey: The specified key does not exist.", "Task timed out after 60.06 seconds"
    stack = f"{missing}\n    at de_NoSuchKeyRes (/var/task/node_modules/@aws-sdk/client-s3/dist-cjs/index.js:4870:21)"
    slow = "Task timed out after … seconds"
    return (
        FailureGroup(name, missing, count - rare, hour, hour + 2 * HOUR, stack, keys, ids),
        FailureGroup(name, slow, rare, hour + HOUR, hour + HOUR, timeout, keys[:1], ids[:1]),
    )


def _status(activity: StageActivity, number: int, *, trouble: bool) -> StageStatus:
    dead = 2 if trouble and number % 5 == 0 else 0
    base = f"dibbs-ecr-{activity.stage}"
    waiting = 12 if number == 0 else number % 3
    return StageStatus(
        activity.stage,
        f"{activity.stage}/",
        QueueStatus(base, waiting, 3, 0, 191 if waiting else None),
        DlqStatus(f"{base}-dlq", dead, 54000 if dead else None, 1155600 if dead else None),
        DlqStatus(f"{base}-delivery-dlq", 0),
        FunctionStatus(base, "Active", "sha256:" + "a" * 64, number != 3, 61, 2 if dead else 0, 0, 412.0, 1250.0, 4),
        LastCompletion(NOW - timedelta(minutes=2 + number), f"RefinerComplete/{number}.json"),
    )


def _complete(done: int) -> StageStatus:
    return StageStatus(
        "RefinerComplete",
        "RefinerComplete/",
        QueueStatus("dibbs-ecr-RefinerComplete", done, 0, 0, 86000),
        DlqStatus("dibbs-ecr-RefinerComplete-dlq", 0),
        DlqStatus("dibbs-ecr-RefinerComplete-delivery-dlq", 0),
    )


def releases(names: list[str]) -> tuple[Release, ...]:
    """Newest first; the one before the last was rolled back."""
    history = (("v1.8.2", "c"), ("v1.8.0", "1"), ("v1.8.1", "5"), ("v1.8.0", "1"))
    found = []
    for number, (tag, digit) in enumerate(history):
        action = ReleaseAction.ROLLBACK if number == 1 else ReleaseAction.DEPLOY
        image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/refiner@sha256:{digit * 64}"
        commit = f"{number}f3b9d1c7a{number}e5" * 3 + "0000"
        at = NOW - timedelta(days=3 * number, hours=5)
        images = dict.fromkeys(names, image)
        found.append(Release(action, tag, images, commit, "gitlab/refinerctl-deploy", at))
    return tuple(found)


def checks(names: list[str], *, trouble: bool) -> list[CheckResult]:
    rows: list[tuple[str, Status, str, str, str, str | None]] = [
        ("bucket-events", Status.PASS, "data-repository sends its events", "without it nothing begins", "deploy", None)
    ]
    for number, name in enumerate(names):
        rows.append(("rule-pattern", Status.PASS, f"matches {name}/ only", "or inputs get lost", "deploy", name))
        rows.append(("queue-policy", Status.PASS, "the rule may send", "or events are not delivered", "deploy", name))
        if trouble and number == 1:
            why = "a message comes back while it is still being processed: inputs are processed twice"
            fix = "refinerctl deploy, or set queue_visibility_timeout to at least 360"
            rows.append(("visibility-timeout", Status.FAIL, "30 s, and the function has 60 s", why, fix, name))
        if trouble and number % 4 == 0:
            fix = "set log_retention_days in the environment's tfvars"
            rows.append(("log-retention", Status.WARN, "logs are kept forever", "they cost more each month", fix, name))
    denied = "access denied to lambda:GetAccountSettings"
    rows.append(("quotas", Status.SKIP, denied, "a full quota stops functions", "allow it", None))
    return [CheckResult(*row) for row in rows]
