"""A queue in memory: what is received is hidden until it is given back, and nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from refinerctl.aws.messages import EntryResult, Message, QueueAddress, QueueAttributes
from refinerctl.errors import RefinerctlError
from tests.unit.dead_letters.letters import queue


class FakeQueue:
    """`fail` is asked before each call, by its name, and raises what is to go wrong."""

    def __init__(self, letters: Sequence[Message], name: str = "a-dlq") -> None:
        self.visible = list(letters)
        self.in_flight: dict[str, Message] = {}
        self.visibilities: list[int] = []
        self.calls: list[str] = []
        self.fail: Callable[[str], None] = lambda _: None
        self.refuse_delete: set[str] = set()
        self.on_receive: Callable[[], None] = lambda: None
        self.largest_receive = 10
        self.in_hands = 0
        self._address = queue(name)
        self._count = 0
        self._lock = threading.Lock()

    @property
    def address(self) -> QueueAddress:
        return self._address

    @property
    def ids(self) -> list[str]:
        return sorted(letter.id for letter in self.visible)

    def attributes(self) -> QueueAttributes:
        with self._lock:
            self._begin("facts")
            return QueueAttributes(
                datetime.now(UTC), len(self.visible), len(self.in_flight) + self.in_hands, 0, 262_144
            )

    def receive(self, count: int, *, visibility_s: int, wait_s: int) -> list[Message]:
        with self._lock:
            self._begin("receive")
            self.on_receive()
            self.visibilities.append(visibility_s)
            taken = self.visible[: min(count, self.largest_receive)]
            self.visible = self.visible[len(taken) :]
            return [self._given(letter) for letter in taken]

    def delete(self, receipts: Sequence[str]) -> list[EntryResult]:
        with self._lock:
            self._begin("delete")
            return [self._delete(receipt) for receipt in receipts]

    def change_visibility(self, receipts: Sequence[str], visibility_s: int) -> list[EntryResult]:
        assert visibility_s == 0
        assert 1 <= len(receipts) <= 10
        with self._lock:
            self._begin("hide")
            return [self._back(receipt) for receipt in receipts]

    def again(self, receipt: str) -> None:
        """Become visible although it is in somebody's hands."""
        self.visible.append(self.in_flight.pop(receipt))

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        self.fail(call)

    def _given(self, letter: Message) -> Message:
        self._count += 1
        given = replace(letter, receipt=f"receipt {self._count}", receive_count=letter.receive_count + 1)
        self.in_flight[given.receipt] = given
        return given

    def _delete(self, receipt: str) -> EntryResult:
        letter = self.in_flight.get(receipt)
        if letter is not None and letter.id in self.refuse_delete:
            return EntryResult(error="InternalError", message="try again")
        self.in_flight.pop(receipt, None)
        return EntryResult()

    def _back(self, receipt: str) -> EntryResult:
        if receipt not in self.in_flight:
            return EntryResult(error="InvalidParameterValue", message="not in flight", is_sender_fault=True)
        self.visible.append(self.in_flight.pop(receipt))
        return EntryResult()


def failing(call: str, errors: list[RefinerctlError | None]) -> Callable[[str], None]:
    """Let the next calls of this name fail, as long as there are errors; None lets one pass."""

    def fail(name: str) -> None:
        if name == call and errors and (error := errors.pop(0)) is not None:
            raise error

    return fail
