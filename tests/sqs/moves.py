"""SQS's own redrive: one task per queue, from a dead-letter queue, at most 500 messages a second.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html. What it moves is a
new message: new id, new time.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from dataclasses import dataclass
from typing import Any

from tests.sqs.actions import Request, Service
from tests.sqs.queues import Message, Queue, SqsError, invalid, new_id

MAX_RATE = 500
TICK_S = 0.02
_LISTED = 10


@dataclass
class Move:
    id: str
    source: Queue
    destination: str | None
    rate: int | None
    started_s: float
    to_move: int
    moved: int = 0
    status: str = "RUNNING"
    failure: str | None = None

    @property
    def handle(self) -> str:
        text = f'{{"taskId":"{self.id}","sourceArn":"{self.source.arn}"}}'
        return base64.b64encode(text.encode()).decode()

    def listed(self) -> Request:
        found: dict[str, Any] = {
            "TaskHandle": self.handle if self.status == "RUNNING" else None,
            "Status": self.status,
            "SourceArn": self.source.arn,
            "DestinationArn": self.destination,
            "MaxNumberOfMessagesPerSecond": self.rate,
            "ApproximateNumberOfMessagesMoved": self.moved,
            "ApproximateNumberOfMessagesToMove": self.to_move,
            "FailureReason": self.failure,
            "StartedTimestamp": int(self.started_s * 1000),
        }
        return {name: value for name, value in found.items() if value is not None}


class Moves:
    """The tasks of an account, newest last."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._moves: list[Move] = []
        self._running: set[asyncio.Task[None]] = set()

    def start_message_move_task(self, request: Request, base: str) -> Request:
        source = self._source(request)
        destination, rate = request.get("DestinationArn"), request.get("MaxNumberOfMessagesPerSecond")
        if rate is not None and not 1 <= rate <= MAX_RATE:
            raise invalid(f"Value {rate} for parameter MaxNumberOfMessagesPerSecond is invalid.")
        if not any(self._service.sources(source)):
            raise invalid("Source queue must be configured as a Dead Letter Queue.")
        if destination is not None and self._service.by_arn(destination) is None:
            raise _missing("The resource that you specified for the DestinationArn parameter doesn't exist.")
        if any(move.source is source and move.status in ("RUNNING", "CANCELLING") for move in self._moves):
            why = "Only one active task is allowed for a source queue arn at a given time."
            raise invalid(f"There is already a task running. {why}")
        move = Move(new_id(), source, destination, rate, self._service.now(), source.visible)
        self._moves.append(move)
        task = asyncio.get_running_loop().create_task(self._run(move))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return {"TaskHandle": move.handle}

    def list_message_move_tasks(self, request: Request, base: str) -> Request:
        source, limit = self._source(request), request.get("MaxResults") or 1
        if not 1 <= limit <= _LISTED:
            raise invalid(f"Value {limit} for parameter MaxResults is invalid. Reason: Must be between 1 and 10")
        found = [move.listed() for move in reversed(self._moves) if move.source is source]
        return {"Results": found[:limit]}

    def cancel_message_move_task(self, request: Request, base: str) -> Request:
        handle = request.get("TaskHandle")
        move = next((move for move in self._moves if move.handle == handle), None)
        if move is None:
            raise _missing("Task does not exist.")
        if move.status != "RUNNING":
            raise SqsError("UnsupportedOperation", "Only active tasks can be cancelled.",
                           "AWS.SimpleQueueService.UnsupportedOperation")  # fmt: skip
        move.status = "CANCELLING"
        return {"ApproximateNumberOfMessagesMoved": move.moved}

    def _source(self, request: Request) -> Queue:
        source = self._service.by_arn(request.get("SourceArn") or "")
        if source is None:
            raise _missing("The resource that you specified for the SourceArn parameter doesn't exist.")
        return source

    async def _run(self, move: Move) -> None:
        loop = asyncio.get_running_loop()
        start, rate = loop.time(), move.rate or MAX_RATE
        while move.status == "RUNNING":
            await asyncio.sleep(TICK_S)
            while move.status == "RUNNING" and move.moved < (loop.time() - start) * rate:
                self._move_one(move)
        if move.status == "CANCELLING":
            move.status = "CANCELLED"

    def _move_one(self, move: Move) -> None:
        now = self._service.now()
        message = move.source.remove_visible(now)
        if message is None:
            move.status = "COMPLETED"
            return
        target = self._service.by_arn(move.destination or message.source_arn or "")
        if target is None:
            move.source.put(message_again(message), now)
            move.status = "FAILED"
            move.failure = "CouldNotDetermineMessageSource" if message.source_arn is None else "DestinationDoesNotExist"
            return
        target.put(
            dataclasses.replace(message_again(message), id=new_id(), sent_s=now, receive_count=0, source_arn=None), now
        )
        move.moved += 1


def message_again(message: Message) -> Message:
    """The same message, to be put into a queue."""
    fresh = Message(message.id, message.body, message.sent_s)
    return dataclasses.replace(
        message, number=fresh.number, receipt=None, is_in_flight=False, is_delayed=False, is_gone=False, ticket=0
    )


def _missing(message: str) -> SqsError:
    return SqsError("ResourceNotFoundException", message)
