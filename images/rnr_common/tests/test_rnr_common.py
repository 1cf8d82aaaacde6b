"""What the images have in common: messages, trace context, addresses, log lines, secrets, topology."""

from __future__ import annotations

import json
import re

import pytest

from rnr_common.addresses import server_address
from rnr_common.broker import Broker
from rnr_common.log import Logger, describe_error
from rnr_common.message import MalformedMessageError, WorkMessage
from rnr_common.secret import Secret
from rnr_common.topology import declare, dlq_arguments, queue_arguments
from rnr_common.trace_context import child_traceparent, new_traceparent

MESSAGE = WorkMessage("bucket", "rnr/input/ö +%.xml", None, "abc", 7)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_message_is_the_same_after_its_way_through_the_broker() -> None:
    properties = MESSAGE.properties(TRACEPARENT)

    assert WorkMessage.parse(MESSAGE.body()) == MESSAGE
    assert properties.message_id == MESSAGE.claim_id
    assert properties.delivery_mode == 2
    assert properties.headers == {"traceparent": TRACEPARENT}


def test_unknown_fields_of_a_message_are_ignored() -> None:
    body = json.dumps({**json.loads(MESSAGE.body()), "added": "later"}).encode()

    assert WorkMessage.parse(body) == MESSAGE


@pytest.mark.parametrize(
    "change",
    [{"bucket": None}, {"key": ""}, {"etag": 5}, {"version_id": 1}, {"size": "7"}, {"size": -1}, {"size": True}],
)
def test_malformed_messages_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(MalformedMessageError, match=next(iter(change))):
        WorkMessage.parse(json.dumps({**json.loads(MESSAGE.body()), **change}).encode())


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"null", b"{"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        WorkMessage.parse(body)


def test_a_child_continues_the_trace_with_a_span_of_its_own() -> None:
    child = child_traceparent(TRACEPARENT)

    assert child[:36] == TRACEPARENT[:36]
    assert child != TRACEPARENT
    assert child_traceparent(child)[:36] == TRACEPARENT[:36]


@pytest.mark.parametrize("parent", [None, b"x", "", "00-" + "0" * 32 + "-b7ad6b7169203331-01", TRACEPARENT.upper()])
def test_without_a_valid_parent_a_trace_begins(parent: object) -> None:
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", child_traceparent(parent))
    assert new_traceparent() != new_traceparent()


@pytest.mark.parametrize(
    "url", ["amqps://b-1.mq.example.com:5671", "amqp://127.0.0.1:5672", "amqp://[::1]", "amqp://localhost"]
)
def test_addresses_with_tls_or_on_loopback_are_accepted(url: str) -> None:
    assert server_address("RNR_BROKER_URL", url, "amqps", "amqp").hostname


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("amqp://b-1.mq.example.com", "has no TLS"),
        ("amqp://127.0.0.1.example.com", "has no TLS"),
        ("http://127.0.0.1", "is not like amqps://host"),
        ("127.0.0.1:5672", "is not like amqps://host"),
        ("", "is not like amqps://host"),
        ("amqps://user:hunter2@host", "must not contain credentials"),
    ],
)
def test_other_addresses_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        server_address("RNR_BROKER_URL", url, "amqps", "amqp")

    assert "hunter2" not in str(caught.value)


def test_tls_verifies_the_name_of_the_server() -> None:
    environ = {"RNR_NAME": "rnr-test", "RNR_QUEUE": "q", "RNR_BROKER_URL": "amqps://host", "RNR_BROKER_SECRET": "arn"}
    parameters = Broker(environ, {"username": "u", "password": "p"}).parameters("producer")  # type: ignore[arg-type]

    assert parameters.port == 5671
    assert parameters.ssl_options.context.check_hostname
    assert parameters.ssl_options.server_hostname == "host"


def test_log_lines_are_json_with_the_fields_of_the_logger() -> None:
    lines: list[str] = []
    log = Logger(lines.append, requestId="r").child(messageId="m")

    log.info("record claimed", key="ö", versionId=None)
    log.debug("not written by default")
    log.error("record failed", error=describe_error(ValueError("bad")))

    first, second = (json.loads(line) for line in lines)
    assert first.pop("timestamp").endswith("Z")
    assert first == {"level": "INFO", "message": "record claimed", "requestId": "r", "messageId": "m", "key": "ö"}
    assert (second["error"]["name"], second["error"]["message"]) == ("ValueError", "bad")
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)


class Declared:
    """A channel that remembers what was declared."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def exchange_declare(self, exchange: str, **_: object) -> None:
        self.order.append(f"exchange {exchange}")

    def queue_declare(self, queue: str, **_: object) -> None:
        self.order.append(f"queue {queue}")

    def queue_bind(self, queue: str, exchange: str, routing_key: str) -> None:
        self.order.append(f"{exchange} -{routing_key}-> {queue}")


def test_the_dead_letter_queue_is_declared_before_the_queue_that_needs_it() -> None:
    channel = Declared()

    declare(channel, "q")

    assert channel.order[:3] == ["exchange q-dlq", "queue q-dlq", "q-dlq -q-dlq-> q-dlq"]
    assert channel.order[3:] == ["exchange q", "queue q", "q -q-> q"]
    assert queue_arguments("q")["x-dead-letter-exchange"] == "q-dlq"
    assert dlq_arguments()["x-delivery-limit"] > 1_000_000


class Store:
    """Secrets Manager with one secret, and the number of reads."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.reads = 0

    def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: N803 - the SDK's name
        self.reads += 1
        return {"ARN": SecretId, "SecretString": self.text}


def test_a_secret_is_read_once_and_again_after_it_was_forgotten() -> None:
    store = Store('{"username": "u", "password": "before"}')
    secret = Secret("arn", store)  # type: ignore[arg-type]

    assert (secret["username"], secret["password"], store.reads) == ("u", "before", 1)
    store.text = '{"username": "u", "password": "after"}'
    assert secret["password"] == "before"
    secret.forget()
    assert (secret["password"], store.reads) == ("after", 2)


@pytest.mark.parametrize("text", ["hunter2", '"hunter2"', '["hunter2"]', '{"pass": "hunter2"}'])
def test_errors_about_a_secret_name_it_and_never_show_it(text: str) -> None:
    with pytest.raises(ValueError, match="arn:of-it") as caught:
        Secret("arn:of-it", Store(text))["password"]  # type: ignore[arg-type]

    assert "hunter2" not in str(caught.value)
