"""An HTTP/1.1 client that reports when a request was written: repeating a request to SQS may duplicate a message."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from urllib.parse import unquote, urlsplit

from refinerctl.errors import RefinerctlError
from refinerctl.transport import proxy_of, tls_context

IDLE_CONNECTIONS = 64


class WireResponse:
    """A response whose body is not yet read. When it is read to its end, its connection serves the next request."""

    def __init__(self, raw: http.client.HTTPResponse, host: str, give_back: Callable[[bool], None]) -> None:
        self.status = raw.status
        self.reason = raw.reason
        self.headers: Mapping[str, str] = raw.headers  # type: ignore[assignment]  # a Message: get() whatever the case
        self.host = host
        self._raw = raw
        self._give_back: Callable[[bool], None] | None = give_back

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises http.client.IncompleteRead if the connection ends before the body does."""
        content = self._raw.read(size)
        left = self._raw.length
        if left and len(content) < size:
            raise http.client.IncompleteRead(content, left)
        self._release_at_end()
        return content

    def close(self) -> None:
        """Closes the connection, unless the body was read to its end."""
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
        body: bytes,
        timeout_s: float,
        patience_s: float = 0.0,
        *,
        leaving: Callable[[], None] = lambda: None,
        written: Callable[[], None] = lambda: None,
    ) -> WireResponse:
        """One request. `timeout_s` is for each read and write; the response may start `patience_s` later.

        `leaving` is called before the first byte is sent, `written` after the last one: only after that the server can
        have acted on the request. Raises OSError and http.client.HTTPException.
        """
        connection = self._idle_connection() or self._connect()
        try:
            connection.sock.settimeout(timeout_s)
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            leaving()
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            written()
            connection.sock.settimeout(timeout_s + patience_s)
            raw = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return WireResponse(raw, self._netloc, lambda reusable: self._put_back(connection, reusable))

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context(self._ca_bundle)

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
        if proxy := proxy_of(self._netloc):
            return _through(proxy, host, port or http.client.HTTPS_PORT, self._timeout, self._tls)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection is usable: one with something to read was closed by the server."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(connection.sock, select.POLLIN)
        return not poll.poll(0)
    return False


def _through(proxy: str, host: str, port: int, timeout_s: float, tls: ssl.SSLContext) -> http.client.HTTPSConnection:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise RefinerctlError(
            "HTTPS_PROXY is not an http:// URL",
            hint="Set HTTPS_PROXY to an http:// URL; TLS connections are tunnelled through the proxy.",
        )
    connection = http.client.HTTPSConnection(parts.hostname, parts.port or 80, timeout=timeout_s, context=tls)
    headers = {}
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    connection.set_tunnel(host, port, headers)
    return connection
