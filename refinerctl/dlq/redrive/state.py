"""Where each message of a redrive stands, as told by the records of its journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from refinerctl.dlq.redrive.id_filter import IdFilter

Record = Mapping[str, Any]


@dataclass(slots=True)
class Unsettled:
    """A message that is neither out of the dead-letter queue nor safely back in it.

    `lefts`: requests to send it that left and were not refused; `left_at`: when the last one did, by the server's
    clock. `new_id`: what the target calls it. `is_intended`: it was to be sent, and nothing more is known.
    `is_in_hand`: this process is working on it. `hidden_until`: by the server's clock; the receipt is good until then.
    """

    receipt: str = ""
    lefts: int = 0
    left_at: float = 0.0
    new_id: str | None = None
    is_intended: bool = False
    is_in_hand: bool = False
    hidden_until: float = 0.0


@dataclass
class RedriveState:
    """Everything up to the last record. Grows with what is unsettled, not with what was done.

    Records are objects with one of these keys: `part` (a run or a resumed one begins: its time; `boot` is another after
    each start of the machine), `held` (pairs of id and receipt, `until`), `intent` (ids, about to be sent to
    `to`), `left` (ids, their request goes out, `at`), `refused` (ids, it certainly had no effect), `sent` (pairs of id
    and new id), `deleted`, `aside` (ids, to be given back at the end), `returned` (ids, given back), `finished`.
    """

    unsettled: dict[str, Unsettled] = field(default_factory=dict)
    start: datetime | None = None
    is_finished: bool = False
    moved: int = 0
    dropped: int = 0
    _sent_twice: int = 0
    _sent: IdFilter = field(default_factory=IdFilter)
    _gone: IdFilter = field(default_factory=IdFilter)
    _boot: str = ""

    @property
    def sent_twice(self) -> int:
        """Copies that may be there beyond one for each message."""
        return self._sent_twice + sum(message.lefts for message in list(self.unsettled.values()))

    def is_ours(self, message_id: str) -> bool:
        """Whether this redrive sent a message that got this id."""
        return message_id in self._sent

    def may_be_gone(self, message_id: str) -> bool:
        """Whether this was deleted; there is a tiny chance that it was not."""
        return message_id in self._gone

    def left_since(self, message_id: str, moment: float) -> bool:
        """Whether a request to send it left after `moment`."""
        message = self.unsettled.get(message_id)
        return message is not None and message.lefts > 0 and message.left_at > moment

    def apply(self, record: Record) -> None:
        """Raises ValueError for a record that makes no sense here."""
        for kind, value in record.items():
            if kind in _STEPS:
                _STEPS[kind](self, value, record)
                return
        raise ValueError(f"an unknown record: {', '.join(record)}")

    def _part(self, at: str, record: Record) -> None:
        self.start = self.start or datetime.fromisoformat(at)
        self.is_finished = False
        self.let_go(list(self.unsettled))
        boot = record.get("boot", "")
        if self._boot not in ("", boot):  # what did not wait for the disk is lost: it may have left
            for message in self.unsettled.values():
                message.lefts += message.is_intended
                message.is_intended = False
        self._boot = boot

    def _held(self, pairs: Sequence[tuple[str, str]], record: Record) -> None:
        for message_id, receipt in pairs:
            message = self._message(message_id)
            message.receipt = receipt
            message.is_in_hand = True
            message.hidden_until = record.get("until", 0.0)

    def _intent(self, ids: Sequence[str], record: Record) -> None:
        for message_id in ids:
            self._message(message_id).is_intended = True

    def _left(self, ids: Sequence[str], record: Record) -> None:
        for message_id in ids:
            message = self._message(message_id)
            message.lefts += 1
            message.is_intended = False
            message.left_at = record["at"]

    def _refused(self, ids: Sequence[str], record: Record) -> None:
        for message_id in ids:
            self._message(message_id).lefts -= 1

    def _was_sent(self, pairs: Sequence[tuple[str, str]], record: Record) -> None:
        for message_id, new_id in pairs:
            message = self._message(message_id)
            message.new_id = new_id
            message.is_intended = False
            self._sent.add(new_id)

    def _deleted(self, ids: Sequence[str], record: Record) -> None:
        for message_id in ids:
            message = self.unsettled.pop(message_id, None)
            if message is None:  # once more
                continue
            self._gone.add(message_id)
            self._sent_twice += max(0, message.lefts - 1)
            if message.new_id is None:
                self.dropped += 1
            else:
                self.moved += 1

    def _returned(self, ids: Sequence[str], record: Record) -> None:
        for message_id in ids:
            message = self.unsettled.get(message_id)
            if message is not None and not message.lefts and message.new_id is None:
                del self.unsettled[message_id]
        self.let_go(ids)

    def _aside(self, ids: Sequence[str], record: Record) -> None:
        """Until the end somebody else keeps these in mind; who reads the journal has to give them back, too."""

    def let_go(self, ids: Sequence[str]) -> None:
        """This process does nothing more about these unless it receives them again."""
        for message_id in ids:
            if (message := self.unsettled.get(message_id)) is not None:
                message.is_in_hand = False

    def is_in_hand(self, message_id: str) -> bool:
        message = self.unsettled.get(message_id)
        return message is not None and message.is_in_hand

    def _message(self, message_id: str) -> Unsettled:
        return self.unsettled.setdefault(message_id, Unsettled())

    def forget(self, ids: Sequence[str]) -> None:
        """Somebody else keeps the receipts of these in mind."""
        self._returned(ids, {})

    def _finish(self, value: object, record: Record) -> None:
        self.is_finished = True


_STEPS: dict[str, Callable[[RedriveState, Any, Record], None]] = {
    "part": RedriveState._part,
    "held": RedriveState._held,
    "intent": RedriveState._intent,
    "left": RedriveState._left,
    "refused": RedriveState._refused,
    "sent": RedriveState._was_sent,
    "deleted": RedriveState._deleted,
    "returned": RedriveState._returned,
    "aside": RedriveState._aside,
    "finished": RedriveState._finish,
}
