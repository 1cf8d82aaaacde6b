"""The process that server.py starts: HTTP, and what tests ask for past SQS's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import gc
import http.client
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.sqs.actions import Request, Service
from tests.sqs.moves import Moves
from tests.sqs.queues import FifoQueue, Message, Queue, SqsError, new_id

_CONTROL = "/_control"
_JSON = "application/x-amz-json-1.0"
_LENGTH = re.compile(r"\r\ncontent-length: *(\d+)", re.I)
_EXPECT = re.compile(r"\r\nexpect: *100-continue", re.I)
_HOST = re.compile(r"\r\nhost: *([^\r]+)", re.I)
_ACTION = re.compile(r"\r\nx-amz-target: *AmazonSQS\.(\w+)", re.I)
_WORDS = re.compile(r"(?<!^)(?=[A-Z])")


class _Control:
    """What tests ask for, past SQS's protocol."""

    def __init__(self, service: Service, settings: _Settings) -> None:
        self._service, self._settings = service, settings

    def answer(self, request: Request) -> Any:
        return getattr(self, "do_" + request.pop("do"))(**request)

    def do_create(self, name: str, attributes: dict[str, str]) -> Request:
        return self._service.create_queue({"QueueName": name, "Attributes": attributes}, "")

    def do_fill(self, queue: str, count: int, body: str, start: int, **more: Any) -> None:
        target, now = self._service.queues[queue], self._service.now()
        source, age_s = more.pop("source", None), more.pop("age_s", 0)
        templates = {name: more.pop(name) for name in ("group", "deduplication") if name in more}
        for number in range(start, start + count):
            text = str(number)
            given = {name: value.replace("{n}", text) for name, value in templates.items()}
            message = Message(new_id(), body.replace("{n}", text), now - age_s, **more, **given)
            message.source_arn = self._service.queues[source].arn if source else None
            if isinstance(target, FifoQueue):
                message.sequence = self._service.next_sequence()
            target.put(message, now)

    def do_clear(self, queue: str) -> None:
        self._service.queues[queue].purge()

    def do_snapshot(self, queues: list[str]) -> list[tuple]:
        now = self._service.now()
        found = []
        for name in queues or list(self._service.queues):
            queue = self._service.queues[name]
            queue.tick(now)
            for item in queue.messages.values():
                state = "in-flight" if item.is_in_flight else "delayed" if item.is_delayed else "visible"
                where = (name, item.id, item.body, item.receive_count, state, item.sent_s, item.attributes)
                found.append((*where, item.group, item.deduplication, item.trace, item.source_arn))
        return found

    def do_bodies(self, queue: str) -> list[str]:
        return [item.body for item in self._service.queues[queue].messages.values()]

    def do_depth(self, queue: str) -> int:
        return len(self._service.queues[queue].messages)

    def do_counts(self, reset: bool) -> dict[str, int]:
        found = dict(self._service.counts)
        if reset:
            self._service.counts.clear()
        return found

    def do_advance(self, seconds: float) -> None:
        self._service.offset_s += seconds
        for queue in self._service.queues.values():
            queue.tick(self._service.now())
            queue.expire(self._service.now())

    def do_latency(self, seconds: float) -> None:
        self._settings.latency_s = seconds

    def do_usage(self) -> dict[str, float]:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        return {"cpu_s": used.ru_utime + used.ru_stime}


@dataclass
class _Settings:
    latency_s: float = 0.0


