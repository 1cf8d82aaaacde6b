"""Objects below the input prefix are claimed and published, whatever fails."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.s3.models import s3_backends

from producer.cache import CLAIM_S, Cache, Claims
from producer.inputs import InputError
from producer.publisher import BrokerError, Publisher
from producer.settings import Settings
from producer.tests.environment import Context, Environment
from rnr_common.broker import Broker
from rnr_common.log import Logger
from rnr_common.message import WorkMessage
from rnr_common.secret import Secret

CLOSED_PORT = 1


def test_each_new_input_is_published_once(environment: Environment) -> None:
    keys = {environment.put(name) for name in ("a.csv", "b/c.csv", "ö +%.csv")}
    environment.put("folder/", b"")

    first, second = environment.run(), environment.run()

    assert (first["found"], first["claimed"], first["published"], first["duplicates"]) == (3, 3, 3, 0)
    assert (second["found"], second["claimed"], second["published"], second["duplicates"]) == (3, 0, 0, 3)
    messages = environment.messages()
    assert {body["key"] for _, body in messages} == keys
    published = {line["messageId"]: line for line in environment.lines("record published")}
    for properties, body in messages:
        message = WorkMessage.parse(json.dumps(body).encode())
        assert (message.bucket, message.version_id, message.size) == ("bucket", None, 1)
        assert (properties.delivery_mode, properties.message_id) == (2, message.claim_id)
        assert properties.headers["traceparent"] == published[message.claim_id]["traceparent"]
    assert set(environment.claims().values()) == {"published"}
    assert environment.lines("run done")[0]["requestId"] == "request-1"


def test_an_input_that_is_overwritten_is_published_again(environment: Environment) -> None:
    environment.put("a.csv", b"first")
    environment.run()
    environment.put("a.csv", b"second")

    assert environment.run()["published"] == 1
    assert len({body["etag"] for _, body in environment.messages()}) == 2


def test_without_redis_inputs_are_published_anyway(environment: Environment) -> None:
    environment.put("a.csv")
    url = f"redis://127.0.0.1:{CLOSED_PORT}"

    results = [environment.run(RNR_CACHE_URL=url) for _ in range(2)]

    assert [(result["published"], result["deduplicated"]) for result in results] == [(1, False), (1, False)]
    assert environment.lines("cache unavailable")[0]["url"] == url
    assert len({properties.message_id for properties, _ in environment.messages()}) == 1


def test_without_the_broker_the_run_fails_and_claims_nothing(environment: Environment) -> None:
    environment.put("a.csv")

    with pytest.raises(BrokerError, match=f"cannot use the broker amqp://127.0.0.1:{CLOSED_PORT}: ConnectionRefused"):
        environment.run(RNR_BROKER_URL=f"amqp://127.0.0.1:{CLOSED_PORT}")

    assert environment.claims() == {}
    failed = environment.lines("run failed")[0]
    assert failed["error"]["name"] == "BrokerError"
    assert environment.rabbitmq.password not in json.dumps(failed)
    assert environment.run()["published"] == 1


def test_a_rotated_password_is_read_again_by_a_warm_function(environment: Environment) -> None:
    environment.put("a.csv")
    environment.set_secret("broker", username=environment.rabbitmq.username, password="an old one")
    producer = environment.producer()
    with pytest.raises(BrokerError, match="refuses the user and password of secret arn:aws:secretsmanager"):
        producer(None, Context())

    environment.set_secret("broker", username=environment.rabbitmq.username, password=environment.rabbitmq.password)

    assert producer(None, Context())["published"] == 1


def test_a_rotated_token_of_the_cache_is_read_again_by_a_warm_function(environment: Environment) -> None:
    environment.put("a.csv")
    producer = environment.producer()
    producer(None, Context())
    client = environment.redis
    try:
        client.config_set("requirepass", "rotated")
        environment.set_secret("cache", token="rotated")

        result = producer(None, Context())
    finally:
        client.config_set("requirepass", environment.redis_server.password)

    assert (result["duplicates"], result["deduplicated"]) == (1, True)


def test_a_claim_without_a_confirm_expires_soon_and_a_confirmed_one_late(environment: Environment) -> None:
    secret = Secret(environment.variables["RNR_CACHE_SECRET"])
    claims = Claims(Cache(environment.redis_server.endpoint, secret, Logger()), environment.queue, 48)

    assert claims.take(["killed", "confirmed", "released"]) == {"killed", "confirmed", "released"}
    claims.confirm(["confirmed"])
    claims.release(["released"])

    expiry = {id_: environment.redis.ttl(f"rnr:claim:{environment.queue}:{id_}") for id_ in ("killed", "confirmed")}
    assert CLAIM_S - 60 < expiry["killed"] <= CLAIM_S
    assert 47 * 3600 < expiry["confirmed"] <= 48 * 3600
    assert claims.take(["killed", "confirmed", "released"]) == {"released"}


def test_claims_of_messages_that_a_full_queue_refuses_are_given_back(environment: Environment) -> None:
    policy = {"pattern": f"^{environment.queue}$", "definition": {"max-length": 5}, "apply-to": "queues"}
    call_api(environment, "PUT", f"policies/%2F/{environment.queue}", policy)
    for number in range(10):
        environment.put(f"{number}.csv")
    with contextlib.suppress(BrokerError):  # a burst may exceed the limit before the queue refuses more
        environment.run()
    for number in range(10, 30):
        environment.put(f"{number}.csv")

    with pytest.raises(BrokerError, match="messages are not published: the broker refused it"):
        environment.run()

    assert len(environment.claims()) < 30
    assert set(environment.claims().values()) == {"published"}
    keys = {body["key"] for _, body in environment.messages()}
    call_api(environment, "DELETE", f"policies/%2F/{environment.queue}")
    environment.wait_for_run()
    assert len(keys | {body["key"] for _, body in environment.messages()}) == 30


def test_a_message_without_a_queue_is_a_failure(environment: Environment) -> None:
    publisher = Publisher(Broker(environment.variables))
    publisher.open(30)
    first, second = ((WorkMessage("bucket", key, None, "etag", 1), "00") for key in "ab")

    before = publisher.publish([first, first], 30)
    with environment.channel() as channel:
        channel.queue_delete(environment.queue)
    after = publisher.publish([second], 30)

    publisher.close()
    assert (before, after) == ({}, {second[0].claim_id: "returned: NO_ROUTE"})


def test_claims_are_given_back_if_the_connection_is_cut(environment: Environment) -> None:
    for number in range(100):
        environment.put(f"{number}.csv")

    with cut_after(environment.rabbitmq.endpoint, 10_000) as address, pytest.raises(BrokerError, match="no confirm"):
        environment.run(RNR_BROKER_URL=address)

    assert "claimed" not in environment.claims().values()
    environment.run()
    assert len({body["key"] for _, body in environment.messages()}) == 100


def test_with_little_time_left_nothing_is_claimed_and_the_rest_is_reported(environment: Environment) -> None:
    for number in range(5):
        environment.put(f"{number}.csv")
    times = iter([300.0])  # when it connects; then the time is over

    result = environment.run(Context(lambda: next(times, 15.0)))

    assert (result["published"], result["left"], result["found"]) == (0, 5, 5)
    assert environment.lines("run stopped: little time left")[0]["left"] == 5
    assert environment.claims() == {}
    assert environment.run()["published"] == 5


def test_a_bucket_that_cannot_be_listed_is_named(environment: Environment) -> None:
    with pytest.raises(InputError, match=r"cannot list s3://missing/rnr/input/: .*NoSuchBucket"):
        environment.run(RNR_INPUT_BUCKET="missing")


def test_objects_older_than_the_lookback_are_not_published(environment: Environment) -> None:
    environment.put("new.csv")
    (bucket,) = (account["aws"].buckets["bucket"] for account in s3_backends.values() if "aws" in account)
    bucket.keys[environment.put("old.csv")].last_modified = datetime.now(UTC) - timedelta(hours=25)

    assert environment.run()["found"] == 1
    assert [body["key"] for _, body in environment.messages()] == ["rnr/input/new.csv"]


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"RNR_INPUT_BUCKET": "", "RNR_NAME": ""}, "not set: RNR_NAME, RNR_INPUT_BUCKET"),
        ({"RNR_CLAIM_HOURS": "24"}, "RNR_CLAIM_HOURS must be greater"),
        ({"RNR_LOOKBACK_HOURS": "-1"}, "RNR_LOOKBACK_HOURS: '-1'"),
        ({"RNR_CACHE_URL": "redis://cache.example.com"}, "has no TLS"),
        ({"RNR_FEED_URL": "http://api.example.com/products"}, "has no TLS"),
    ],
)
def test_wrong_settings_are_named(variables: dict[str, str], reason: str) -> None:
    names = ("RNR_NAME", "RNR_BROKER_URL", "RNR_BROKER_SECRET", "RNR_QUEUE", "RNR_INPUT_BUCKET")
    base = {**dict.fromkeys(names, "x"), "RNR_CACHE_URL": "rediss://cache.example.com"}

    assert Settings.of(base).prefix == "rnr/input/"
    with pytest.raises(ValueError, match=reason):
        Settings.of({**base, **variables})


def call_api(environment: Environment, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    server = environment.rabbitmq
    login = b64encode(f"{server.username}:{server.password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"{server.api_url}/api/{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


@contextmanager
def cut_after(endpoint: str, size: int) -> Iterator[str]:
    """The address of a way to the broker that ends after so many bytes from the client."""
    host, port = endpoint.removeprefix("amqp://").split(":")
    server = socket.create_server(("127.0.0.1", 0))

    def forward() -> None:
        client, _ = server.accept()
        with client, socket.create_connection((host, int(port))) as broker:
            threading.Thread(target=_copy, args=(broker, client), daemon=True).start()
            _copy(client, broker, size)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield f"amqp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        thread.join(60)
        server.close()


def _copy(source: socket.socket, target: socket.socket, size: int = 2**40) -> None:
    try:
        while size > 0 and (data := source.recv(min(size, 65536))):
            target.sendall(data)
            size -= len(data)
        for each in (source, target):
            each.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
