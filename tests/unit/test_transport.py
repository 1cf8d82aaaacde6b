"""Retries and their pauses; which hosts are reached without TLS."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from refinerctl.addresses import base_url, is_loopback
from refinerctl.transport import Limits, Retry, TransportError, seconds_asked


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:5000"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)
    assert base_url(host) == f"http://{host}"


@pytest.mark.parametrize(
    "host", ["ghcr.io", "127.0.0.1.example", "localhost.example", "10.0.0.1", "128.0.0.1", "[::2]", "0.0.0.0:80", ""]
)
def test_other_hosts(host: str) -> None:
    assert not is_loopback(host)
    assert base_url(host) == f"https://{host}"


def test_pauses_grow_up_to_a_limit() -> None:
    limits = Limits(first_pause_s=1, longest_pause_s=4, longest_retry_after_s=10)

    assert all(0 <= limits.pause(1) <= 1 for _ in range(50))
    assert max(limits.pause(3) for _ in range(200)) > 2
    assert all(0 <= limits.pause(90) <= 4 for _ in range(50))


def test_retry_after_takes_precedence_up_to_a_limit() -> None:
    limits = Limits(first_pause_s=1, longest_pause_s=4, longest_retry_after_s=10)

    assert all(3 <= limits.pause(1, 3) <= 4 for _ in range(50))
    assert limits.pause(1, 99999) == 10


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), (" 0 ", 0), (None, None), ("soon", None), ("-5", None)])
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert seconds_asked(header) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC)

    assert 28 <= (seconds_asked(format_datetime(now + timedelta(seconds=30), usegmt=True)) or 0) <= 30
    assert seconds_asked(format_datetime(now - timedelta(hours=1), usegmt=True)) == 0


def attempts(retry: Retry, error: TransportError, failures: int = 99) -> int:
    """How many attempts it takes if so many fail."""
    for number in range(1, 100):
        if number > failures:
            return number
        retry.wait(error)
    raise AssertionError


def test_retry_reports_each_attempt() -> None:
    told: list[str] = []

    assert attempts(Retry(Limits(attempts=4, first_pause_s=0), "host", told.append), TransportError("no"), 2) == 3
    assert told == [f"host: no; trying again in 0.0 s (attempt {number} of 4)" for number in (2, 3)]


def test_retries_within_retries_do_not_multiply() -> None:
    told: list[str] = []
    limits, error = Limits(attempts=4, first_pause_s=0), TransportError("broken")

    with pytest.raises(TransportError):
        attempts(Retry(limits, "inner", told.append), error)
    with pytest.raises(TransportError):
        attempts(Retry(limits, "outer", told.append), error)

    assert len(told) == 3
