"""A way to a registry that fails on purpose, by rules that the test gives."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# A second name of this machine, which a client has to take for another host.
ELSEWHERE = "localhost"
_PIECE = 65536
# These concern one connection, not the message (RFC 9110, section 7.6.1).
_HOP_BY_HOP = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade")


class Kind(Enum):
    """What goes wrong. `at` is a byte of the body: the response's, of the *_UPLOAD kinds the request's."""

    REFUSE = auto()  # the connection is reset before the request has been passed on
    LOSE_ANSWER = auto()  # the registry does what it is asked, then the connection is reset
    STATUS = auto()  # `status` instead of the registry's answer, after the request's body was read
    RESET = auto()  # the connection is reset after `at` bytes
    TRUNCATE = auto()  # the connection ends properly after `at` bytes, whatever Content-Length says
    CORRUPT = auto()  # byte `at` is another one
    STALL = auto()  # nothing comes for `seconds` after `at` bytes
    TRICKLE = auto()  # after `at` bytes, one comes every `seconds`
    IGNORE_RANGE = auto()  # the whole body with 200
    REDIRECT = auto()  # to the same path on host ELSEWHERE
    RESET_UPLOAD = auto()  # the connection is reset after `at` bytes; the registry has seen some of them
    CORRUPT_UPLOAD = auto()  # byte `at` is another one


@dataclass
class Fault:
    """What goes wrong with requests whose "METHOD /path?query" matches `match`: after `skip` of them, `times` times.

    `times` None: from then on always. Where blobs are redirected to, the method is ELSEWHERE.
    """

    kind: Kind
    match: str = r"GET .*/blobs/"
    times: int | None = 1
    skip: int = 0
    at: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 3600
    seen: int = 0

    def strikes(self, line: str) -> bool:
        if not re.search(self.match, line):
            return False
        self.seen += 1
        return self.seen > self.skip and (self.times is None or self.seen <= self.skip + self.times)


@dataclass
class Exchange:
    """A request that came by. `sent` and `received` are bytes of body, as the client sent and got them."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0
    received: int = 0
    fault: Kind | None = None

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class FaultyProxy:
    """What the test holds. `faults` may change at any time: the first that strikes is taken.

    Each answer takes `delay` seconds longer. Redirects lead to the same port by another name; `redirected` are the
    requests there, which the registry gets with the `credentials` of before. As S3, it answers 400 to a request with
    credentials.
    """

    host: str
    upstream: str
    faults: list[Fault]
    delay: float = 0.0
    requests: list[Exchange] = field(default_factory=list)
    redirected: list[Exchange] = field(default_factory=list)
    credentials: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def matching(self, pattern: str) -> list[Exchange]:
        """The requests whose "METHOD /path?query" matches."""
        return [exchange for exchange in self.requests if re.search(pattern, exchange.line)]

    def struck(self) -> list[Exchange]:
        """The requests with which something went wrong."""
        return [exchange for exchange in self.requests if exchange.fault is not None]

    def take(self, line: str) -> Fault | None:
        with self._lock:
            return next((fault for fault in self.faults if fault.strikes(line)), None)

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the proxy's end."""
        self._ended.wait(seconds)

    def end(self) -> None:
        self._ended.set()


