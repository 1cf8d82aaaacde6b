"""HTTP for registries: plain HTTP for loopback addresses only, verified TLS for others, retries with back-off."""

from __future__ import annotations

import base64
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, ProxyError

from refinerctl import __version__
from refinerctl.errors import RefinerctlError, TransientError

TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
NOT_IMPLEMENTED = 501
SMALL_BODY_BYTES = 8 * 1024**2
IDLE_CONNECTIONS = 128
# Each piece must be sent within the connect timeout, also on a slow connection.
CHUNK_BYTES = 128 * 1024

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.ASCII)

Body = bytes | Iterable[bytes] | None
Tell = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """Timeouts and number of attempts. Seconds; `attempts` includes the first one.

    Pauses are random, up to a bound that starts at `first_pause_s` and doubles. A server's Retry-After takes
    precedence, up to `longest_retry_after_s`.
    """

    attempts: int = 6
    first_pause_s: float = 0.5
    longest_pause_s: float = 20.0
    longest_retry_after_s: float = 120.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0

    def pause(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after attempt number `attempt`."""
        drawn = random.uniform(0, min(self.longest_pause_s, self.first_pause_s * 2 ** (attempt - 1)))  # noqa: S311
        return drawn if retry_after is None else max(drawn, min(retry_after, self.longest_retry_after_s))


class TransportError(TransientError):
    """No usable response; the same request may succeed later. `retry_after` is what the server asked for, in seconds.

    `exhausted` if it was retried as often as the limits allow.
    """

    exhausted = False

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


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
        self.attempt = 1

    def run(self, attempt: Callable[[], Result]) -> Result:
        """The result of the first attempt that raises no TransportError."""
        while True:
            try:
                return attempt()
            except TransportError as error:
                self.wait(error)

    def wait(self, error: TransportError) -> None:
        """Pause before the next attempt. Raises `error` if none is left; retries within retries do not multiply."""
        if error.exhausted or self.attempt >= self._limits.attempts:
            error.exhausted = True
            raise error
        pause = self._limits.pause(self.attempt, error.retry_after)
        self.attempt += 1
        number = f"attempt {self.attempt} of {self._limits.attempts}"
        self._tell(f"{self._what}: {error.message}; trying again in {pause:.1f} s ({number})")
        time.sleep(pause)


class Response:
    """A response. Its body is read once, as `chunks` or as `body`; then its connection serves the next request."""

    def __init__(self, host: str, raw: urllib3.BaseHTTPResponse) -> None:
        self.host = host
        self.status = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self._raw = raw

    def chunks(self, size: int = CHUNK_BYTES) -> Generator[bytes]:
        """The body in pieces. Raises TransportError if the connection breaks."""
        try:
            while piece := self._raw.read(size):
                yield piece
        except HTTPError as error:
            raise _explained(self.host, error) from error
        finally:
            self._raw.close()

    @cached_property
    def body(self) -> bytes:
        """The whole body. Raises TransportError if the connection breaks, RefinerctlError for more than 8 MiB."""
        content = b""
        for piece in self.chunks(SMALL_BODY_BYTES + 1):
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

    def __init__(self, limits: Limits | None = None, tell: Tell = lambda _: None) -> None:
        self.limits = limits or Limits()
        self._tell = tell
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
        try:
            raw = self._manager(parts).urlopen(
                method,
                parts.geturl(),
                redirect=False,
                retries=False,
                body=body,
                headers={"User-Agent": f"refinerctl/{__version__}", **headers},
                timeout=timeout,
                preload_content=False,
                decode_content=False,
            )
        except HTTPError as error:
            raise _explained(host, error) from error
        response = Response(host, raw)
        if response.status == TOO_MANY_REQUESTS or (
            response.status >= SERVER_ERROR and response.status != NOT_IMPLEMENTED
        ):
            asked = seconds_asked(response.whole().headers.get("Retry-After"))
            raise TransportError(f"{host} returned {response.status} {raw.reason or ''}".rstrip(), retry_after=asked)
        return response

    def _manager(self, address: SplitResult) -> urllib3.PoolManager:
        proxy = proxy_of(address.netloc) if address.scheme == "https" else None
        with self._lock:
            if (address.scheme, proxy) not in self._managers:
                self._managers[address.scheme, proxy] = _new_manager(address.scheme, proxy)
            return self._managers[address.scheme, proxy]


def is_loopback(host: str) -> bool:
    """Whether `host` (with or without port) is this machine: localhost, 127.0.0.0/8 or [::1]."""
    return _LOOPBACK.fullmatch(urlsplit(f"//{host}").hostname or "") is not None


def check_reach(sender: str, url: str) -> None:
    """Raises RefinerctlError if server `sender` leads to a loopback or private address at `url` and has none itself.

    Names are not resolved: behind a name only a server with a certificate for it is reached.
    """
    host = urlsplit(url).netloc
    if _closeness(host) > _closeness(sender):
        network = "a loopback" if is_loopback(host) else "a private"
        raise RefinerctlError(
            f"refusing to follow {sender} to {network} address",
            hint=f"Check {sender} and the proxies before it: a public server must not name such an address.",
        )


def _closeness(host: str) -> int:
    """2 for this machine, 1 for other addresses that are not public (private, link-local, …), 0 for all others."""
    if is_loopback(host):
        return 2
    try:
        return 0 if ip_address(urlsplit(f"//{host}").hostname or "").is_global else 1
    except ValueError:
        return 0


def base_url(host: str) -> str:
    """Plain HTTP for loopback hosts, as Docker does."""
    return f"{'http' if is_loopback(host) else 'https'}://{host}"


def joined(base: str, location: str) -> str:
    """The URL that a Location or Link header at `base` names. Raises RefinerctlError for an invalid one."""
    try:
        return urljoin(base, location)
    except ValueError as error:
        raise RefinerctlError("the server sent an invalid URL in a header") from error


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


def proxy_of(netloc: str) -> str | None:
    """The proxy for a host, by HTTPS_PROXY and NO_PROXY."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    bypassed = is_loopback(netloc) or proxy_bypass_environment(netloc)
    return None if bypassed else getproxies_environment().get("https")


def _new_manager(scheme: str, proxy: str | None) -> urllib3.PoolManager:
    """Plain connections, or verified TLS, maybe through a proxy."""
    if scheme == "http":
        return urllib3.PoolManager(maxsize=IDLE_CONNECTIONS)
    context = tls_context()
    if proxy is None:
        return urllib3.PoolManager(maxsize=IDLE_CONNECTIONS, ssl_context=context)
    host, port, headers = proxy_address(proxy)
    return urllib3.ProxyManager(
        f"http://{host}:{port}", maxsize=IDLE_CONNECTIONS, proxy_headers=headers, ssl_context=context
    )


def proxy_address(proxy: str) -> tuple[str, int, dict[str, str]]:
    """Host, port and headers for what HTTPS_PROXY says. Raises RefinerctlError for another scheme than http."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise RefinerctlError(
            "HTTPS_PROXY is not an http:// URL",
            hint="Set HTTPS_PROXY to an http:// URL; TLS connections are tunnelled through the proxy.",
        )
    headers = {}
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    return parts.hostname, parts.port or 80, headers


def tls_context(ca_bundle: str | None = None) -> ssl.SSLContext:
    """Trusts `ca_bundle`, else the authorities that SSL_CERT_FILE or REQUESTS_CA_BUNDLE names, else the system's."""
    bundle = ca_bundle or (None if os.environ.get("SSL_CERT_FILE") else os.environ.get("REQUESTS_CA_BUNDLE"))
    if not bundle:  # OpenSSL reads SSL_CERT_FILE itself
        return ssl.create_default_context()
    try:
        folder = os.path.isdir(bundle)  # noqa: PTH112 - as it is in the variable
        return ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    except OSError as error:
        raise RefinerctlError(
            f"the CA bundle {bundle} cannot be read: {error.strerror}",
            hint="AWS_CA_BUNDLE, ca_bundle of the AWS profile, or REQUESTS_CA_BUNDLE names it.",
        ) from error


def _explained(host: str, error: HTTPError) -> RefinerctlError:
    """The error for a failed connection: a TransportError if a retry may succeed. Never contains the URL's query."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ProxyError):
        said = str(error.original_error).rpartition(">: ")[2]
        return TransportError(f"the proxy in HTTPS_PROXY refused a connection to {host}: {said}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return RefinerctlError(
            f"the TLS certificate of {host} is not trusted: {cause.verify_message}",
            hint="Set SSL_CERT_FILE to a file with the certificate authorities to trust.",
        )
    if isinstance(cause, TimeoutError):
        return TransportError(f"timed out waiting for {host}")
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
        return RefinerctlError(f"host {host} does not exist", hint="Check the name and the DNS settings.")
    if cause is not None and cause.strerror:
        return TransportError(f"the connection to {host} failed: {cause.strerror}")
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
