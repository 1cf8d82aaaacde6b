"""A queue in memory: received messages are in flight until they are released, and no call waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from refinerctl.aws.messages import EntryResult, Message, QueueAddress, QueueAttributes
from refinerctl.errors import RefinerctlError
from tests.unit.dlq.messages import message, queue


class FakeQueue:
    """A delete with an old receipt is confirmed, and does nothing.

    `fail` gets the name of each call first, and raises what is to go wrong; `others` are in flight elsewhere.
    """

    max_workers = 40
    counts_lag_s = 0.0

    def __init__(self, messages: Sequence[Message], name: str = "a-dlq") -> None:
        self.visible = list(messages)
        self.in_flight: dict[str, Message] = {}
        self.hidden_until: dict[str, float] = {}  # by receipt
        self.visibilities: list[int] = []
        self.calls: list[str] = []
        self.fail: Callable[[str], None] = lambda _: None
        self.refuse_delete: set[str] = set()
        self.on_receive: Callable[[], None] = lambda: None
        self.largest_receive = 10
        self.others = 0
        self._address = queue(name)
        self._count = 0
        self._lock = threading.Lock()

    @property
    def address(self) -> QueueAddress:
        return self._address

    @property
    def ids(self) -> list[str]:
        return sorted(message.id for message in self.visible)

    def attributes(self, attempts: int = 1) -> QueueAttributes:
        with self._lock:
            self._begin("attributes")
            return QueueAttributes(datetime.now(UTC), len(self.visible), len(self.in_flight) + self.others, 0)

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        with self._lock:
            self._begin("receive")
            self.on_receive()
            self.visibilities.append(visibility_s)
            taken = self.visible[: min(count, self.largest_receive)]
            self.visible = self.visible[len(taken) :]
            return [self._taken(message, visibility_s) for message in taken]

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        with self._lock:
            self._begin("delete")
            return [self._delete(receipt) for receipt in receipts]

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        assert 1 <= len(receipts) <= 10
        with self._lock:
            self._begin("extend" if visibility_s else "change_visibility")
            return [self._change(receipt, visibility_s) for receipt in receipts]

    def time_out(self, receipt: str) -> None:
        """Make a message that is in flight visible again."""
        self.visible.append(self.in_flight.pop(receipt))
        del self.hidden_until[receipt]

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        for receipt in [receipt for receipt in self.in_flight if self.hidden_until[receipt] < time.monotonic()]:
            self.time_out(receipt)
        self.fail(call)

    def _taken(self, message: Message, visibility_s: int) -> Message:
        self._count += 1
        taken = replace(message, receipt=f"receipt {self._count}", receive_count=message.receive_count + 1)
        self.in_flight[taken.receipt] = taken
        self.hidden_until[taken.receipt] = time.monotonic() + visibility_s
        return taken

    def _delete(self, receipt: str) -> EntryResult:
        message = self.in_flight.get(receipt)
        if message is not None and message.id in self.refuse_delete:
            return EntryResult(error="InternalError", message="try again")
        self.in_flight.pop(receipt, None)
        return EntryResult()

    def _change(self, receipt: str, visibility_s: int) -> EntryResult:
        if receipt not in self.in_flight:
            return EntryResult(error="InvalidParameterValue", message="not in flight", is_sender_fault=True)
        self.hidden_until[receipt] = time.monotonic() + visibility_s
        if not visibility_s:
            self.time_out(receipt)
        return EntryResult()


def filled(count: int, name: str = "a-dlq") -> FakeQueue:
    return FakeQueue([message(number) for number in range(count)], name)


def failing(call: str, errors: list[RefinerctlError | None]) -> Callable[[str], None]:
    """Fails the next calls of this name, as long as there are errors; None lets a call pass."""

    def fail(name: str) -> None:
        if name == call and errors and (error := errors.pop(0)) is not None:
            raise error

    return fail
