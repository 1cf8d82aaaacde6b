"""What the engine needs of a queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAddress, QueueAttributes


class Queue(Protocol):
    """One queue; used by many threads. refinerctl.aws.message_queue.MessageQueue is one.

    Calls with entries never raise for what SQS or the network say: each entry gets its own result.
    """

    @property
    def address(self) -> QueueAddress: ...

    def attributes(self) -> QueueAttributes:
        """Raises RefinerctlError; NotFoundError without the queue."""

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        """Up to `count` (1 to 10) messages. Raises TransientError, and other RefinerctlErrors for what stays so."""

    def send(self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None]) -> list[EntryResult]:
        """Up to ten. `leaving` is called when the request is about to go out: from then on it may be heard."""

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        """Up to ten."""

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        """Up to ten: invisible for so long from now; 0 gives them back."""
