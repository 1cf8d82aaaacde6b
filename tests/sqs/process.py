"""The process that server.py starts: HTTP, and what tests ask for past SQS's protocol."""

from __future__ import annotations

import asyncio
import email.utils
import gc
import http.client
import inspect
import json
import re
import sys
from typing import Any

from tests.sqs.service import Message, Request, Service, SqsError, new_id

CONTROL = "_control"
_LENGTH = re.compile(r"\r\ncontent-length: *(\d+)", re.I)
_HOST = re.compile(r"\r\nhost: *([^\r]+)", re.I)
_ACTION = re.compile(r"\r\nx-amz-target: *AmazonSQS\.(\w+)", re.I)


class Control:
    """What tests ask for: a method for each request of `SqsServer`."""

    def __init__(self, service: Service) -> None:
        self.latency_s = 0.0
        self._service = service

    def create(self, name: str, attributes: dict[str, str]) -> None:
        self._service.CreateQueue({"QueueName": name, "Attributes": attributes}, "")

    def fill(self, queue: str, count: int, body: str, start: int, **more: Any) -> None:
        source, age_s, received = more.pop("source", None), more.pop("age_s", 0), more.pop("receive_count", 0)
        templates = {name: more.pop(name) for name in ("group", "deduplication") if name in more}
        for number in range(start, start + count):
            given = {name: value.replace("{n}", str(number)) for name, value in templates.items()}
            text = body.replace("{n}", str(number))
            message = Message(text, self._service.now() - age_s, **more, **given, receive_count=received)
            message.source_arn = self._service.queues[source].arn if source else None
            self._service.queues[queue].put(message)

    def clear(self, queue: str) -> None:
        self._service.queues[queue].clear()

    def messages(self, queues: list[str]) -> list[tuple[Any, ...]]:
        found = []
        for queue in (self._service.queues[name] for name in queues):
            queue.tick(self._service.now())
            for item in sorted(queue.messages.values(), key=lambda item: item.sequence):
                state = "in-flight" if item.id in queue.in_flight else "visible"
                where = (queue.name, item.id, item.body, item.receive_count, state, item.sent_s, item.attributes)
                found.append((*where, item.group, item.deduplication, item.trace, item.source_arn))
        return found

    def bodies(self, queue: str) -> list[str]:
        return [item.body for item in self._service.queues[queue].messages.values()]

    def depth(self, queue: str) -> int:
        return len(self._service.queues[queue].messages)

    def counts(self, reset: bool) -> dict[str, int]:
        found = dict(self._service.counts)
        if reset:
            self._service.counts.clear()
        return found

    def advance(self, seconds: float) -> None:
        self._service.offset_s += seconds
        now = self._service.now()
        for queue in self._service.queues.values():
            queue.tick(now)
            retention_s = int(queue.attributes["MessageRetentionPeriod"])
            for message in [item for item in queue.messages.values() if item.sent_s + retention_s <= now]:
                queue.remove(message)

    def latency(self, seconds: float) -> None:
        self.latency_s = seconds

    def shown(self, queue: str) -> int:
        return sum(self._service.queues[queue].counts(self._service.lag_s))

    def lag(self, seconds: float) -> None:
        self._service.lag_s = seconds


class Server:
    """Just enough HTTP/1.1: requests with Content-Length, one after the other on a connection."""

    def __init__(self) -> None:
        self._service = Service()
        self._control = Control(self._service)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                if head.startswith(f"POST /{CONTROL}"):
                    writer.write(self._answer_test(json.loads(body)))
                    continue
                # Shielded: what a client has sent is on its way, also if the client goes.
                acting = asyncio.ensure_future(self._act(head, body))
                writer.write(await asyncio.shield(acting))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer_test(self, request: Request) -> bytes:
        try:
            return self._http(200, getattr(self._control, request.pop("do"))(**request))
        except Exception as error:
            return self._http(500, f"{type(error).__name__}: {error}")

    async def _act(self, head: str, body: bytes) -> bytes:
        """Half of the latency passes before the request is acted on, half after."""
        latency_s = self._control.latency_s
        if latency_s:
            await asyncio.sleep(latency_s / 2)
        action, host = _ACTION.search(head), _HOST.search(head)
        name = action[1] if action else ""
        self._service.counts[name] += 1
        try:
            act = getattr(self._service, name, None)
            if act is None:
                raise SqsError("UnknownOperationException", f"Unknown operation {name}")  # noqa: TRY301
            found = act(json.loads(body), f"http://{host[1] if host else ''}")
            answer = self._http(200, await found if inspect.isawaitable(found) else found)
        except SqsError as error:
            answer = self._failed(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            answer = self._failed(SqsError("ValidationException", f"{type(error).__name__}: {error}"))
        if latency_s:
            await asyncio.sleep(latency_s / 2)
        return answer

    def _failed(self, error: SqsError) -> bytes:
        header = f"x-amzn-query-error: {error.code};Sender\r\n"
        return self._http(error.status, {"__type": f"com.amazonaws.sqs#{error.shape}", "message": str(error)}, header)

    def _http(self, status: int, answer: Any, headers: str = "") -> bytes:
        body = json.dumps(answer).encode()
        head = (
            f"HTTP/1.1 {status} {http.client.responses[status]}\r\nx-amzn-RequestId: {new_id()}\r\n{headers}"
            "Content-Type: application/x-amz-json-1.0\r\n"
            f"Date: {email.utils.formatdate(self._service.now(), usegmt=True)}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def main() -> None:
    listening = await asyncio.start_server(Server().serve, "127.0.0.1", 0, backlog=512, limit=1 << 21)
    print(listening.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    # Until the process that started this one is gone.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    gc.set_threshold(200_000, 50, 50)  # a look at 200,000 messages takes longer than a request
    asyncio.run(main())
