"""A way to an SQS endpoint that fails on purpose, by rules that the test gives."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

SEND, DELETE, RECEIVE, HIDE = "SendMessage", "DeleteMessage", "ReceiveMessage", "ChangeMessageVisibility"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
_ACTION = re.compile(rb"\r\nx-amz-target: *AmazonSQS\.(\w+)", re.I)
_PIECE = 1 << 16


class Kind(Enum):
    """What goes wrong."""

    REFUSE = auto()  # the connection is reset; SQS hears nothing
    LOSE_ANSWER = auto()  # SQS acts, then the connection is reset
    RESET_HALFWAY = auto()  # SQS acts; the connection is reset after half of the answer's body
    TRUNCATE = auto()  # SQS acts; the answer's JSON ends in its middle, with a Content-Length that fits
    STALL = auto()  # SQS acts; nothing comes for `seconds`, then the connection ends
    STALL_UNHEARD = auto()  # nothing comes for `seconds`, then the connection ends; SQS hears nothing
    ANSWER = auto()  # `status` and `code` instead; SQS hears nothing
    ANSWER_AFTER = auto()  # SQS acts; then `status` and `code`
    HTML = auto()  # `page_status` and a page; SQS hears nothing
    FAIL_ENTRIES = auto()  # every second entry is not passed on, and answered as Failed with `code`
    OMIT_ENTRIES = auto()  # SQS does all; of every second entry the answer says nothing
    OMIT_UNHEARD = auto()  # every second entry is not passed on; the answer says nothing of it


@dataclass
class Fault:
    """What goes wrong with requests whose action begins with `action`: after `skip` of them, `times` times.

    `times` None: from then on always. `every` n: only with each n-th of those. `queue` is a part of the queue's URL.
    """

    kind: Kind
    action: str = ""
    times: int | None = 1
    skip: int = 0
    every: int = 1
    queue: str = ""
    status: int = 500
    code: str = "InternalFailure"
    senders_fault: bool = False
    seconds: float = 3600
    page_status: int = 200
    seen: int = 0

    def strikes(self, action: str, queue: str) -> bool:
        if not action.startswith(self.action) or self.queue not in queue:
            return False
        self.seen += 1
        number, left = self.seen - self.skip, self.times
        return number > 0 and number % self.every == 0 and (left is None or number // self.every <= left)


def throttled(action: str, **more: Any) -> Fault:
    return Fault(Kind.ANSWER, action, status=400, code="RequestThrottled", **more)


def unavailable(action: str, **more: Any) -> Fault:
    return Fault(Kind.ANSWER, action, status=503, code="ServiceUnavailable", **more)


def expired(action: str, **more: Any) -> Fault:
    return Fault(Kind.ANSWER, action, status=403, code="ExpiredToken", **more)


def denied(action: str, **more: Any) -> Fault:
    return Fault(Kind.ANSWER, action, status=403, code="AccessDenied", **more)


@dataclass
class Exchange:
    """A request that came by; `entries` of a batch, 1 otherwise. `reached`: SQS has heard of (some of) it."""

    action: str
    queue: str
    entries: int
    fault: Kind | None = None
    reached: bool = True
    status: int = 0


@dataclass
class SqsFaults:
    """What the test holds. `faults` may change at any time: the first that strikes is taken."""

    url: str
    upstream: tuple[str, int]
    faults: list[Fault]
    exchanges: list[Exchange] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def struck(self) -> list[Exchange]:
        """The requests with which something went wrong."""
        return [exchange for exchange in self.exchanges if exchange.fault is not None]

    def take(self, action: str, queue: str) -> Fault | None:
        with self._lock:
            return next((fault for fault in self.faults if fault.strikes(action, queue)), None)

    def wait(self, seconds: float) -> None:
        """Sleep, but not beyond the proxy's end."""
        self._ended.wait(seconds)

    def end(self) -> None:
        self._ended.set()


@contextlib.contextmanager
def sqs_faults(endpoint_url: str, *faults: Fault) -> Iterator[SqsFaults]:
    """A proxy to the SQS at `endpoint_url` (http://host:port)."""
    host, _, port = endpoint_url.removeprefix("http://").rstrip("/").rpartition(":")
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    proxy = SqsFaults(f"http://127.0.0.1:{listening.getsockname()[1]}", (host, int(port)), list(faults))
    thread = threading.Thread(target=_accept, args=(listening, proxy), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.end()
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def _accept(listening: socket.socket, proxy: SqsFaults) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_Connection(client, proxy).serve, daemon=True).start()


class _Cut(Exception):  # noqa: N818 - not an error: on purpose
    """The connection is reset on purpose."""


@dataclass
class _Message:
    """A request or an answer."""

    head: bytes
    body: bytes

    def with_body(self, body: bytes) -> bytes:
        head = _LENGTH.sub(b"\r\nContent-Length: %d" % len(body), self.head)
        return head + b"\r\n\r\n" + body


