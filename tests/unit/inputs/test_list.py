"""The status of inputs: completed, in a DLQ, recent, or none of these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from refinerctl.aws.messages import Message
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import AccessDeniedError, UsageError
from refinerctl.inputs.list import InputStatus, ListedInput, choose_stages, find_inputs, input_json, summary
from refinerctl.inputs.listing import SETTLED
from refinerctl.stacks.base import EventRule, Pipeline, Queue
from tests.unit.fakes import START, FakeQueues
from tests.unit.insight.fakes import Account, stage_of

IN, LAB = stage_of("In"), stage_of("Lab")
DONE = stage_of("Done", "RefinerComplete/", has_function=False)
QUEUE, DLQ, DELIVERY = "x-In", "x-In-dlq", "x-In-delivery-dlq"
FORWARD = EventRule("forward", "default", dlq=Queue("forward-dlq"))
NOW = START + timedelta(hours=1)


@pytest.fixture
def account() -> Account:
    return Account((IN, DONE), shared=(FORWARD,))


def listed(account: Account, prefix: str | None = None, since: datetime | None = None) -> dict[str, ListedInput]:
    return {item.info.key: item for item in find_inputs(account.app, prefix, since, NOW).items}


def event(key: str, *, sent_at: datetime = START, bucket: str = "data-repository", number: int = 1) -> Message:
    body = json.dumps({"detail": {"bucket": {"name": bucket}, "object": {"key": key}}})
    return Message(body, sent_at, 5, id=f"{key}-{number}")


class TestStatus:
    def test_an_input_with_a_completion_is_completed(self, account: Account) -> None:
        account.bucket.write("In/a")
        account.bucket.write("RefinerComplete/a.json")
        assert listed(account)["In/a"].status is InputStatus.COMPLETED
        assert listed(account)["In/a"].completion_key == "RefinerComplete/a.json"

    def test_an_input_without_completion_and_messages_is_incomplete(self, account: Account) -> None:
        account.bucket.write("In/a")
        found = listed(account)["In/a"]
        assert (found.status, found.may_be_in, found.dlq) == (InputStatus.INCOMPLETE, (), None)
        assert account.queues.requests["peek"] == 0  # empty queues are not received from

    @pytest.mark.parametrize("dlq", [DLQ, DELIVERY, "forward-dlq"])
    def test_an_input_whose_message_is_in_a_dlq_has_failed(self, account: Account, dlq: str) -> None:
        account.bucket.write("In/a")
        account.bucket.write("In/b")
        account.queues.messages[dlq] = [event("In/a"), event("In/b", bucket="other"), Message("no event", START, 1)]
        found = listed(account)
        assert (found["In/a"].status, found["In/a"].dlq) == (InputStatus.FAILED, dlq)
        assert found["In/b"].status is InputStatus.INCOMPLETE

    @pytest.mark.parametrize(("age_s", "status"), [(1, "failed"), (60, "incomplete")])
    def test_a_message_that_was_sent_before_the_input_was_written_is_of_another_version(
        self, account: Account, age_s: int, status: str
    ) -> None:
        """S3's times are whole seconds."""
        account.bucket.write("In/a")
        account.queues.messages[DLQ] = [event("In/a", sent_at=START - timedelta(seconds=age_s))]
        assert listed(account)["In/a"].status == status

    @pytest.mark.parametrize(("late_s", "status"), [(0, "incomplete"), (1, "under-way")])
    def test_a_recent_input_is_under_way(self, account: Account, late_s: int, status: str) -> None:
        """Delivery takes a moment, processing up to the function's timeout of 60 s."""
        account.bucket.write("In/a", at=NOW - SETTLED - timedelta(seconds=60 - late_s))
        assert listed(account)["In/a"].status == status

    def test_an_overwritten_input_is_incomplete(self, account: Account) -> None:
        account.bucket.write("RefinerComplete/a.json", at=START - timedelta(days=1))
        account.bucket.write("In/a")
        assert listed(account)["In/a"].status is InputStatus.INCOMPLETE
        assert listed(account)["In/a"].has_older_completion

    def test_inputs_before_since_are_not_listed(self, account: Account) -> None:
        account.bucket.write("In/old", at=START - timedelta(days=2))
        account.bucket.write("In/new")
        assert list(listed(account, since=START - timedelta(days=1))) == ["In/new"]


