"""A broker's addresses, and those that --broker-url gives instead."""

from __future__ import annotations

import pytest

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.rabbitmq.endpoint import BrokerEndpoint, endpoint_of

HOST = "b-1.mq.eu-west-1.amazonaws.com"


def endpoint(
    given: str | None = None, amqp: str = f"amqps://{HOST}:5671", api: str = f"https://{HOST}"
) -> BrokerEndpoint:
    return endpoint_of("t-broker", amqp, api, given, ("me", "secret word"), "t-secret")


def test_own_addresses() -> None:
    found = endpoint()
    assert found.amqp is not None
    assert found.api is not None
    assert (found.amqp.host, found.amqp.port, found.amqp.is_secure) == (HOST, 5671, True)
    assert (found.api.host, found.api.port, found.api.server_name) == (HOST, 443, HOST)
    assert found.queue_url("a-dlq") == f"amqps://{HOST}:5671/%2F/a-dlq"
    assert "secret word" not in repr(found)


def test_forwarded_port_needs_the_certificate_of_the_broker() -> None:
    found = endpoint("amqps://localhost:15671, https://localhost:10443")
    assert found.amqp is not None
    assert found.api is not None
    assert (found.amqp.host, found.amqp.port, found.amqp.server_name) == ("localhost", 15671, HOST)
    assert (found.api.host, found.api.port, found.api.server_name) == ("localhost", 10443, HOST)
    assert found.queue_url("q") == endpoint().queue_url("q")


def test_only_what_is_given_can_be_reached() -> None:
    assert endpoint("amqps://localhost:15671").api is None
    assert endpoint("https://localhost:10443").amqp is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("amqp://localhost:5672", "without TLS"),
        ("amqps://me:pw@localhost", "must not contain credentials"),
        ("localhost:5671", "is not a URL like"),
        ("amqps://localhost:x", "is not the URL of a broker"),
        ("amqps://a,amqps://b", "two URLs of a kind"),
    ],
)
def test_invalid_urls(given: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        endpoint(given)
    assert "pw" not in str(raised.value)


def test_without_tls_only_on_this_machine() -> None:
    assert endpoint(amqp="amqp://127.0.0.1:5672", api="http://127.0.0.1:15672").is_private is False
    with pytest.raises(RefinerctlError, match="without TLS"):
        endpoint(amqp=f"amqp://{HOST}")


def test_route_names_the_real_host_and_port() -> None:
    hint = endpoint().route_hint("https")
    assert f"host={HOST},portNumber=443,localPortNumber=10443" in hint
    assert "--broker-url https://localhost:10443" in hint