class _Stream:
    """Messages of HTTP/1.1 with Content-Length, from one socket."""

    def __init__(self, given: socket.socket) -> None:
        self.socket = given
        self._buffer = bytearray()

    def read(self) -> _Message | None:
        """The next one; None at the end."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not self._more():
                return None
        head = bytes(self._buffer[:end])
        found = _LENGTH.search(head)
        size = end + 4 + (int(found[1]) if found else 0)
        while len(self._buffer) < size:
            if not self._more():
                return None
        body = bytes(self._buffer[end + 4 : size])
        del self._buffer[:size]
        return _Message(head, body)

    def _more(self) -> bool:
        piece = self.socket.recv(_PIECE)
        self._buffer += piece
        return bool(piece)


class _Connection:
    def __init__(self, client: socket.socket, proxy: SqsFaults) -> None:
        self._client, self._proxy = client, proxy
        self._upstream: _Stream | None = None

    def serve(self) -> None:
        stream = _Stream(self._client)
        try:
            while (request := stream.read()) is not None:
                self._client.sendall(self._answer(request))
        except _Cut:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # the client, or the test's server, has gone
        finally:
            self._client.close()
            if self._upstream is not None:
                self._upstream.socket.close()

    def _answer(self, request: _Message) -> bytes:
        found = _ACTION.search(request.head)
        action = found[1].decode() if found else ""
        asked = json.loads(request.body) if found else {}
        queue = asked.get("QueueUrl", "")
        fault = self._proxy.take(action, queue)
        exchange = Exchange(action, queue, len(asked.get("Entries") or [1]), fault.kind if fault else None)
        self._proxy.exchanges.append(exchange)
        answer = self._faulty(request, asked, fault, exchange) if fault else self._pass_on(request, exchange)
        return answer if isinstance(answer, bytes) else answer.with_body(answer.body)

    def _faulty(self, request: _Message, asked: dict, fault: Fault, exchange: Exchange) -> bytes | _Message:
        if fault.kind in (Kind.REFUSE, Kind.STALL_UNHEARD, Kind.ANSWER, Kind.HTML):
            exchange.reached = False
            return self._unheard(fault)
        if fault.kind in (Kind.FAIL_ENTRIES, Kind.OMIT_UNHEARD) and "Entries" in asked:
            return self._without_some(request, asked, fault, exchange)
        answer = self._pass_on(request, exchange)
        if fault.kind is Kind.LOSE_ANSWER:
            raise _Cut
        if fault.kind is Kind.RESET_HALFWAY:
            whole = answer.with_body(answer.body)
            self._client.sendall(whole[: len(whole) - len(answer.body) // 2 - 1])
            time.sleep(0.02)  # a reset throws away what the client has not read yet
            raise _Cut
        if fault.kind is Kind.TRUNCATE:
            return answer.with_body(answer.body[: len(answer.body) // 2])
        if fault.kind is Kind.STALL:
            self._proxy.wait(fault.seconds)
            raise _Cut
        if fault.kind is Kind.ANSWER_AFTER:
            return _error(fault)
        if fault.kind is Kind.OMIT_ENTRIES:
            return _without(answer, {entry["Id"] for entry in asked.get("Entries", [])[1::2]})
        return answer

    def _unheard(self, fault: Fault) -> bytes:
        if fault.kind is Kind.STALL_UNHEARD:
            self._proxy.wait(fault.seconds)
        if fault.kind is Kind.ANSWER:
            return _error(fault)
        if fault.kind is Kind.HTML:
            page = b"<html><body>Log in to this network</body></html>"
            head = b"HTTP/1.1 %d Page\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b"
            return head % (fault.page_status, len(page), page)
        raise _Cut

    def _without_some(self, request: _Message, asked: dict, fault: Fault, exchange: Exchange) -> bytes | _Message:
        """Every second entry, beginning with the first, does not reach SQS."""
        held, passed = asked["Entries"][::2], asked["Entries"][1::2]
        answer = _Message(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 0", b"{}")
        if passed:
            body = json.dumps({**asked, "Entries": passed}).encode()
            answer = self._pass_on(_Message(request.head, body), exchange)
        else:
            exchange.reached = False
        if fault.kind is Kind.OMIT_UNHEARD:
            return answer
        given = json.loads(answer.body)
        failed = {"SenderFault": fault.senders_fault, "Code": fault.code, "Message": "on purpose"}
        given["Failed"] = [*given.get("Failed", []), *({"Id": entry["Id"], **failed} for entry in held)]
        return answer.with_body(json.dumps(given).encode())

    def _pass_on(self, request: _Message, exchange: Exchange) -> _Message:
        if self._upstream is None:
            upstream = socket.create_connection(self._proxy.upstream, timeout=60)
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._upstream = _Stream(upstream)
        self._upstream.socket.sendall(request.with_body(request.body))
        answer = self._upstream.read()
        if answer is None:
            raise ConnectionError("the server hung up")
        exchange.status = int(answer.head.split(b" ", 2)[1])
        return answer


def _without(answer: _Message, ids: set[str]) -> bytes:
    given = json.loads(answer.body)
    left = {name: [item for item in items if item.get("Id") not in ids] for name, items in given.items()}
    return answer.with_body(json.dumps(left).encode())


def _error(fault: Fault) -> bytes:
    body = json.dumps({"__type": f"com.amazonaws.sqs#{fault.code}", "message": "on purpose"}).encode()
    return (
        b"HTTP/1.1 %d Error\r\nx-amzn-RequestId: 0\r\nx-amzn-query-error: %b;Sender\r\n"
        b"Content-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n%b"
        % (fault.status, fault.code.encode(), len(body), body)
    )