class TestUnreadMessages:
    """Where an incomplete input may be, although that is not known."""

    @pytest.fixture(autouse=True)
    def _input(self, account: Account) -> None:
        account.bucket.write("In/a")

    def test_a_queue_with_messages(self, account: Account) -> None:
        account.set_counts(QUEUE, visible=2, in_flight=1)
        assert listed(account)["In/a"].may_be_in == (QUEUE,)
        assert find_inputs(account.app, None, None, NOW).unread == {QUEUE: "3 messages"}
        assert account.queues.requests["peek"] == 0  # a receive more could move a message to the DLQ

    def test_a_message_that_moves_into_the_queue_while_dlqs_are_read(self, account: Account) -> None:
        class Moving(FakeQueues):
            def state(self, name: str) -> QueueState:
                found = super().state(name)
                if name == DLQ:  # somebody redrives it
                    self.messages[QUEUE] = [event("In/a")]
                return found

        account.queues = Moving()
        account.queues.messages = {QUEUE: [], DLQ: [], DELIVERY: [], "forward-dlq": []}
        assert listed(account)["In/a"].may_be_in == (QUEUE,)

    def test_a_dlq_with_more_messages_than_were_received(self, account: Account) -> None:
        account.queues.messages[DLQ] = [event("In/b"), event("In/b"), event("In/c")]  # SQS gave one of them twice
        assert find_inputs(account.app, None, None, NOW).unread == {DLQ: "1 message not received"}

    def test_a_dlq_with_messages_in_flight(self, account: Account) -> None:
        account.set_counts(DLQ, in_flight=4)
        assert find_inputs(account.app, None, None, NOW).unread == {DLQ: "4 messages not received"}

    def test_a_queue_that_may_not_be_read(self, account: Account) -> None:
        class Denied(FakeQueues):
            def state(self, name: str) -> QueueState:
                raise AccessDeniedError(f"access denied: {name}")

        account.queues = Denied()
        assert set(listed(account)["In/a"].may_be_in) == {QUEUE, DLQ, DELIVERY, "forward-dlq"}

    def test_a_queue_that_does_not_exist_holds_nothing(self, account: Account) -> None:
        account.queues.messages.clear()
        assert listed(account)["In/a"].may_be_in == ()

    def test_messages_of_one_stage_do_not_count_for_another(self) -> None:
        account = Account((IN, LAB))
        account.bucket.write("In/a")
        account.bucket.write("Lab/b")
        account.set_counts(QUEUE, visible=1)
        found = listed(account)
        assert (found["In/a"].may_be_in, found["Lab/b"].may_be_in) == ((QUEUE,), ())


class TestPrefix:
    PIPELINE = Pipeline("x", (IN, LAB, stage_of("Deep", "team/In/"), DONE))

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            (None, ["In/", "Lab/", "team/In/"]),
            ("/In/2026", ["In/2026"]),
            ("team/", ["team/In/"]),
            ("team/In/x/", ["team/In/x/"]),
        ],
    )
    def test_stages_with_a_function_whose_inputs_are_there(self, prefix: str | None, expected: list[str]) -> None:
        assert [below for _, below in choose_stages(self.PIPELINE, prefix)] == expected

    @pytest.mark.parametrize("prefix", ["Elsewhere/", "RefinerComplete/", "in/"])
    def test_a_prefix_without_inputs(self, prefix: str) -> None:
        with pytest.raises(UsageError, match="no stage with a function") as caught:
            choose_stages(self.PIPELINE, prefix)
        assert "In/, Lab/, team/In/" in str(caught.value.hint)


class TestSummary:
    COUNTS: Mapping[InputStatus, int] = {InputStatus.COMPLETED: 1200, InputStatus.INCOMPLETE: 2}

    def test_incomplete_inputs_and_the_command_for_them(self) -> None:
        assert list(summary(self.COUNTS, {"q": "3 messages"}, "refinerctl replay --incomplete")) == [
            "1,202 inputs: 1,200 completed, 2 incomplete",
            "incomplete inputs may still have messages in q (3 messages)",
            "to send incomplete inputs through the pipeline again, run `refinerctl replay --incomplete`",
        ]

    def test_without_incomplete_inputs_there_is_nothing_to_do(self) -> None:
        assert list(summary({InputStatus.COMPLETED: 1}, {"q": "3 messages"}, "x")) == ["1 input: 1 completed"]
        assert list(summary({}, {}, "x")) == ["0 inputs"]


def test_json_of_an_input(account: Account) -> None:
    account.bucket.write("In/a", b"12345")
    assert input_json(replace(listed(account)["In/a"], may_be_in=(QUEUE,))) == {
        "key": "In/a",
        "stage": "In",
        "size": 5,
        "last_modified": START,
        "status": "incomplete",
        "completion_key": None,
        "dlq": None,
        "may_be_in": (QUEUE,),
        "has_older_completion": False,
    }
