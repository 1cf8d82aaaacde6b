"""HTTP for registries: plain HTTP for loopback addresses only, verified TLS for others, retries with back-off."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProxyError

from refinerctl import __version__
from refinerctl.addresses import is_loopback, proxy_address, proxy_of, tls_context
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.network import NETWORK, install
from refinerctl.waits import WAITS, Waits

TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
NOT_IMPLEMENTED = 501
SMALL_BODY_BYTES = 8 * 1024**2
IDLE_CONNECTIONS = 128
CHUNK_BYTES = 128 * 1024
QUICK_PAUSE_S = 0.5

Body = bytes | Iterable[bytes] | None
Tell = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """Timeouts and number of attempts. Seconds; `attempts` includes the first one.

    Pauses are random, up to a bound that starts at `first_pause_s` and doubles. A server's Retry-After takes
    precedence, up to `longest_retry_after_s`. After more than `give_up_s` of silence and pauses together there is no
    further attempt. Each CHUNK_BYTES of a body must be sent within the connect timeout, and arrive within the read
    timeout.
    """

    attempts: int = 6
    first_pause_s: float = 0.5
    longest_pause_s: float = 20.0
    longest_retry_after_s: float = 60.0
    give_up_s: float = 60.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0

    def pause(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after attempt number `attempt`."""
        drawn = random.uniform(0, min(self.longest_pause_s, self.first_pause_s * 2 ** (attempt - 1)))  # noqa: S311
        return drawn if retry_after is None else max(drawn, min(retry_after, self.longest_retry_after_s))


class TransportError(TransientError):
    """No usable response; the same request may succeed later. `retry_after` is what the server asked for, in seconds.

    `silent_s` is how long the server was waited for in vain. `exhausted` if the limits allow no further attempt.
    `is_at_start`: the command has just started, and the server has not answered it yet: few attempts are made.
    """

    exhausted = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_after: float | None = None,
        silent_s: float = 0.0,
        is_at_start: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after
        self.silent_s = silent_s
        self.is_at_start = is_at_start


