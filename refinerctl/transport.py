"""HTTP as registries need it: plain on loopback, verified TLS elsewhere, retried with back-off."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from refinerctl import __version__
from refinerctl.errors import RefinerctlError
from refinerctl.http import Body, Pool, Response, is_loopback

TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
NOT_IMPLEMENTED = 501
SMALL_ANSWER_BYTES = 8 * 1024**2

Tell = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """How long and how often to try. Seconds; `attempts` counts the first one.

    Pauses double from `first_pause_s` and are drawn at random up to that; what a registry asks for goes before, as
    far as `longest_retry_after_s`.
    """

    attempts: int = 6
    first_pause_s: float = 0.5
    longest_pause_s: float = 20.0
    longest_retry_after_s: float = 120.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0

    def pause(self, attempt: int, asked: float | None = None) -> float:
        """Seconds before attempt number `attempt` + 1."""
        drawn = random.uniform(0, min(self.longest_pause_s, self.first_pause_s * 2 ** (attempt - 1)))  # noqa: S311
        return max(drawn, min(asked, self.longest_retry_after_s)) if asked is not None else drawn


class TransportError(RefinerctlError):
    """No usable answer came; the same request may succeed later. `retry_after` is what the server asked for.

    `exhausted` once it has been tried as often as the limits allow.
    """

    exhausted = False

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Answer:
    """An answer that has been read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def base_url(host: str) -> str:
    """Plain HTTP for loopback hosts, as Docker does."""
    return f"{'http' if is_loopback(host) else 'https'}://{host}"


class Transport:
    """One connection pool per scheme, host and port; safe to share between threads.

    `tell` hears of each retry.
    """

    def __init__(self, limits: Limits, tell: Tell) -> None:
        self.limits = limits
        self.tell = tell
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str], Pool] = {}

    def fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """An answer of at most 8 MiB, read whole; retried."""

        def once() -> Answer:
            return read(self.send(method, url, headers, body))

        return self.retried(urlsplit(url).netloc, once)

    def retried(self, host: str, once: Callable[[], Result]) -> Result:
        """What `once` gives, tried again after a TransportError as often as the limits allow."""
        for attempt in range(1, self.limits.attempts + 1):
            try:
                return once()
            except TransportError as error:
                if error.exhausted or attempt == self.limits.attempts:
                    error.exhausted = True
                    raise
                self.wait(attempt, host, error)
        raise AssertionError("unreachable")

    def wait(self, attempt: int, what: str, error: TransportError) -> None:
        """Pause before the next attempt, and say so."""
        pause = self.limits.pause(attempt, error.retry_after)
        self.tell(f"{what}: {error.message}; trying again in {pause:.1f} s ({attempt + 1} of {self.limits.attempts})")
        time.sleep(pause)

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None, patience_s: float = 0.0
    ) -> Response:
        """One request, no redirect followed. `patience_s`: seconds beyond the usual that the answer may take.

        Raises TransportError for a lost connection, 429 and 5xx.
        """
        parts = _address(url)
        host = parts.netloc
        if parts.scheme != "https" and not is_loopback(host):
            raise RefinerctlError(f"{host} is to be reached without TLS", hint="Only this machine may be.")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        given = {"User-Agent": f"refinerctl/{__version__}", **headers}
        try:
            response = self._pool(parts.scheme, host).send(
                method, target, given, body, self.limits.read_timeout_s, patience_s
            )
        except ssl.SSLCertVerificationError as error:
            raise RefinerctlError(
                f"the TLS certificate of {host} is not trusted: {error.verify_message}",
                hint="SSL_CERT_FILE names a file of certificates to trust instead of the system's.",
            ) from error
        except (OSError, HTTPException) as error:
            raise lost(host, error) from error
        if _worth_a_retry(response.status):
            answer = read(response)
            raise TransportError(
                f"{host} answers {answer.status} {response.reason}".rstrip(),
                retry_after=seconds_asked(answer.headers.get("Retry-After")),
            )
        return response

    def _pool(self, scheme: str, netloc: str) -> Pool:
        with self._lock:
            if (scheme, netloc) not in self._pools:
                self._pools[scheme, netloc] = Pool(scheme, netloc, self.limits.connect_timeout_s)
            return self._pools[scheme, netloc]


def _address(url: str) -> SplitResult:
    """The parts of a URL, without a user or password. Raises RefinerctlError: a redirect may lead anywhere."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        # Without the URL: it may be a signed one.
        raise RefinerctlError("a server or a setting leads to an address that is no http:// or https:// URL")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2])


def read(response: Response, limit: int = SMALL_ANSWER_BYTES) -> Answer:
    """The whole of a small answer. Raises TransportError if it breaks off, RefinerctlError if it is not small."""
    try:
        body = b""
        while len(body) <= limit and (more := response.read(limit + 1 - len(body))):
            body += more
    except (OSError, HTTPException) as error:
        raise lost(response.host, error) from error
    finally:
        response.close()
    if len(body) > limit:
        raise RefinerctlError(f"{response.host} sent more than {limit // 1024**2} MiB where little was asked for")
    return Answer(response.status, response.headers, body)


def lost(host: str, error: Exception) -> TransportError:
    """A connection's failure in a few words."""
    if isinstance(error, TimeoutError):
        return TransportError(f"{host} let us wait for too long")
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
        raise RefinerctlError(f"there is no host {host}", hint="Check the name, and the network's DNS.") from error
    if isinstance(error, OSError) and error.strerror:
        return TransportError(f"the connection to {host} failed: {error.strerror}")
    if isinstance(error, OSError) and str(error).startswith("Tunnel"):
        return TransportError(f"HTTPS_PROXY does not let us through to {host}: {error}")
    return TransportError(f"the connection to {host} broke off")


def _worth_a_retry(status: int) -> bool:
    return status == TOO_MANY_REQUESTS or (status >= SERVER_ERROR and status != NOT_IMPLEMENTED)


def seconds_asked(retry_after: str | None) -> float | None:
    """https://www.rfc-editor.org/rfc/rfc9110#field.retry-after: seconds, or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
