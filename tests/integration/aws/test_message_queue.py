"""A queue over the wire: what each call does, and what is known of one that failed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from refinerctl.aws.message_queue import MessageQueue, MessageQueues
from refinerctl.aws.messages import MessageAttribute, OutgoingMessage, QueueAddress
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import Queues
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, TransientError
from tests.sqs.faults import Fault, Kind, denied, expired, sqs_faults, throttled, unavailable
from tests.sqs.server import SqsServer, sqs_server


@pytest.fixture(scope="module")
def server() -> Iterator[SqsServer]:
    with sqs_server() as server:
        yield server


def session_at(url: str) -> AwsSession:
    return AwsSession("us-east-1", profile=None, endpoint_url=url, embedded=True)


def queue_at(server: SqsServer, name: str, url: str | None = None, answer_timeout_s: float = 30.0) -> MessageQueue:
    address = QueueAddress(name, server.queue_url(name), server.arn(name))
    return MessageQueues(session_at(url or server.url), answer_timeout_s).at(address)


@pytest.fixture
def queue(server: SqsServer, request: pytest.FixtureRequest) -> MessageQueue:
    name = request.node.originalname.removeprefix("test_")[:80]
    server.create(name)
    server.clear(name)
    return queue_at(server, name)


class TestCalls:
    def test_a_message_keeps_all_attributes(self, queue: MessageQueue) -> None:
        attributes = {
            "text": MessageAttribute("String.custom", "größe"),
            "count": MessageAttribute("Number", "12"),
            "bytes": MessageAttribute("Binary.png", bytes(range(256))),
        }
        message = OutgoingMessage('{"ü": "\\u0000"}', attributes, group="a group", trace_header="Root=1-2")
        [result] = queue.send([message])
        [letter] = queue.receive(10, visibility_s=30, wait_s=1)
        assert letter.id == result.message_id
        assert (letter.body, letter.attributes) == (message.body, attributes)
        assert letter.system["MessageGroupId"] == "a group"
        assert letter.system["AWSTraceHeader"] == "Root=1-2"
        assert (letter.receive_count, letter.receipt != "") == (1, True)
        assert abs(letter.sent_at - datetime.now(UTC)) < timedelta(seconds=30)

    def test_messages_are_released_and_deleted(self, queue: MessageQueue) -> None:
        queue.send([OutgoingMessage(f"message {number}") for number in range(10)])
        letters = queue.receive(10, visibility_s=30, wait_s=1)
        assert (queue.attributes().visible, queue.attributes().in_flight) == (0, 10)
        assert all(result.is_done for result in queue.change_visibility([letter.receipt for letter in letters[:5]], 0))
        assert (queue.attributes().visible, queue.attributes().in_flight) == (5, 5)
        assert all(result.is_done for result in queue.delete([letter.receipt for letter in letters[5:]]))
        assert queue.attributes().total == 5

    def test_each_entry_has_its_own_result(self, queue: MessageQueue) -> None:
        results = queue.send([OutgoingMessage("one"), OutgoingMessage("\x00"), OutgoingMessage("three")])
        assert [result.is_done for result in results] == [True, False, True]
        assert (results[1].error, results[1].is_sender_fault) == ("InvalidMessageContents", True)
        assert (results[1].is_uncertain, results[1].cause) == (False, None)
        assert queue.delete(["no receipt"])[0].error == "ReceiptHandleIsInvalid"

    def test_an_empty_queue(self, queue: MessageQueue) -> None:
        assert queue.receive(10, visibility_s=30, wait_s=0) == []

    def test_no_such_queue(self, server: SqsServer) -> None:
        missing = queue_at(server, "missing")
        with pytest.raises(NotFoundError, match="queue missing does not exist"):
            missing.attributes()
        with pytest.raises(NotFoundError):
            missing.receive(1, visibility_s=30, wait_s=0)
        [result] = missing.send([OutgoingMessage("one")])
        assert isinstance(result.cause, NotFoundError)
        assert (result.is_uncertain, result.is_sender_fault) == (False, False)

    def test_a_batch_that_is_too_long_is_the_senders_fault(self, queue: MessageQueue) -> None:
        results = queue.send([OutgoingMessage("x" * 600_000), OutgoingMessage("y" * 600_000)])
        assert [(result.is_sender_fault, result.is_uncertain) for result in results] == [(True, False)] * 2
        assert results[0].cause is not None


class TestFailures:
    @pytest.mark.parametrize(
        ("fault", "is_uncertain"),
        [
            (throttled(""), False),
            (unavailable(""), True),
            (Fault(Kind.LOSE_ANSWER), True),
            (Fault(Kind.RESET_HALFWAY), True),
            (Fault(Kind.TRUNCATE), True),
            (Fault(Kind.STALL), True),
            (Fault(Kind.HTML), True),
        ],
        ids=lambda value: value.kind.name + value.code if isinstance(value, Fault) else "",
    )
    def test_transient_errors(self, server: SqsServer, fault: Fault, is_uncertain: bool) -> None:
        server.create("faulty")
        with sqs_faults(server.url, fault) as proxy:
            queue = queue_at(server, "faulty", proxy.url, 0.5 if fault.kind is Kind.STALL else 30)
            results = queue.send([OutgoingMessage("one"), OutgoingMessage("two")])
            assert [result.is_uncertain for result in results] == [is_uncertain] * 2
            assert isinstance(results[0].cause, TransientError)
            fault.times, fault.seen = 1, 0
            with pytest.raises(TransientError):
                queue.receive(1, visibility_s=1, wait_s=0)

    @pytest.mark.parametrize("fault", [denied(""), expired("")], ids=["denied", "expired"])
    def test_denied_and_expired_credentials(self, server: SqsServer, fault: Fault) -> None:
        server.create("denied")
        fault.times = None
        with sqs_faults(server.url, fault) as proxy:
            queue = queue_at(server, "denied", proxy.url)
            [result] = queue.delete(["a receipt"])
            assert isinstance(result.cause, AccessDeniedError)
            assert not result.is_uncertain
            with pytest.raises(AccessDeniedError):
                queue.receive(1, visibility_s=1, wait_s=0)

    @pytest.mark.parametrize("status", [307, 403, 407, 413])
    def test_an_answer_of_a_proxy_is_uncertain(self, server: SqsServer, status: int) -> None:
        """It stops the run, and nobody knows whether it refused the request or the answer to it."""
        server.create("between")
        with sqs_faults(server.url, Fault(Kind.HTML, page_status=status)) as proxy:
            [result] = queue_at(server, "between", proxy.url).send([OutgoingMessage("one")])
        assert result.is_uncertain
        assert not result.is_sender_fault
        assert not isinstance(result.cause, TransientError | None)

    def test_an_entry_without_a_result_is_uncertain(self, server: SqsServer) -> None:
        server.create("omitted")
        with sqs_faults(server.url, Fault(Kind.OMIT_ENTRIES)) as proxy:
            results = queue_at(server, "omitted", proxy.url).send([OutgoingMessage("one"), OutgoingMessage("two")])
        assert [(result.is_done, result.is_uncertain) for result in results] == [(True, False), (False, True)]

    def test_a_refused_connection_is_certain(self, server: SqsServer) -> None:
        with sqs_faults(server.url) as proxy:
            queue = queue_at(server, "any", proxy.url)
        left: list[str] = []
        [result] = queue.send([OutgoingMessage("one")], lambda: left.append("left"))
        assert (result.error, result.is_uncertain, left) == ("NoAnswer", False, [])
        assert isinstance(result.cause, TransientError)
        assert "no response from AWS" in result.message

    def test_leaving_is_called_before_the_request(self, server: SqsServer) -> None:
        server.create("leaving")
        queue = queue_at(server, "leaving")
        there: list[int] = []
        queue.send([OutgoingMessage("one")], lambda: there.append(server.depth("leaving")))
        assert (there, server.depth("leaving")) == ([0], 1)

    def test_a_missing_ca_bundle(self, server: SqsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/ca.pem")
        session = AwsSession("us-east-1", profile=None, endpoint_url="https://127.0.0.1:1", embedded=False)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        queue = MessageQueues(session).at(QueueAddress("q", "https://127.0.0.1:1/0/q", "arn:aws:sqs:us-east-1:0:q"))
        with pytest.raises(RefinerctlError, match=r"/nowhere/ca\.pem cannot be read"):
            queue.attributes()


class TestPeekEach:
    def test_several_workers_receive_each_message_once_and_release_all(self, server: SqsServer) -> None:
        server.create("peeked")
        server.fill("peeked", 700)
        bodies: list[str] = []
        received = Queues(session_at(server.url)).peek_each("peeked", lambda item: bodies.append(item.body), 800, 4)
        assert received == 700
        assert sorted(bodies) == sorted(server.bodies("peeked"))
        assert {message.state for message in server.messages("peeked")} == {"visible"}

    @pytest.mark.parametrize("workers", [1, 4])
    def test_it_ends_early_and_releases_all(self, server: SqsServer, workers: int) -> None:
        name = f"peeked-early-{workers}"
        server.create(name)
        server.fill(name, 700)
        received = Queues(session_at(server.url)).peek_each(name, lambda item: '"id": 7}' in item.body, 800, workers)
        assert received <= 10 * (workers + 1)
        assert {message.state for message in server.messages(name)} == {"visible"}


class TestAddresses:
    @pytest.fixture
    def queues(self, server: SqsServer) -> Queues:
        server.create("here")
        return Queues(session_at(server.url))

    def test_by_name_url_and_arn(self, server: SqsServer, queues: Queues) -> None:
        address = QueueAddress("here", server.queue_url("here"), server.arn("here"))
        for text in ("here", address.url, address.arn):
            assert queues.address(text) == address

    def test_in_another_region(self, queues: Queues) -> None:
        assert queues.address("arn:aws:sqs:eu-west-1:000000000000:here").arn.startswith("arn:aws:sqs:eu-west-1:")

    @pytest.mark.parametrize("text", ["nowhere", "arn:aws:sqs:us-east-1:000000000000:nowhere"])
    def test_no_such_queue(self, queues: Queues, text: str) -> None:
        with pytest.raises(NotFoundError, match="queue nowhere does not exist"):
            queues.address(text)
