"""An HTTP/1.1 client that reports when a request was written: repeating a request to SQS may duplicate a message."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from functools import cached_property
from urllib.parse import urlsplit

from refinerctl.addresses import proxy_address, proxy_of, tls_context


class Pool:
    """Connections to one scheme, host and port; safe to share between threads."""

    def __init__(self, scheme: str, netloc: str, connect_timeout_s: float, ca_bundle: str | None = None) -> None:
        self._scheme = scheme
        self._netloc = netloc
        self._timeout = connect_timeout_s
        self._ca_bundle = ca_bundle
        self._idle: deque[http.client.HTTPConnection] = deque()

    def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout_s: float,
        patience_s: float = 0.0,
        leaving: Callable[[], None] = lambda: None,
        written: Callable[[], None] = lambda: None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request; returns the response and its body.

        `timeout_s` is for each read and write; the response may start `patience_s` later. `leaving` is called before
        the first byte is sent, `written` after the last one: only after that the server can
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
            response = connection.getresponse()
            content = response.read()
        except BaseException:
            connection.close()
            raise
        if connection.sock is not None:  # the server keeps it open
            self._idle.append(connection)
        return response, content

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context(self._ca_bundle)

    def _idle_connection(self) -> http.client.HTTPConnection | None:
        with contextlib.suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if _is_quiet(connection):
                    return connection
                connection.close()
        return None

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
        if (proxy := proxy_of(self._netloc)) is None:
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=self._tls)
        proxy_host, proxy_port, headers = proxy_address(proxy)
        connection = http.client.HTTPSConnection(proxy_host, proxy_port, timeout=self._timeout, context=self._tls)
        connection.set_tunnel(host, port or http.client.HTTPS_PORT, headers)
        return connection


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection is usable: one with something to read was closed by the server."""
    poll = select.poll()
    with contextlib.suppress(OSError, ValueError):
        poll.register(connection.sock, select.POLLIN)
        return not poll.poll(0)
    return False
