"""Replays: which inputs are sent, the message of each, and what comes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from refinerctl.aws.ecs_services import Deployment, ServiceState
from refinerctl.aws.events import EventBuses, RuleTarget
from refinerctl.aws.message_queue import MessageQueue
from refinerctl.aws.messages import EntryResult, OutgoingMessage, QueueAddress
from refinerctl.aws.s3 import ObjectInfo
from refinerctl.errors import AccessDeniedError, RefusedError, TransientError, UsageError
from refinerctl.inputs.replay import (
    RateLimiter,
    Replay,
    given_keys,
    incomplete_keys,
    look_up,
    send,
)
from refinerctl.inputs.targets import Target, check_consumers, find_targets
from refinerctl.stacks.base import Broker, Queue, Stage
from refinerctl.stacks.rnr import STACK as RNR
from tests.unit.fakes import START, FakeBucket, FakeQueues
from tests.unit.insight.fakes import Account, stage_of

IN, LAB = stage_of("In"), stage_of("Lab")
DONE = stage_of("Done", "RefinerComplete/", has_function=False)
NOW = START + timedelta(hours=1)
QUEUE = QueueAddress("x-In", "https://sqs/x-In", "arn:aws-us-gov:sqs:us-gov-west-1:123456789012:x-In")
TARGET = Target(IN, QUEUE)
assert RNR.pipeline is not None
(WORKER,) = RNR.pipeline(RNR.settings, {}).choose(("worker",))


def service_state(status: str = "ACTIVE", deployments: tuple[Deployment, ...] = ()) -> ServiceState:
    return ServiceState("rnr-local-worker", "arn", "rnr-local", status, 0, 0, 0, "td:1", deployments)


def info(key: str = "In/a", etag: str = '"6f5902ac237024bdd0c176cb93063dc4"', version: str | None = "v1") -> ObjectInfo:
    return ObjectInfo(key, 12, etag, START, version)


def body(item: ObjectInfo) -> Any:
    return json.loads(TARGET.message("data-repository", item).body)


def paths(document: Any, path: str = "") -> set[str]:
    if not isinstance(document, dict):
        return {path}
    return {found for name, value in document.items() for found in paths(value, f"{path}/{name}")}


class TestMessage:
    def test_it_has_the_fields_of_an_event_that_eventbridge_delivers(self, events: Path) -> None:
        delivered = json.loads((events / "object-created.json").read_text())
        assert paths(body(info())) == paths(delivered) - {"/detail/event-version"}
        unversioned = json.loads((events / "object-created-unversioned.json").read_text())
        assert paths(body(info(version=None))) == paths(unversioned) - {"/detail/event-version"}

    def test_it_is_about_the_version_in_the_account_and_region_of_the_queue(self) -> None:
        event = body(info("In/a b+ü%41.txt"))
        assert event["detail"]["object"] == {
            "key": "In/a b+ü%41.txt",
            "size": 12,
            "etag": "6f5902ac237024bdd0c176cb93063dc4",
            "version-id": "v1",
            "sequencer": "0069A44660FFFFFFFF",
        }
        assert (event["source"], event["detail-type"]) == ("aws.s3", "Object Created")
        assert (event["account"], event["region"]) == ("123456789012", "us-gov-west-1")
        assert event["resources"] == ["arn:aws-us-gov:s3:::data-repository"]
        assert event["time"] == "2026-03-01T14:00:00Z"
        assert event["detail"]["request-id"] == "REFINERCTLREPLAY"

    @pytest.mark.parametrize(("etag", "reason"), [('"abc"', "PutObject"), ('"abc-3"', "CompleteMultipartUpload")])
    def test_the_reason_follows_from_the_etag(self, etag: str, reason: str) -> None:
        assert body(info(etag=etag))["detail"]["reason"] == reason

    def test_a_later_version_has_a_higher_sequencer(self) -> None:
        later = ObjectInfo("In/a", 1, "", START + timedelta(seconds=1))
        assert body(info())["detail"]["object"]["sequencer"] < body(later)["detail"]["object"]["sequencer"]

    def test_characters_that_sqs_does_not_take_are_escaped(self) -> None:
        assert TARGET.message("b", info("In/\x01\uffff🧪")).body.isascii()


class TestGivenKeys:
    def test_each_key_once_with_the_stage_that_receives_it(self) -> None:
        app = Account((IN, LAB, DONE)).app
        assert given_keys(app, ["In/a", "/In/a", "Lab/b", "RefinerComplete/a.json"]) == [
            ("In/a", IN),
            ("Lab/b", LAB),
            ("RefinerComplete/a.json", DONE),
        ]

    def test_a_key_that_no_stage_receives(self) -> None:
        with pytest.raises(UsageError, match="no stage with a queue receives Elsewhere/a") as caught:
            given_keys(Account((IN, DONE)).app, ["In/a", "Elsewhere/a"])
        assert "In/, RefinerComplete/" in str(caught.value.hint)


class TestIncompleteKeys:
    @pytest.fixture
    def account(self) -> Account:
        account = Account((IN, LAB))
        for key in ("In/done", "In/lost", "Lab/lost"):
            account.bucket.write(key)
        account.bucket.write("RefinerComplete/done.json")
        account.bucket.write("In/recent", at=NOW)
        return account

    def test_inputs_without_completion_and_message(self, account: Account, capsys: pytest.CaptureFixture[str]) -> None:
        assert incomplete_keys(account.app, None, None, NOW, force=False) == [("In/lost", IN), ("Lab/lost", LAB)]
        told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
        assert len(told) == 1
        assert "no input of Lab has a completion; check that its function writes them" in told[0]

    def test_inputs_that_may_be_in_a_queue_are_left_out(
        self, account: Account, capsys: pytest.CaptureFixture[str]
    ) -> None:
        account.set_counts("x-In", visible=3)
        assert incomplete_keys(account.app, None, None, NOW, force=False) == [("Lab/lost", LAB)]
        assert "may still have messages in x-In (3 messages); they are not sent" in capsys.readouterr().err

    def test_it_is_refused_if_all_may_be_in_a_queue(self, account: Account) -> None:
        account.set_counts("x-In", in_flight=1)
        with pytest.raises(RefusedError, match=r"may still have messages in x-In \(1 message\)"):
            incomplete_keys(account.app, "In/", None, NOW, force=False)
        assert incomplete_keys(account.app, "In/", None, NOW, force=True) == [("In/lost", IN)]

    def test_without_incomplete_inputs_there_is_nothing_to_send(self, account: Account) -> None:
        account.set_counts("x-In", in_flight=1)
        assert incomplete_keys(account.app, "In/d", None, NOW, force=False) == []


class Addresses(FakeQueues):
    """Finds every queue."""

    def address(self, text: str) -> QueueAddress:
        return QueueAddress(text, f"https://sqs/{text}", f"arn:aws:sqs:us-east-1:123456789012:{text}")


class Rules(EventBuses):
    """Rules with these targets; none of them may be read without any."""

    def __init__(self, *targets: RuleTarget) -> None:
        self._targets = targets

    def targets(self, bus: str, rule: str) -> tuple[RuleTarget, ...]:
        if not self._targets:
            raise AccessDeniedError(f"access denied: rule {rule}")
        return self._targets


class TestTargets:
    ARN = "arn:aws:sqs:us-east-1:123456789012:x-In"

    def find(self, *targets: RuleTarget, stage: Stage = IN) -> dict[Stage, Target]:
        app = Account((IN,)).app
        app.queues, app.event_buses = Addresses(), Rules(*targets)
        return find_targets(app, [stage, stage])

    def test_each_stage_has_the_queue_of_its_rule(self) -> None:
        others = RuleTarget("log", "arn:aws:logs:us-east-1:123456789012:log-group:x", changes_event=True)
        (target,) = self.find(others, RuleTarget("queue", self.ARN)).values()
        assert (target.stage, target.queue.arn) == (IN, self.ARN)

    def test_a_rule_that_changes_events_is_refused(self) -> None:
        with pytest.raises(RefusedError, match="rule x-In changes the events that it sends to x-In"):
            self.find(RuleTarget("queue", self.ARN, changes_event=True))

    def test_a_rule_that_may_not_be_read_is_a_warning(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert list(self.find()) == [IN]
        assert "cannot check whether rule x-In changes events: access denied: rule x-In" in capsys.readouterr().err

    def test_a_fifo_queue_is_refused(self) -> None:
        with pytest.raises(RefusedError, match=r"jobs\.fifo is a FIFO queue"):
            self.find(stage=Stage("jobs", queue=Queue("jobs.fifo")))

    def test_a_broker_that_cannot_be_reached_is_an_error_that_says_what_to_do(self) -> None:
        with pytest.raises(TransientError, match="broker rnr-local-broker cannot be reached") as unreachable:
            find_targets(Account((WORKER,), RNR).app, [WORKER])
        assert unreachable.value.hint == "Forward a port."

    def test_a_stack_without_messages_for_a_broker_is_refused(self) -> None:
        with pytest.raises(RefusedError, match="stack refiner does not define the messages of queue work"):
            self.find(stage=Stage("work", queue=Queue("work", broker=Broker("rabbit"))))


class TestServices:
    def warnings(self, account: Account, capsys: pytest.CaptureFixture[str], *, force: bool = False) -> str:
        target = Target(WORKER, QueueAddress("rnr-local-work", "amqp://broker/%2F/rnr-local-work", ""))
        check_consumers(account.app, [target], NOW, force=force)
        return capsys.readouterr().err

    def test_a_service_without_tasks_is_healthy(self, capsys: pytest.CaptureFixture[str]) -> None:
        account = Account((WORKER,), RNR)
        account.services.known["rnr-local-worker"] = service_state()
        assert self.warnings(account, capsys) == ""

    def test_a_service_that_does_not_exist_or_is_being_deleted_is_refused(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        account = Account((WORKER,), RNR)
        with pytest.raises(RefusedError, match="service rnr-local-worker of cluster rnr-local does not exist"):
            self.warnings(account, capsys)
        account.services.known["rnr-local-worker"] = service_state(status="DRAINING")
        with pytest.raises(RefusedError, match="service rnr-local-worker is DRAINING"):
            self.warnings(account, capsys)
        assert "service rnr-local-worker is DRAINING" in self.warnings(account, capsys, force=True)

    def test_a_failed_deployment_is_a_warning(self, capsys: pytest.CaptureFixture[str]) -> None:
        account = Account((WORKER,), RNR)
        failed = Deployment("td:2", "PRIMARY", "FAILED", "tasks failed to start")
        account.services.known["rnr-local-worker"] = service_state(deployments=(failed,))
        assert "the last deployment of service rnr-local-worker failed: tasks failed" in self.warnings(account, capsys)


def test_the_current_version_is_looked_up() -> None:
    bucket = FakeBucket()
    bucket.write("In/a", b"old")
    newest = bucket.write("In/a", b"new")
    bucket.write("In/denied")
    bucket.denied.add("In/denied")
    found, missing = look_up(bucket, [("In/a", TARGET), ("In/gone", TARGET), ("In/denied", TARGET)])
    assert found == {TARGET: [newest]}
    assert [(item.key, item.status.value, item.error) for item in missing] == [
        ("In/gone", "failed", "the object does not exist"),
        ("In/denied", "failed", "access denied: head on s3://data-repository/In/denied"),
    ]


class ScriptedQueue(MessageQueue):
    """Gives these answers, one list for each call; then everything is sent."""

    def __init__(self, *answers: list[EntryResult]) -> None:
        self.answers = list(answers)
        self.calls: list[list[str]] = []

    def send(
        self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = lambda: None
    ) -> list[EntryResult]:
        self.calls.append([message.body for message in messages])
        return self.answers.pop(0) if self.answers else [EntryResult(f"id-{len(self.calls)}") for _ in messages]


SENT = EntryResult("id")
LOST = EntryResult(error="NoAnswer", message="no answer", is_uncertain=True, cause=TransientError("no answer"))
BUSY = EntryResult(error="RequestThrottled", message="too many", cause=TransientError("too many"))
DENIED = EntryResult(error="AccessDenied", message="access denied", cause=AccessDeniedError("access denied"))
BAD = EntryResult(error="InvalidMessageContents", message="bad", is_sender_fault=True)


def sent(queue: ScriptedQueue, *keys: str) -> list[Replay]:
    return send(queue, TARGET, "data-repository", [info(key) for key in keys], pause_s=0)


class TestSend:
    def test_each_input_is_sent_once(self) -> None:
        queue = ScriptedQueue()
        assert [(item.key, item.status.value, item.message_id, item.error) for item in sent(queue, "In/a", "In/b")] == [
            ("In/a", "sent", "id-1", None),
            ("In/b", "sent", "id-1", None),
        ]
        assert len(queue.calls) == 1

    def test_what_failed_for_a_moment_is_sent_again_with_the_same_event(self) -> None:
        queue = ScriptedQueue([SENT, BUSY], [LOST])
        a, b = sent(queue, "In/a", "In/b")
        assert (a.status.value, a.error) == ("sent", None)
        assert (b.status.value, b.error) == ("sent", "may have been sent twice")
        assert queue.calls[1] == queue.calls[2] == queue.calls[0][1:]

    @pytest.mark.parametrize(
        ("answer", "calls", "error"),
        [
            (DENIED, 1, "not sent: access denied"),
            (BAD, 1, "not sent: bad"),
            (BUSY, 5, "not sent: too many"),
            (LOST, 5, "may have been sent: no answer"),
        ],
    )
    def test_what_cannot_be_sent_has_failed(self, answer: EntryResult, calls: int, error: str) -> None:
        queue = ScriptedQueue(*[[answer]] * calls)
        (item,) = sent(queue, "In/a")
        assert (item.status.value, item.message_id, item.error) == ("failed", None, error)
        assert len(queue.calls) == calls

    def test_a_failure_after_an_answer_that_was_lost_may_have_been_sent(self) -> None:
        (item,) = sent(ScriptedQueue([LOST], [DENIED]), "In/a")
        assert item.error == "may have been sent: access denied"


@pytest.mark.parametrize(("rate", "batch"), [(None, 10), (0.5, 1), (4, 4), (100, 10)])
def test_a_batch_holds_no_more_than_a_second_allows(rate: float | None, batch: int) -> None:
    assert RateLimiter(rate).batch == batch


def test_the_rate_is_held() -> None:
    limiter, began = RateLimiter(100), time.monotonic()
    for _ in range(3):
        limiter.wait(10)
    assert time.monotonic() - began >= 0.2
