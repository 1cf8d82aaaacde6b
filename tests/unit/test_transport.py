"""When to try again, and how long to wait; whom to trust without TLS."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.http import is_loopback
from refinerctl.transport import Limits, Transport, TransportError, base_url, lost, seconds_asked


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:5000"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)
    assert base_url(host) == f"http://{host}"


@pytest.mark.parametrize(
    "host", ["ghcr.io", "127.0.0.1.example", "localhost.example", "10.0.0.1", "128.0.0.1", "[::2]", "0.0.0.0:80", ""]
)
def test_elsewhere(host: str) -> None:
    assert not is_loopback(host)
    assert base_url(host) == f"https://{host}"


def test_pauses_grow_up_to_a_limit() -> None:
    limits = Limits(first_pause_s=1, longest_pause_s=4, longest_retry_after_s=10)

    assert all(0 <= limits.pause(1) <= 1 for _ in range(50))
    assert max(limits.pause(3) for _ in range(200)) > 2
    assert all(0 <= limits.pause(90) <= 4 for _ in range(50))


def test_what_a_server_asks_for_goes_before() -> None:
    limits = Limits(first_pause_s=1, longest_pause_s=4, longest_retry_after_s=10)

    assert all(3 <= limits.pause(1, asked=3) <= 4 for _ in range(50))
    assert limits.pause(1, asked=99999) == 10


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), (" 0 ", 0), (None, None), ("soon", None), ("-5", None)])
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert seconds_asked(header) == seconds


def test_retry_after_a_date() -> None:
    now = datetime.now(UTC)

    assert 28 <= (seconds_asked(format_datetime(now + timedelta(seconds=30), usegmt=True)) or 0) <= 30
    assert seconds_asked(format_datetime(now - timedelta(hours=1), usegmt=True)) == 0


def transport(told: list[str], attempts: int = 4) -> Transport:
    return Transport(Limits(attempts=attempts, first_pause_s=0), told.append)


def test_tried_again_as_often_as_the_limits_allow() -> None:
    told: list[str] = []
    left = [TransportError("one"), TransportError("two")]

    def once() -> str:
        if left:
            raise left.pop(0)
        return "done"

    assert transport(told).retried("host", once) == "done"
    assert [line.partition(";")[0] for line in told] == ["host: one", "host: two"]


def test_attempts_within_attempts_do_not_multiply() -> None:
    told: list[str] = []
    calls = []

    def inner() -> None:
        calls.append(1)
        raise TransportError("broken")

    both = transport(told)
    with pytest.raises(TransportError):
        both.retried("outer", lambda: both.retried("inner", inner))

    assert len(calls) == 4


def test_other_errors_are_final() -> None:
    calls = []

    def once() -> None:
        calls.append(1)
        raise RefinerctlError("no")

    with pytest.raises(RefinerctlError):
        transport([]).retried("host", once)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "failed: Connection refused"),
        (TimeoutError("timed out"), "wait for too long"),
        (OSError("Tunnel connection failed: 407 Proxy Authentication Required"), "HTTPS_PROXY .* 407"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "failed: Temporary failure"),
        (ValueError("https://storage.example/?X-Amz-Signature=secret"), "broke off"),
    ],
)
def test_a_lost_connection_in_a_few_words(error: Exception, words: str) -> None:
    said = lost("host", error)

    with pytest.raises(TransportError, match=words):
        raise said
    assert "secret" not in str(said)


def test_a_host_that_does_not_exist_is_not_tried_again() -> None:
    with pytest.raises(RefinerctlError, match=r"there is no host h\.example") as gone:
        lost("h.example", socket.gaierror(socket.EAI_NONAME, "Name or service not known"))

    assert not isinstance(gone.value, TransportError)