@dataclass(frozen=True)
class Login:
    """A user at a server. `identity_token` replaces the password if `docker login` stored one."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str | None = field(default=None, repr=False)


class Retry:
    """Counts the attempts at one thing, and pauses between them."""

    def __init__(self, limits: Limits, what: str, tell: Tell) -> None:
        self._limits = limits
        self._what = what
        self._tell = tell
        self.progressed()

    def progressed(self) -> None:
        """Start to count again, because something was achieved."""
        self._attempt = 1
        self._lost_s = 0.0

    def run(self, attempt: Callable[[], Result]) -> Result:
        """The result of the first attempt that raises no TransportError."""
        while True:
            try:
                return attempt()
            except TransportError as error:
                self.wait(error)

    def wait(self, error: TransportError) -> None:
        """Pause before the next attempt. Raises `error` if none is left; retries within retries do not multiply."""
        pause = self._limits.pause(self._attempt, error.retry_after)
        attempts = self._limits.attempts
        if error.is_at_start:
            pause, attempts = min(pause, QUICK_PAUSE_S), min(attempts, NETWORK.attempts)
        self._lost_s += error.silent_s + pause
        if error.exhausted or self._attempt >= attempts or self._lost_s > self._limits.give_up_s:
            error.exhausted = True
            raise error
        self._attempt += 1
        number = f"attempt {self._attempt} of {attempts}"
        self._tell(f"{self._what}: {error.message}; trying again in {pause:.1f} s ({number})")
        time.sleep(pause)


class Response:
    """A response. Its body is read once, as `chunks` or as `body`; then its connection serves the next request."""

    def __init__(self, host: str, raw: urllib3.BaseHTTPResponse, limits: Limits, waits: Waits) -> None:
        self.host = host
        self.status = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self._raw = raw
        self._body: bytes | None = None
        self._limits = limits
        self._waits = waits

    def chunks(self) -> Generator[bytes]:
        """The body in pieces. Raises TransportError if the connection breaks, or is too slow."""
        try:
            while piece := self._piece():
                yield piece
        except HTTPError as error:
            raise _explained(self.host, error, self._limits.read_timeout_s) from error
        finally:
            self._raw.close()

    def _piece(self) -> bytes:
        """CHUNK_BYTES of the body, fewer only at its end: a server cannot hold a command by a byte now and then."""
        parts, left, began = [], CHUNK_BYTES, time.monotonic()
        self._waits.begin(self, self.host)
        try:
            while left and (part := self._raw.read1(left)):
                parts.append(part)
                left -= len(part)
                if (passed_s := time.monotonic() - began) > self._limits.read_timeout_s:
                    rate = (CHUNK_BYTES - left) / passed_s
                    raise TransportError(f"{self.host} sends too slowly: {rate:,.0f} bytes/s", silent_s=passed_s)
        finally:
            self._waits.end(self)
        return b"".join(parts)

    @property
    def body(self) -> bytes:
        """The whole body. Raises TransportError if the connection breaks, RefinerctlError for more than 8 MiB."""
        # Not a cached_property: until Python 3.12 its lock is one for all responses, of which one may be slow.
        if self._body is None:
            self._body = self._whole_body()
        return self._body

    def _whole_body(self) -> bytes:
        content = b""
        for piece in self.chunks():
            content += piece
            if len(content) > SMALL_BODY_BYTES:
                raise RefinerctlError(
                    f"{self.host} sent more than {SMALL_BODY_BYTES // 1024**2} MiB; expected a short response"
                )
        return content

    def whole(self) -> Response:
        """The same, with its body read."""
        _ = self.body
        return self


class Transport:
    """Connections to all hosts; safe to share between threads. `tell` gets a line for each retry."""

    def __init__(self, limits: Limits | None = None, tell: Tell = lambda _: None, waits: Waits = WAITS) -> None:
        self.limits = limits or Limits()
        self._tell = tell
        self._waits = waits
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, str | None], urllib3.PoolManager] = {}

    def retry(self, what: str) -> Retry:
        """Counts the attempts at one thing; messages call it `what`."""
        return Retry(self.limits, what, self._tell)

    def fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """A response of at most 8 MiB, read whole; retried."""
        return self.retry(urlsplit(url).netloc).run(lambda: self.send(method, url, headers, body).whole())

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None, patience_s: float = 0.0
    ) -> Response:
        """One request, without retry or redirect. The response may take `patience_s` longer than the limits say.

        An iterable `body` needs the header Content-Length. Raises TransportError for a lost connection, 429 and 5xx.
        """
        parts = _address(url)
        host = parts.netloc
        if parts.scheme != "https" and not is_loopback(host):
            raise RefinerctlError(
                f"refusing plain HTTP to {host}", hint="Use HTTPS. Only loopback addresses may use plain HTTP."
            )
        timeout = urllib3.Timeout(connect=self.limits.connect_timeout_s, read=self.limits.read_timeout_s + patience_s)
        wait, began = object(), time.monotonic()
        self._waits.begin(wait, host)
        try:
            raw = self._manager(parts).urlopen(
                method,
                parts.geturl(),
                redirect=False,
                retries=False,
                body=body if body is None or isinstance(body, bytes) else self._waits.sending(wait, host, body),
                headers={"User-Agent": f"refinerctl/{__version__}", **headers},
                timeout=timeout,
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as error:
            is_at_start = isinstance(error, _NOT_CONNECTED) and NETWORK.is_starting(url)
            silent_s = min(self.limits.read_timeout_s, time.monotonic() - began)
            raise _explained(host, error, silent_s, is_at_start=is_at_start) from error
        finally:
            self._waits.end(wait)
        NETWORK.answered(url)
        response = Response(host, raw, self.limits, self._waits)
        if response.status == TOO_MANY_REQUESTS or (
            response.status >= SERVER_ERROR and response.status != NOT_IMPLEMENTED
        ):
            asked = seconds_asked(response.whole().headers.get("Retry-After"))
            words = f"{host} returned {response.status} {raw.reason or ''}".rstrip()
            told = "" if asked is None else f" and asks to wait {asked:.0f} s"
            raise TransportError(words + told, retry_after=asked)
        return response

    def _manager(self, address: SplitResult) -> urllib3.PoolManager:
        proxy = proxy_of(address.netloc) if address.scheme == "https" else None
        with self._lock:
            if (address.scheme, proxy) not in self._managers:
                self._managers[address.scheme, proxy] = _new_manager(address.scheme, proxy)
            return self._managers[address.scheme, proxy]


def _address(url: str) -> SplitResult:
    """The parts of a URL, without user and password. Raises RefinerctlError: a redirect may lead anywhere."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        # Without the URL: it may be a signed one.
        raise RefinerctlError("invalid address from a server or a setting: not an http:// or https:// URL")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2])


_NOT_CONNECTED = (ConnectTimeoutError, NewConnectionError, ProxyError)


def _new_manager(scheme: str, proxy: str | None) -> urllib3.PoolManager:
    """Plain connections, or verified TLS, maybe through a proxy."""
    install()
    if scheme == "http":
        return urllib3.PoolManager(maxsize=IDLE_CONNECTIONS)
    context = tls_context()
    if proxy is None:
        return urllib3.PoolManager(maxsize=IDLE_CONNECTIONS, ssl_context=context)
    host, port, headers = proxy_address(proxy)
    return urllib3.ProxyManager(
        f"http://{host}:{port}", maxsize=IDLE_CONNECTIONS, proxy_headers=headers, ssl_context=context
    )


def _explained(host: str, error: HTTPError, silent_s: float, *, is_at_start: bool = False) -> RefinerctlError:
    """The error for a failed connection: a TransportError if a retry may succeed. Never contains the URL's query.

    `silent_s`: how long a server that has timed out was waited for.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ProxyError):
        said = str(error.original_error).rpartition(">: ")[2]
        refused = f"the proxy in HTTPS_PROXY refused a connection to {host}: {said}"
        return TransportError(refused, is_at_start=is_at_start)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return RefinerctlError(
            f"the TLS certificate of {host} is not trusted: {cause.verify_message}",
            hint="Set SSL_CERT_FILE to a file with the certificate authorities to trust.",
        )
    if isinstance(cause, TimeoutError):
        return TransportError(f"timed out waiting for {host}", silent_s=silent_s, is_at_start=is_at_start)
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
        return RefinerctlError(f"host {host} does not exist", hint="Check the name and the DNS settings.")
    if cause is not None and cause.strerror:
        return TransportError(f"the connection to {host} failed: {cause.strerror}", is_at_start=is_at_start)
    return TransportError(f"the connection to {host} was lost")


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
