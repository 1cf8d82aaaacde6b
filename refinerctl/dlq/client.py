"""What the commands need of a queue, whether SQS or RabbitMQ has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from refinerctl.aws.messages import EntryResult, Message, OutgoingMessage, QueueAddress, QueueAttributes


class QueueClient(Protocol):
    """Messages of one queue; safe to share between threads.

    Calls with entries raise nothing: they return a result for each entry, in their order. At most `max_workers` threads
    are of use. Counts do not show what happened in the last `counts_lag_s`, or show more messages than there are. With
    a lag of 0 they are approximate.
    """

    max_workers: int
    counts_lag_s: float

    @property
    def address(self) -> QueueAddress: ...

    def attributes(self, attempts: int = ...) -> QueueAttributes:
        """Counts now. Raises NotFoundError without the queue, and other RefinerctlErrors."""

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        """Up to `count` (1 to 10) messages, hidden from other consumers until the timeout, a delete or a release.

        Waits up to `wait_s` for the first. Raises TransientError, or another RefinerctlError that the next call would
        get, too.
        """

    def send(self, messages: Sequence[OutgoingMessage], leaving: Callable[[], None] = ...) -> list[EntryResult]:
        """Send up to ten. `leaving` is called just before the request leaves, and its RefinerctlError prevents that."""

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        """Delete up to ten."""

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        """Hide up to ten for `visibility_s` from now; 0 releases them."""
