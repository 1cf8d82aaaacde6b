"""HTTP/1.1 on connections that are kept: http.client, because loading urllib3 takes longer than a small copy."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from refinerctl.errors import RefinerctlError

Body = bytes | Iterable[memoryview] | None

IDLE_CONNECTIONS = 64


_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1", re.ASCII)


def is_loopback(host: str) -> bool:
    """Whether `host` (with or without port) is this machine: localhost, 127.0.0.0/8 or [::1]."""
    return _LOOPBACK.fullmatch(urlsplit(f"//{host}").hostname or "") is not None


class Response:
    """An answer whose body is still to be read. Once it is read to its end, its connection serves the next request."""

    def __init__(self, raw: http.client.HTTPResponse, host: str, give_back: Callable[[bool], None]) -> None:
        self.status = raw.status
        self.reason = raw.reason
        self.headers: Mapping[str, str] = raw.headers  # type: ignore[assignment]  # a Message: get() whatever the case
        self.host = host
        self._raw = raw
        self._give_back: Callable[[bool], None] | None = give_back

    def readinto(self, buffer: memoryview) -> int:
        """Fill as much of `buffer` as there is, waiting for it; 0 at the end, or where the connection has ended."""
        count = self._raw.readinto(buffer)
        self._release_at_end()
        return count

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises http.client.IncompleteRead if the connection ends before the body does."""
        content = self._raw.read(size)
        left = self._raw.length
        if left and len(content) < size:
            raise http.client.IncompleteRead(content, left)
        self._release_at_end()
        return content

    def close(self) -> None:
        """Without the rest of the body the connection is of no more use."""
        if self._give_back is not None:
            at_end = self._raw.isclosed()
            self._raw.close()
            give_back, self._give_back = self._give_back, None
            give_back(at_end and not self._raw.will_close)

    def _release_at_end(self) -> None:
        if self._raw.isclosed() and not self._raw.length:
            self.close()


class Pool:
    """Connections to one scheme, host and port; safe to share between threads."""

    def __init__(self, scheme: str, netloc: str, connect_timeout_s: float, ca_bundle: str | None = None) -> None:
        self._scheme = scheme
        self._netloc = netloc
        self._timeout = connect_timeout_s
        self._ca_bundle = ca_bundle
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body,
        timeout_s: float,
        patience_s: float = 0.0,
        *,
        leaving: Callable[[], None] = lambda: None,
        written: Callable[[], None] = lambda: None,
    ) -> Response:
        """One request. `timeout_s` is for each piece sent and read, the answer's beginning may take `patience_s` more.

        `leaving` is called before the first byte goes out, `written` once the last one has: between the two nobody
        can have acted on the request, after that somebody may have, whatever is raised.
        Raises OSError and http.client.HTTPException as they come, and whatever `body` raises.
        """
        connection = self._idle_connection() or self._connect()
        try:
            connection.sock.settimeout(timeout_s)
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            leaving()
            if isinstance(body, bytes):
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
            else:
                connection.endheaders()
                _stream(connection, body or ())
            written()
            connection.sock.settimeout(timeout_s + patience_s)
            raw = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return Response(raw, self._netloc, lambda reusable: self._put_back(connection, reusable))

    def _idle_connection(self) -> http.client.HTTPConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if _is_quiet(connection):
                return connection
            connection.close()

    def _put_back(self, connection: http.client.HTTPConnection, reusable: bool) -> None:
        with self._lock:
            if reusable and connection.sock is not None and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        connection = self._new_connection()
        try:
            connection.connect()
        except BaseException as error:
            connection.close()
            if isinstance(error, socket.gaierror) and connection.host != urlsplit(f"//{self._netloc}").hostname:
                raise OSError(f"Tunnel connection failed: there is no host {connection.host}") from error
            raise
        return connection

    def _new_connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(f"//{self._netloc}")
        host, port = parts.hostname or "", parts.port
        if self._scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        if proxy := _proxy(self._netloc):
            return _through(proxy, host, port or http.client.HTTPS_PORT, self._timeout, _tls(self._ca_bundle))
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=_tls(self._ca_bundle))


def _stream(connection: http.client.HTTPConnection, body: Iterable[memoryview]) -> None:
    try:
        for chunk in body:
            connection.sock.sendall(chunk)
    except (BrokenPipeError, ConnectionResetError):
        # Who has heard enough may have said why: a refusal is worth more than a broken pipe.
        if not select.select([connection.sock], [], [], 0)[0]:
            raise


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """An idle connection on which something came has been closed by the other side."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(connection.sock, select.POLLIN)
        return not poll.poll(0)
    return False


def _tls(ca_bundle: str | None = None) -> ssl.SSLContext:
    """The authorities in `ca_bundle`, else those that SSL_CERT_FILE or REQUESTS_CA_BUNDLE name, else the system's."""
    if ca_bundle:
        return _context(None, ca_bundle)
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("REQUESTS_CA_BUNDLE"))


@lru_cache(maxsize=2)  # the system's authorities take 20 ms to read
def _context(cert_file: str | None, bundle: str | None) -> ssl.SSLContext:
    if cert_file or not bundle:  # OpenSSL reads SSL_CERT_FILE itself
        return ssl.create_default_context()
    try:
        folder = os.path.isdir(bundle)  # noqa: PTH112 - as it is in the variable
        return ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    except OSError as error:
        raise RefinerctlError(
            f"the bundle of certificate authorities {bundle} cannot be read: {error.strerror}",
            hint="AWS_CA_BUNDLE, ca_bundle of the AWS profile, or REQUESTS_CA_BUNDLE names it.",
        ) from error


def _proxy(netloc: str) -> str | None:
    """What HTTPS_PROXY and NO_PROXY say about a host."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    bypassed = is_loopback(netloc) or proxy_bypass_environment(netloc)
    return None if bypassed else getproxies_environment().get("https")


def _through(proxy: str, host: str, port: int, timeout_s: float, tls: ssl.SSLContext) -> http.client.HTTPSConnection:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise RefinerctlError("HTTPS_PROXY is not an http:// URL", hint="TLS goes through it from end to end.")
    connection = http.client.HTTPSConnection(parts.hostname, parts.port or 80, timeout=timeout_s, context=tls)
    headers = {}
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    connection.set_tunnel(host, port, headers)
    return connection
