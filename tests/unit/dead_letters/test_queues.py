"""Which queues are dead-letter queues, what feeds them, and how long their messages live."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from refinerctl.aws.events import RuleTarget
from refinerctl.aws.messages import QueueAddress, QueueDepth
from refinerctl.aws.metric import DataPoint, Metric
from refinerctl.aws.policies import parse_policy
from refinerctl.aws.sqs import QueueSettings
from refinerctl.dlq.queues import (
    DeadLetterQueue,
    DlqKind,
    MessageSource,
    QueueSnapshot,
    Stations,
    Wanted,
    list_queues,
    look_at,
    of_stack,
    rule_name,
)
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.stacks.names import RulesetNames
from tests.unit.dead_letters.letters import queue

NOW = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
RULE = "arn:aws:events:us-east-1:0:rule/bus/a"
DAYS_14 = 14 * 86_400


class FakeAws:
    """Queues, rules and metrics by name; plays all stations."""

    def __init__(self) -> None:
        self.queues: dict[str, QueueSettings] = {}
        self.depths: dict[str, tuple[int, int, int]] = {}
        self.targets_of: dict[tuple[str, str], tuple[RuleTarget, ...]] = {}
        self.ages: dict[str, float] = {}
        self.broken: dict[str, RefinerctlError] = {}

    def add(self, name: str, depth: tuple[int, int, int] = (0, 0, 0), **given: Any) -> QueueSettings:
        found = QueueSettings(name, queue(name).arn, **{"visibility_timeout_s": 30, "retention_s": DAYS_14} | given)
        self.queues[name], self.depths[name] = found, depth
        return found

    def add_pair(self, name: str, **given: Any) -> None:
        self.add(name, dlq_arn=queue(f"{name}-dlq").arn, **{"visibility_timeout_s": 60, "max_receive_count": 5} | given)
        self.add(f"{name}-dlq", depth=(3, 1, 0), redrive_sources=(queue(name).arn,))

    def address(self, text: str) -> QueueAddress:
        name = text.rpartition("/")[2].rpartition(":")[2]
        if name in self.broken:
            raise self.broken[name]
        if name not in self.queues:
            raise NotFoundError(f"there is no queue {name!r}")
        return queue(name)

    def snapshot(self, address: QueueAddress) -> QueueSnapshot:
        return QueueSnapshot(self.queues[address.name], QueueDepth(address.name, *self.depths[address.name]))

    def source_urls(self, dlq_url: str, dlq_arn: str) -> tuple[str, ...]:
        self._check("sources")
        return tuple(queue(name).url for name, item in self.queues.items() if item.dlq_arn == dlq_arn)

    def targets(self, bus: str, rule: str) -> tuple[RuleTarget, ...]:
        self._check("rules")
        if (bus, rule) not in self.targets_of:
            raise NotFoundError(f"there is no rule {rule}")
        return self.targets_of[bus, rule]

    def read(self, wanted: Mapping[str, Metric], since: datetime, until: datetime) -> dict[str, tuple[DataPoint, ...]]:
        self._check("metrics")
        return {name: (DataPoint(NOW, self.ages[name]),) if name in self.ages else () for name in wanted}

    def _check(self, what: str) -> None:
        if what in self.broken:
            raise self.broken[what]

    def at(self, _region: str | None) -> Stations:
        return Stations(self, self, self, self, self)

    def one(self, name: str, **given: Any) -> DeadLetterQueue:
        return list_queues([Wanted(name, **given)], self.at, NOW).queues[0]


@pytest.fixture
def aws() -> FakeAws:
    return FakeAws()


def lets_in(*rules: str) -> Any:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": "*",
        "Condition": {"ArnEquals": {"aws:SourceArn": list(rules)}},
    }
    return parse_policy(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def test_a_queues_dead_letter_queue(aws: FakeAws) -> None:
    aws.add_pair("a")
    aws.ages["a-dlq"] = 3600.0

    found = aws.one(queue("a-dlq").url)

    assert (found.kind, found.sources) == (DlqKind.PROCESSING, (MessageSource("a", queue("a").arn),))
    assert (found.depth, found.visible, found.in_flight) == (4, 3, 1)
    assert found.oldest_age_s == 3600
    assert found.expires_in_s == DAYS_14 - 3600 - 5 * 60  # it was hidden five times before it moved
    assert not found.expires_soon


def test_soon_means_within_a_day(aws: FakeAws) -> None:
    aws.add_pair("a")
    aws.ages["a-dlq"] = DAYS_14 - 86_400
    assert aws.one("a-dlq").expires_soon
    aws.ages["a-dlq"] = DAYS_14 + 5
    assert aws.one("a-dlq").expires_in_s == 0


def test_a_fifo_queues_clock_begins_anew_with_the_move(aws: FakeAws) -> None:
    aws.add("a.fifo", dlq_arn=queue("dead.fifo").arn, max_receive_count=5)
    aws.add("dead.fifo", depth=(1, 0, 0))
    aws.ages["dead.fifo"] = 100
    assert aws.one("dead.fifo").expires_in_s == DAYS_14 - 100


def test_unknown_ages_stay_unknown(aws: FakeAws) -> None:
    aws.add_pair("a")
    assert (aws.one("a-dlq").oldest_age_s, aws.one("a-dlq").expires_in_s) == (None, None)
    aws.ages["a-dlq"] = 60
    aws.depths["a-dlq"] = (0, 0, 0)  # CloudWatch is minutes late
    assert aws.one("a-dlq").oldest_age_s is None


def test_a_rules_dead_letter_queue_is_told_from_its_target(aws: FakeAws) -> None:
    aws.add("target", policy=lets_in(RULE))
    aws.add("dead", policy=lets_in(RULE))
    aws.targets_of["bus", "a"] = (RuleTarget("t", queue("target").arn, dlq_arn=queue("dead").arn),)

    found = aws.one("dead")

    assert (found.kind, found.sources) == (DlqKind.DELIVERY, (MessageSource("a", RULE),))
    assert aws.one("target").kind is DlqKind.UNKNOWN
    assert not aws.one("target").is_dead_letter_queue


def test_a_rule_that_is_gone_or_a_pattern_says_nothing(aws: FakeAws) -> None:
    aws.add("x", policy=lets_in(RULE, "arn:aws:events:us-east-1:0:rule/*", queue("a").arn))
    assert aws.one("x").kind is DlqKind.UNKNOWN
    assert rule_name("arn:aws:events:us-east-1:0:rule/plain") == ("default", "plain")


def test_a_source_that_is_gone_is_named(aws: FakeAws) -> None:
    aws.add_pair("a")
    del aws.queues["a"]
    found = aws.one("a-dlq")
    assert found.kind is DlqKind.PROCESSING
    assert found.sources == (MessageSource("a", queue("a").arn, is_there=False),)


def test_a_queue_with_its_own_dead_letter_queue_says_when_messages_move(aws: FakeAws) -> None:
    aws.add_pair("a")
    assert look_at(Wanted("a"), aws.at(None)).max_receive_count == 5
    assert look_at(Wanted("a"), aws.at(None)).kind is DlqKind.UNKNOWN


def test_what_cannot_be_looked_at_is_told_beside_the_others(aws: FakeAws) -> None:
    aws.add_pair("a")
    aws.broken["c-dlq"] = AccessDeniedError("access denied: GetQueueUrl on queue c-dlq")
    wanted = [Wanted("a-dlq"), Wanted("b-dlq", DlqKind.PROCESSING, "b"), Wanted("c-dlq")]

    found = list_queues(wanted, aws.at, NOW)

    assert [item.error for item in found.queues] == [
        None,
        "there is no queue 'b-dlq'",
        "access denied: GetQueueUrl on queue c-dlq",
    ]
    assert found.queues[1].sources == (MessageSource("b", "", None),)
    with pytest.raises(NotFoundError, match="no queue 'b-dlq'"):
        list_queues(wanted[1:], aws.at, NOW)
    with pytest.raises(AccessDeniedError):
        look_at(wanted[2], aws.at(None))


def test_the_age_of_a_queue_is_asked_for_in_its_region() -> None:
    here, there = FakeAws(), FakeAws()
    for world, age in ((here, 100.0), (there, 200.0)):
        world.add_pair("a")
        world.ages["a-dlq"] = age
    wanted = [Wanted("a-dlq"), Wanted("arn:aws:sqs:eu-west-1:0:a-dlq"), Wanted("a-dlq")]

    found = list_queues(wanted, lambda region: {None: here, "eu-west-1": there}[region].at(region), NOW)

    assert [item.oldest_age_s for item in found.queues] == [100, 200, 100]


def test_what_is_denied_beside_does_not_keep_the_rest_from_being_told(aws: FakeAws) -> None:
    aws.add_pair("a")
    aws.add("dead", policy=lets_in(RULE))
    for what in ("sources", "rules", "metrics"):
        aws.broken[what] = AccessDeniedError(f"access denied: {what}")

    found = list_queues([Wanted("a-dlq", DlqKind.PROCESSING, "a"), Wanted("dead")], aws.at, NOW)

    assert (found.queues[0].depth, found.queues[0].kind) == (4, DlqKind.PROCESSING)  # as the stack's values say
    assert found.queues[0].sources == (MessageSource("a", "", None),)
    assert found.queues[1].kind is DlqKind.UNKNOWN
    assert [problem.rpartition(": ")[2] for problem in found.problems] == ["sources", "sources", "rules", "metrics"]


def test_all_of_a_stack() -> None:
    rulesets = [RulesetNames("A", "A/", "dibbs-ecr-A"), RulesetNames("B", "B/", "dibbs-ecr-B", has_function=False)]
    found = {item.text: (item.kind, item.source) for item in of_stack(rulesets)}
    assert found == {
        "dibbs-ecr-A-dlq": (DlqKind.PROCESSING, "dibbs-ecr-A"),
        "dibbs-ecr-B-dlq": (DlqKind.PROCESSING, "dibbs-ecr-B"),
        "dibbs-ecr-A-delivery-dlq": (DlqKind.DELIVERY, "dibbs-ecr-A"),
        "dibbs-ecr-B-delivery-dlq": (DlqKind.DELIVERY, "dibbs-ecr-B"),
        "dibbs-ecr-forward-delivery-dlq": (DlqKind.DELIVERY, "dibbs-ecr-forward"),
    }
    assert of_stack(()) == ()
    assert replace(Wanted("x"), text=queue("x-dlq").arn).name == "x-dlq"
