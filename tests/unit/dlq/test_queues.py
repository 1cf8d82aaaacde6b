"""Which queues are dead-letter queues, what feeds them, and how long their messages live."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from refinerctl.aws.events import RuleTarget
from refinerctl.aws.messages import QueueAddress
from refinerctl.aws.metrics import DataPoint, Metric
from refinerctl.aws.policies import parse_policy
from refinerctl.aws.sqs import QueueState
from refinerctl.dlq.queues import (
    DeadLetterQueue,
    DlqKind,
    MessageSource,
    QueueReader,
    RequestedQueue,
    dlqs_of,
    list_queues,
)
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.stacks import base
from refinerctl.stacks.refiner import STACK
from refinerctl.stacks.rnr import STACK as RNR
from tests.unit.dlq.messages import queue

NOW = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
RULE = "arn:aws:events:us-east-1:0:rule/bus/a"
DAYS_14 = 14 * 86_400


class FakeAws:
    """Queues, rules and metrics by name; stands for all clients of a reader."""

    def __init__(self) -> None:
        self.queues: dict[str, QueueState] = {}
        self.depths: dict[str, tuple[int, int, int]] = {}
        self.targets_of: dict[tuple[str, str], tuple[RuleTarget, ...]] = {}
        self.ages: dict[str, float] = {}
        self.broken: dict[str, RefinerctlError] = {}

    def add(self, name: str, depth: tuple[int, int, int] = (0, 0, 0), **given: Any) -> QueueState:
        found = QueueState(name, queue(name).arn, **{"visibility_timeout_s": 30, "retention_s": DAYS_14} | given)
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
            raise NotFoundError(f"queue {name} does not exist")
        return queue(name)

    def state_at(self, address: QueueAddress) -> QueueState:
        visible, in_flight, delayed = self.depths[address.name]
        return replace(self.queues[address.name], visible=visible, in_flight=in_flight, delayed=delayed)

    def sources(self, dlq: QueueAddress) -> list[QueueAddress]:
        self._check("sources")
        return [queue(name) for name, item in self.queues.items() if item.dlq_arn == dlq.arn]

    def targets(self, bus: str, rule: str) -> tuple[RuleTarget, ...]:
        self._check("rules")
        if (bus, rule) not in self.targets_of:
            raise NotFoundError(f"rule {rule} does not exist")
        return self.targets_of[bus, rule]

    def read(self, wanted: Mapping[str, Metric], since: datetime, until: datetime) -> dict[str, tuple[DataPoint, ...]]:
        self._check("metrics")
        return {name: (DataPoint(NOW, self.ages[name]),) if name in self.ages else () for name in wanted}

    def _check(self, what: str) -> None:
        if what in self.broken:
            raise self.broken[what]

    def reader(self, _region: str | None = None) -> QueueReader:
        client: Any = self
        return QueueReader(client, client, client)

    def one(self, name: str) -> DeadLetterQueue:
        queues, _ = list_queues([RequestedQueue(name)], self.reader, NOW)
        return queues[0]


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


def of_stack(name: str, kind: DlqKind, *sources: str) -> RequestedQueue:
    return RequestedQueue(name, kind, tuple(MessageSource(source, exists=None) for source in sources))


def test_dlq_of_a_queue_names_its_source_and_expiry(aws: FakeAws) -> None:
    aws.add_pair("a")
    aws.ages["a-dlq"] = 3600.0

    found = aws.one(queue("a-dlq").url)

    assert (found.kind, found.sources) == (DlqKind.PROCESSING, (MessageSource("a", queue("a").arn),))
    assert (found.depth, found.visible, found.in_flight) == (4, 3, 1)
    assert found.oldest_age_s == 3600
    assert found.expires_in_s == DAYS_14 - 3600 - 5 * 60  # five receives, each with a visibility timeout of a minute
    assert not found.expires_soon


def test_expires_soon_within_a_day(aws: FakeAws) -> None:
    aws.add_pair("a")
    aws.ages["a-dlq"] = DAYS_14 - 86_400
    assert aws.one("a-dlq").expires_soon
    aws.ages["a-dlq"] = DAYS_14 + 5
    assert aws.one("a-dlq").expires_in_s == 0


def test_expiry_in_a_fifo_queue_counts_from_the_move(aws: FakeAws) -> None:
    aws.add("a.fifo", dlq_arn=queue("dead.fifo").arn, max_receive_count=5)
    aws.add("dead.fifo", depth=(1, 0, 0))
    aws.ages["dead.fifo"] = 100
    assert aws.one("dead.fifo").expires_in_s == DAYS_14 - 100


def test_unknown_age_and_stale_age_of_an_empty_queue_are_not_shown(aws: FakeAws) -> None:
    aws.add_pair("a")
    assert (aws.one("a-dlq").oldest_age_s, aws.one("a-dlq").expires_in_s) == (None, None)
    aws.ages["a-dlq"] = 60
    aws.depths["a-dlq"] = (0, 0, 0)  # CloudWatch is minutes late
    assert aws.one("a-dlq").oldest_age_s is None


def test_dlq_of_a_rule_differs_from_the_target_of_the_rule(aws: FakeAws) -> None:
    aws.add("target", policy=lets_in(RULE))
    aws.add("dead", policy=lets_in(RULE))
    aws.targets_of["bus", "a"] = (RuleTarget("t", queue("target").arn, dlq_arn=queue("dead").arn),)

    found = aws.one("dead")

    assert (found.kind, found.sources) == (DlqKind.DELIVERY, (MessageSource("a", RULE),))
    assert aws.one("target").kind is DlqKind.UNKNOWN
    assert not aws.one("target").is_dlq


def test_dlq_of_a_rule_on_the_default_bus(aws: FakeAws) -> None:
    plain = "arn:aws:events:us-east-1:0:rule/plain"
    aws.add("dead", policy=lets_in(plain))
    aws.targets_of["default", "plain"] = (RuleTarget("t", queue("target").arn, dlq_arn=queue("dead").arn),)
    assert aws.one("dead").sources == (MessageSource("plain", plain),)


def test_deleted_rules_and_patterns_in_a_policy_are_ignored(aws: FakeAws) -> None:
    aws.add("x", policy=lets_in(RULE, "arn:aws:events:us-east-1:0:rule/*", queue("a").arn))
    assert aws.one("x").kind is DlqKind.UNKNOWN


def test_deleted_source_queue_is_named(aws: FakeAws) -> None:
    aws.add_pair("a")
    del aws.queues["a"]
    found = aws.one("a-dlq")
    assert found.kind is DlqKind.PROCESSING
    assert found.sources == (MessageSource("a", queue("a").arn, exists=False),)


def test_queue_with_a_dlq_of_its_own_has_its_max_receive_count(aws: FakeAws) -> None:
    aws.add_pair("a")
    found = aws.reader().read(RequestedQueue("a"))[0]
    assert (found.max_receive_count, found.kind) == (5, DlqKind.UNKNOWN)


def test_unreadable_queues_are_listed_with_their_errors(aws: FakeAws) -> None:
    aws.add_pair("a")
    aws.broken["c-dlq"] = AccessDeniedError("access denied: GetQueueUrl on queue c-dlq")
    wanted = [RequestedQueue("a-dlq"), of_stack("b-dlq", DlqKind.PROCESSING, "b"), RequestedQueue("c-dlq")]

    queues, _ = list_queues(wanted, aws.reader, NOW)

    assert [item.error for item in queues] == [
        None,
        "queue b-dlq does not exist",
        "access denied: GetQueueUrl on queue c-dlq",
    ]
    assert queues[1].sources == (MessageSource("b", exists=None),)
    with pytest.raises(NotFoundError, match="queue b-dlq does not exist"):
        list_queues(wanted[1:], aws.reader, NOW)
    with pytest.raises(AccessDeniedError):
        aws.reader().read(wanted[2])


def test_age_is_read_in_the_region_of_the_queue() -> None:
    here, there = FakeAws(), FakeAws()
    for world, age in ((here, 100.0), (there, 200.0)):
        world.add_pair("a")
        world.ages["a-dlq"] = age
    wanted = [RequestedQueue(text) for text in ("a-dlq", "arn:aws:sqs:eu-west-1:0:a-dlq", "a-dlq")]

    queues, _ = list_queues(wanted, lambda region: {None: here, "eu-west-1": there}[region].reader(), NOW)

    assert [item.oldest_age_s for item in queues] == [100, 200, 100]


def test_denied_reads_are_problems_beside_the_counts(aws: FakeAws) -> None:
    aws.add_pair("a")
    aws.add("dead", policy=lets_in(RULE))
    for what in ("sources", "rules", "metrics"):
        aws.broken[what] = AccessDeniedError(f"access denied: {what}")
    wanted = [of_stack("a-dlq", DlqKind.PROCESSING, "a"), RequestedQueue("dead")]

    queues, problems = list_queues(wanted, aws.reader, NOW)

    assert (queues[0].depth, queues[0].kind) == (4, DlqKind.PROCESSING)  # as the stack says
    assert queues[0].sources == (MessageSource("a", exists=None),)
    assert queues[1].kind is DlqKind.UNKNOWN
    assert [problem.rpartition(": ")[2] for problem in problems] == ["sources", "sources", "rules", "metrics"]


class TestDlqsOfAStack:
    def test_refiner_has_two_for_each_ruleset_and_that_of_the_forwarding_rule(self) -> None:
        assert STACK.pipeline
        values = {"rulesets": {"A": {"prefix": "A/", "image_uri": "i"}, "B": {"prefix": "B/", "image_uri": None}}}
        pipeline = STACK.pipeline(STACK.settings, values)
        assert [(item.text, item.kind, item.sources[0].name) for item in dlqs_of(pipeline)] == [
            ("dibbs-ecr-A-dlq", DlqKind.PROCESSING, "dibbs-ecr-A"),
            ("dibbs-ecr-B-dlq", DlqKind.PROCESSING, "dibbs-ecr-B"),
            ("dibbs-ecr-A-delivery-dlq", DlqKind.DELIVERY, "dibbs-ecr-A"),
            ("dibbs-ecr-B-delivery-dlq", DlqKind.DELIVERY, "dibbs-ecr-B"),
            ("dibbs-ecr-forward-delivery-dlq", DlqKind.DELIVERY, "dibbs-ecr-forward"),
        ]

    def test_rnr_has_those_of_functions_and_one_on_its_broker(self) -> None:
        assert RNR.pipeline
        pipeline = RNR.pipeline(RNR.settings, {})
        (broker,) = pipeline.by_kind(base.Broker)
        found = {item.text: item for item in dlqs_of(pipeline)}
        assert {name for name, item in found.items() if item.broker} == {"rnr-local-work-dlq"}
        assert found["rnr-local-work-dlq"].broker == broker
        assert found["rnr-local-producer-dlq"].kind is DlqKind.DELIVERY
        assert len(found) == 7

    def test_of_schedules_queues_without_consumer_and_a_shared_dlq(self) -> None:
        shared = base.Queue("shared-dlq")
        pipeline = base.Pipeline(
            "p",
            (
                base.Stage("nightly", base.Schedule("nightly", dlq=shared), consumer=base.Function("nightly")),
                base.Stage("hourly", base.Schedule("hourly", dlq=shared)),
                base.Stage("waiting", queue=base.Queue("waiting", dlq=base.Queue("waiting-dlq"))),
                base.Stage("bare", queue=base.Queue("bare")),
            ),
        )
        assert dlqs_of(pipeline) == (
            of_stack("waiting-dlq", DlqKind.PROCESSING, "waiting"),
            of_stack("shared-dlq", DlqKind.DELIVERY, "nightly", "hourly"),
        )


def test_requested_queue_has_the_name_and_region_of_its_arn() -> None:
    requested = RequestedQueue("arn:aws:sqs:eu-west-1:0:x-dlq")
    assert (requested.name, requested.region) == ("x-dlq", "eu-west-1")
