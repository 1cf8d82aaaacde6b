"""Reports for tests of their page: realistic ones of any number of rulesets, always the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from refinerctl.insight.report.types import FailureGroup, Flow, Histogram, Interval, Report, RulesetActivity
from refinerctl.insight.stage_status import FunctionStatus, LastCompletion, PipelineStatus, QueueStatus
from refinerctl.insight.status_types import DeadLetterStatus, RulesetStatus
from refinerctl.insight.verify.checks import CheckResult, Status
from refinerctl.releases.release import Release, ReleaseAction

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
    return _NAMES[number] if number < len(_NAMES) else f"Ruleset{number:02}"


def report(rulesets: int = 1, *, trouble: bool = True) -> Report:
    """So many rulesets with a function and, if there are any, that of the completions."""
    chance = random.Random(rulesets)  # noqa: S311 - the same every time
    names = [name_of(number) for number in range(rulesets)]
    activity = [_activity(chance, name, number, trouble=trouble) for number, name in enumerate(names)]
    states = [_status(item, number, trouble=trouble) for number, item in enumerate(activity)]
    if names:
        done = sum(item.flow.completed or 0 for item in activity)
        activity.append(RulesetActivity("RefinerComplete", Flow(done, 0, done, 0)))
        states.append(_complete(done))
    return Report(
        env="production",
        stack="refiner",
        bucket="data-repository",
        bus="data-repository-bus",
        since=SINCE,
        interval=HOUR,
        status=PipelineStatus(NOW, tuple(states), release="v1.8.2", is_released=True),
        activity=tuple(activity),
        releases=releases(names),
        checks=tuple(checks(names, trouble=trouble)),
        problems=("the logs of eICR: access denied to logs:FilterLogEvents",) if trouble and names else (),
    )


def empty() -> Report:
    """An environment in which nothing was ever done and nothing checked."""
    status = PipelineStatus(NOW, (RulesetStatus("RefinerInput", "RefinerInput/", function=FunctionStatus("f")),))
    quiet = RulesetActivity("RefinerInput", Flow(0, 0, 0, 0, 0, 0), (Interval(SINCE, 0, 0),))
    return Report("staging", "refiner", "data-repository", "data-repository-bus", SINCE, HOUR, status, (quiet,))


def unknown() -> Report:
    """Nothing could be looked at."""
    function = FunctionStatus("f")
    unread = RulesetStatus("RefinerInput", "RefinerInput/", function=function, problems=("access denied",))
    status = PipelineStatus(NOW, (unread,))
    return Report("staging", "refiner", "data-repository", "data-repository-bus", SINCE, HOUR, status)


def hostile(text: str) -> Report:
    """Whatever others can choose is this text."""
    failure = FailureGroup(text, text, 3, SINCE, NOW, text, (text,), (text,))
    ruleset = RulesetStatus(text, text, QueueStatus(text, 1, 0, 0), function=FunctionStatus(text), problems=(text,))
    histogram = Histogram((0.1, 1.0, 10.0), (4, 1))
    activity = RulesetActivity(text, Flow(1, 0, 1, 1, 1, 0), (Interval(SINCE, 1, 0),), histogram, None, (failure,))
    other = RulesetActivity(text + "2", Flow(1, 0, 1, 1, 1, 0), (Interval(SINCE, 1, 0),), histogram)
    return Report(
        env=text,
        stack=text,
        bucket=text,
        bus=text,
        since=SINCE,
        interval=HOUR,
        status=PipelineStatus(NOW, (ruleset,), release=text, is_released=True, problems=(text,)),
        activity=(activity, other),
        releases=(Release(ReleaseAction.DEPLOY, text, {text: text}, text, text, NOW),),
        checks=tuple(CheckResult(text, status, text, text, text, text) for status in Status),
        problems=(text,),
    )


def _activity(chance: random.Random, name: str, number: int, *, trouble: bool) -> RulesetActivity:
    fails = trouble and number % 5 == 0
    size = 60 if number == 0 else chance.randint(2, 40)
    intervals = []
    for hour in range(24):
        load = 0.15 + max(0.0, 1 - abs((SINCE + hour * HOUR).hour - 14) / 7)
        failed = chance.randint(1, 6) if fails and hour in (17, 18, 19) else 0
        intervals.append(Interval(SINCE + hour * HOUR, round(size * load * chance.uniform(0.8, 1.2)), failed))
    completed, failed = sum(part.completed for part in intervals), sum(part.failed for part in intervals)
    return RulesetActivity(
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
    rare = max(1, count // 6)
    keys = tuple(f"{name}/2026/03/14/Fall {number:04}+Ä%20(final).xml" for number in range(min(count, 10)))
    example = (
        "NoSuchKey: The specified key does not exist.\n"
        "    at de_NoSuchKeyRes (/var/task/node_modules/@aws-sdk/client-s3/dist-cjs/index.js:4870:21)\n"
        "    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)\n"
        "    at async handler (/var/task/handler.mjs:88:20)"
    )
    ids = tuple(f"8f5c0a1e-77d1-4b5e-9f0a-0c2f6f1d{number:04x}" for number in range(min(count, 10)))
    return (
        FailureGroup(
            name,
            "NoSuchKey: The specified key does not exist.",
            count - rare,
            SINCE + 17 * HOUR,
            SINCE + 19 * HOUR,
            example,
            keys,
            ids,
        ),
        FailureGroup(
            name,
            "Task timed out after … seconds",
            rare,
            SINCE + 18 * HOUR,
            SINCE + 18 * HOUR,
            "Task timed out after 60.06 seconds",
            keys[:1],
            ids[:1],
        ),
    )


def _status(activity: RulesetActivity, number: int, *, trouble: bool) -> RulesetStatus:
    dead = 2 if trouble and number % 5 == 0 else 0
    base = f"dibbs-ecr-{activity.ruleset}"
    waiting = 12 if number == 0 else number % 3
    return RulesetStatus(
        activity.ruleset,
        f"{activity.ruleset}/",
        QueueStatus(base, waiting, 3, 0, 191 if waiting else None),
        DeadLetterStatus(f"{base}-dlq", dead, 54000 if dead else None, 1155600 if dead else None),
        DeadLetterStatus(f"{base}-delivery-dlq", 0),
        FunctionStatus(base, "Active", "sha256:" + "a" * 64, number != 3, 61, 2 if dead else 0, 0, 412.0, 1250.0, 4),
        LastCompletion(NOW - timedelta(minutes=2 + number), f"RefinerComplete/{number}.json"),
    )


def _complete(done: int) -> RulesetStatus:
    return RulesetStatus(
        "RefinerComplete",
        "RefinerComplete/",
        QueueStatus("dibbs-ecr-RefinerComplete", done, 0, 0, 86000),
        DeadLetterStatus("dibbs-ecr-RefinerComplete-dlq", 0),
        DeadLetterStatus("dibbs-ecr-RefinerComplete-delivery-dlq", 0),
    )


def releases(names: list[str]) -> tuple[Release, ...]:
    """Newest first; the one before the last was rolled back."""
    found = []
    for number, (tag, action) in enumerate(
        (
            ("v1.8.2", ReleaseAction.DEPLOY),
            ("v1.8.0", ReleaseAction.ROLLBACK),
            ("v1.8.1", ReleaseAction.DEPLOY),
            ("v1.8.0", ReleaseAction.DEPLOY),
        )
    ):
        digit = {"v1.8.0": "1", "v1.8.1": "5", "v1.8.2": "c"}[tag]
        images = dict.fromkeys(names, f"123456789012.dkr.ecr.us-east-1.amazonaws.com/refiner@sha256:{digit * 64}")
        commit = f"{number}f3b9d1c7a{number}e5" * 3 + "0000"
        found.append(
            Release(action, tag, images, commit, "gitlab/refinerctl-deploy", NOW - timedelta(days=3 * number, hours=5))
        )
    return tuple(found)


def checks(names: list[str], *, trouble: bool) -> list[CheckResult]:
    found = [
        CheckResult(
            "bucket-events",
            Status.PASS,
            "data-repository sends its events to EventBridge",
            "without it nothing begins",
            "deploy",
        )
    ]
    for number, name in enumerate(names):
        found.append(
            CheckResult(
                "rule-pattern",
                Status.PASS,
                f"the rule matches {name}/ and no other prefix",
                "or inputs get lost",
                "deploy",
                name,
            )
        )
        found.append(
            CheckResult(
                "queue-policy",
                Status.PASS,
                "the rule may send to the queue",
                "or events are not delivered",
                "deploy",
                name,
            )
        )
        if trouble and number == 1:
            found.append(
                CheckResult(
                    "visibility-timeout",
                    Status.FAIL,
                    "30 s, and the function has 60 s",
                    "a message comes back while it is still being processed: inputs are processed twice",
                    "refinerctl deploy, or set queue_visibility_timeout to at least 360",
                    name,
                )
            )
        if trouble and number % 4 == 0:
            found.append(
                CheckResult(
                    "log-retention",
                    Status.WARN,
                    "logs are kept for ever",
                    "they cost more each month",
                    "set log_retention_days in the environment's tfvars",
                    name,
                )
            )
    found.append(
        CheckResult(
            "quotas",
            Status.SKIP,
            "access denied to lambda:GetAccountSettings",
            "a full quota stops functions",
            "allow it",
        )
    )
    return found