class _Cut(Exception):  # noqa: N818 - not an error: on purpose
    """The connection was cut on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy
    _connection: http.client.HTTPConnection | None = None

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def finish(self) -> None:
        if self._connection is not None:
            self._connection.close()
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def _do(self) -> None:
        exchange = Exchange(self.command, self.path, dict(self.headers.items()))
        redirected = self.headers.get("Host", "").startswith(ELSEWHERE)
        (self.proxy.redirected if redirected else self.proxy.requests).append(exchange)
        if redirected:
            exchange.method, self.path = "ELSEWHERE", self.path.partition("?")[0]
        fault = self.proxy.take(exchange.line)
        if redirected and "Authorization" in self.headers:
            fault = Fault(Kind.STATUS, status=400, body=b"Only one auth mechanism allowed")
        elif redirected and (given := self.proxy.credentials.get(self.path)):
            self.headers["Authorization"] = given
        exchange.fault = fault.kind if fault else None
        try:
            self._pass_on(exchange, fault)
        except _Cut:
            self._reset()
        except (OSError, http.client.HTTPException):
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _do  # noqa: N815 - the base class's names

    def _pass_on(self, exchange: Exchange, fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        if fault and kind in (Kind.STATUS, Kind.REDIRECT):
            for piece in self._request_body():
                exchange.sent += len(piece)
            self.proxy.wait(self.proxy.delay)
            self._answer_alone(exchange, fault)
            return
        if kind is Kind.REFUSE:
            raise _Cut
        answer = self._ask(exchange, fault)
        self.proxy.wait(self.proxy.delay)
        if kind is Kind.LOSE_ANSWER:
            answer.read()
            raise _Cut
        self._give(exchange, answer, fault)

    def _answer_alone(self, exchange: Exchange, fault: Fault) -> None:
        headers = dict(fault.headers)
        exchange.status = fault.status
        if fault.kind is Kind.REDIRECT:
            exchange.status = 307
            self.proxy.credentials[self.path] = self.headers.get("Authorization", "")
            port = self.proxy.host.rpartition(":")[2]
            headers["Location"] = f"http://{ELSEWHERE}:{port}{self.path}?X-Amz-Signature=secret-signature"
        self.send_response(exchange.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(fault.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(fault.body)

    def _ask(self, exchange: Exchange, fault: Fault | None) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        self._connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            ranged = name.lower() == "range" and fault is not None and fault.kind is Kind.IGNORE_RANGE
            if name.lower() not in (*_HOP_BY_HOP, "expect") and not ranged:
                self._connection.putheader(name, value)
        if chunked:
            self._connection.putheader("Transfer-Encoding", "chunked")
        self._connection.endheaders()
        for piece in self._faulty_upload(exchange, fault):
            self._connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self._connection.send(b"0\r\n\r\n")
        return self._connection.getresponse()

    def _faulty_upload(self, exchange: Exchange, fault: Fault | None) -> Iterator[bytes]:
        kind = fault.kind if fault else None
        for piece in self._request_body():
            at = (fault.at if fault else 0) - exchange.sent
            exchange.sent += len(piece)
            if kind is Kind.RESET_UPLOAD and at < len(piece):
                if at > 0 and self._connection is not None:
                    self._connection.send(piece[:at])
                raise _Cut
            yield _flipped(piece, at) if kind is Kind.CORRUPT_UPLOAD else piece

    def _request_body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0:
            piece = self.rfile.read1(min(left, _PIECE))
            if not piece:
                raise ConnectionError("the client hung up")
            left -= len(piece)
            yield piece

    def _give(self, exchange: Exchange, answer: http.client.HTTPResponse, fault: Fault | None) -> None:
        exchange.status = answer.status
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        empty = self.command == "HEAD" or answer.status in (204, 304)
        unknown = answer.headers.get("Content-Length") is None and not empty
        if unknown:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if empty:
            answer.read()
            return
        for piece in self._faulty_body(exchange, answer, fault):
            exchange.received += len(piece)  # first: the client may look as soon as it has the bytes
            self.wfile.write(piece)
        answer.read()  # frees the connection for the next request

    def _faulty_body(
        self, exchange: Exchange, answer: http.client.HTTPResponse, fault: Fault | None
    ) -> Iterator[bytes]:
        while piece := answer.read1(_PIECE):
            at = (fault.at if fault else 0) - exchange.received
            if fault is None or at < 0 or at >= len(piece):
                yield piece
            elif fault.kind is Kind.CORRUPT:
                yield _flipped(piece, at)
            elif fault.kind in (Kind.RESET, Kind.TRUNCATE):
                yield piece[:at]
                answer.close()
                self._cut_off(fault.kind)
                return
            elif fault.kind is Kind.STALL:
                yield piece[:at]
                self.proxy.wait(fault.seconds)
                yield piece[at:]
            elif fault.kind is Kind.TRICKLE:
                yield piece[:at]
                for byte in piece[at:]:
                    self.proxy.wait(fault.seconds)
                    yield bytes([byte])
            else:
                yield piece

    def _cut_off(self, kind: Kind) -> None:
        self.close_connection = True
        if self._connection is not None:  # the rest of the registry's answer is still to come on it
            self._connection.close()
            self._connection = None
        if kind is Kind.RESET:
            time.sleep(0.05)  # a reset throws away what the client has not read yet
            raise _Cut

    def _reset(self) -> None:
        self.close_connection = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The handler's files hold the socket open; the peer learns of the end only when all are closed.
        for file in (self.rfile, self.wfile):
            with contextlib.suppress(OSError):
                file.close()
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


def _flipped(piece: bytes, at: int) -> bytes:
    return piece[:at] + bytes([piece[at] ^ 0xFF]) + piece[at + 1 :] if 0 <= at < len(piece) else piece


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that are cut on purpose end in errors."""


@contextlib.contextmanager
def faulty_proxy(upstream: str, *faults: Fault, delay: float = 0.0) -> Iterator[FaultyProxy]:
    """A proxy to the registry at `upstream` (host:port)."""
    proxy = FaultyProxy("", upstream, list(faults), delay)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.host = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.end()
        server.shutdown()
        server.server_close()