class _Waiters:
    """Receives that wait for a message, by queue."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waiting: dict[Queue, set[asyncio.Future]] = {}
        service.on_create = self._watch

    def _watch(self, queue: Queue) -> None:
        waiting = self._waiting[queue] = set()

        def wake() -> None:
            if waiting:
                for future in waiting:
                    if not future.done():
                        future.set_result(None)
                waiting.clear()

        queue.wake = wake

    async def receive(self, request: Request, base: str) -> Request:
        """Long polling."""
        loop, queue = asyncio.get_running_loop(), self._service.queue(request)
        ends = loop.time() + self._service.wait_s(request)
        while (answer := self._service.receive_message(request, base)) is None and (left := ends - loop.time()) > 0:
            future = loop.create_future()
            self._waiting[queue].add(future)
            change = queue.next_change_s()
            if change is not None:
                left = min(left, max(0.001, change - self._service.now()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(future, left)
            self._waiting[queue].discard(future)
        return answer or {}


class _Connection(asyncio.Protocol):
    """Just enough HTTP/1.1: requests with Content-Length, one after the other."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._is_busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_busy:
            self._next()

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].decode("latin-1")
        length = _LENGTH.search(head)
        begin, size = end + 4, int(length[1]) if length else 0
        if len(self._buffer) < begin + size:
            if _EXPECT.search(head) and len(self._buffer) == begin:
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        body = bytes(self._buffer[begin : begin + size])
        del self._buffer[: begin + size]
        self._is_busy = True
        latency_s = self._server.settings.latency_s
        if latency_s and not head.startswith(f"POST {_CONTROL}"):
            # Also for a client that goes in the meantime: what it has sent is on its way.
            asyncio.get_running_loop().call_later(latency_s / 2, self._act, head, body, latency_s / 2)
        else:
            self._act(head, body, 0.0)

    def _act(self, head: str, body: bytes, later_s: float) -> None:
        self._server.handle(head, body, lambda answer: self._answer(answer, later_s))

    def _answer(self, answer: bytes, later_s: float) -> None:
        if later_s:
            asyncio.get_running_loop().call_later(later_s, self._answer, answer, 0.0)
            return
        self._write(answer)
        self._is_busy = False
        if self._buffer:
            self._next()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class _Server:
    def __init__(self) -> None:
        self.settings = _Settings()
        self.service = Service()
        self._control = _Control(self.service, self.settings)
        self._waiters = _Waiters(self.service)
        self._moves = Moves(self.service)
        self._tasks: set[asyncio.Task[None]] = set()
        self._actions: dict[str, Callable[[Request, str], Request | None] | None] = {}

    def handle(self, head: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        if head.startswith(f"POST {_CONTROL}"):
            answer(self._controlled(body))
            return
        found = _ACTION.search(head)
        name = found[1] if found else ""
        host = _HOST.search(head)
        self.service.counts[name] += 1
        try:
            act = self._action(name)
            request = json.loads(body)
            base = f"http://{host[1] if host else ''}"
            given = act(request, base)
            if given is None and self.service.wait_s(request):
                self._start(self._wait(request, base, answer))
                return
        except SqsError as error:
            answer(self._failed(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            answer(self._failed(SqsError("ValidationException", f"{type(error).__name__}: {error}")))
        else:
            answer(self._http(200, given or {}))

    async def _wait(self, request: Request, base: str, answer: Callable[[bytes], None]) -> None:
        try:
            answer(self._http(200, await self._waiters.receive(request, base)))
        except SqsError as error:
            answer(self._failed(error))

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _action(self, name: str) -> Callable[[Request, str], Request | None]:
        if name not in self._actions:
            method = _WORDS.sub("_", name).lower()
            self._actions[name] = getattr(self.service, method, None) or getattr(self._moves, method, None)
        if (act := self._actions[name]) is None:
            raise SqsError("UnknownOperationException", f"Unknown operation {name}")
        return act

    def _controlled(self, body: bytes) -> bytes:
        try:
            return self._http(200, self._control.answer(json.loads(body)))
        except Exception as error:
            return self._http(500, f"{type(error).__name__}: {error}")

    def _failed(self, error: SqsError) -> bytes:
        prefix = "com.amazon.coral.service#" if error.shape.endswith("Exception") else "com.amazonaws.sqs#"
        if error.shape.startswith("ResourceNotFound"):
            prefix = "com.amazonaws.sqs#"
        header = f"x-amzn-query-error: {error.code};Sender\r\n"
        return self._http(error.status, {"__type": prefix + error.shape, "message": str(error)}, header)

    def _http(self, status: int, answer: Any, headers: str = "") -> bytes:
        body = json.dumps(answer).encode()
        head = (
            f"HTTP/1.1 {status} {http.client.responses[status]}\r\nx-amzn-RequestId: {new_id()}\r\n{headers}"
            f"Content-Type: {_JSON}\r\nDate: {email.utils.formatdate(self.service.now(), usegmt=True)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def _serve() -> None:
    server, loop = _Server(), asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", 0, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await loop.run_in_executor(None, sys.stdin.buffer.read)  # until whoever started us has gone
    listening.close()


if __name__ == "__main__":
    gc.set_threshold(200_000, 50, 50)  # a look at 200,000 messages takes longer than a request
    asyncio.run(_serve())
