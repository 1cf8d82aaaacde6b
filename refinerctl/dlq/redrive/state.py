"""Where each message of a redrive is, as a pure function of the records in its journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

Record = Mapping[str, Any]

# 32 Mbit for half a million ids: one of 10,000,000 other ids is taken for one of them.
_FILTER_BYTES = 4 << 20
_FILTER_CAPACITY = 500_000
_FILTER_HASHES = 7


class IdFilter:
    """Bloom filters, one for each `capacity` ids: finds every added id, and very rarely another one.

    `size_bytes` is a power of two.
    """

    def __init__(self, capacity: int = _FILTER_CAPACITY, size_bytes: int = _FILTER_BYTES) -> None:
        self._capacity = self._room = capacity
        self._mask = size_bytes * 8 - 1
        self._filters = [bytearray(size_bytes)]

    def add(self, item: str) -> None:
        if not self._room:
            self._filters.append(bytearray(len(self._filters[0])))
            self._room = self._capacity
        self._room -= 1
        for bit in self._bits(item):
            self._filters[-1][bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, item: str) -> bool:
        bits = self._bits(item)
        return any(all(array[bit >> 3] & (1 << (bit & 7)) for bit in bits) for array in self._filters)

    def _bits(self, item: str) -> list[int]:
        """Two hashes serve as any number of them: https://www.eecs.harvard.edu/~michaelm/postscripts/rsa2008.pdf."""
        digest = blake2b(item.encode(), digest_size=16).digest()
        first, step = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
        return [(first + number * step) & self._mask for number in range(_FILTER_HASHES)]


@dataclass(slots=True)
class Unsettled:
    """A message that was received, and neither deleted nor released.

    `sends` counts the requests to send it that left and were not refused; `left_at` is when the last one did, by the
    server's clock in seconds. `new_id` is its id in the target queue. `is_in_hand`: this process works on it.
    """

    receipt: str = ""
    sends: int = 0
    left_at: float = 0.0
    new_id: str | None = None
    is_in_hand: bool = False


@dataclass
class RedriveState:
    """The state after the records applied so far. Its size depends on what is unsettled, not on what is done.

    A record is an object with one of these keys, in this order for a message:
    `part`      a run, or its continuation, begins at this time
    `received`  pairs of id and receipt
    `left`      ids whose request leaves, `at` by the server's clock; on disk before it does
    `refused`   ids of a request that certainly had no effect
    `sent`      pairs of id and new id, confirmed by the target; on disk before anything is deleted
    `deleted`   ids that are out of the source
    `released`  ids that are visible again in the source, unsent
    `finished`  nothing is left to resume
    """

    unsettled: dict[str, Unsettled] = field(default_factory=dict)
    start: datetime | None = None
    is_finished: bool = False
    moved: int = 0
    _sent_twice: int = 0
    _new_ids: IdFilter = field(default_factory=IdFilter)
    _deleted: IdFilter = field(default_factory=IdFilter)

    @property
    def sent_twice(self) -> int:
        """The maximum number of duplicates in the target."""
        return self._sent_twice + sum(message.sends for message in list(self.unsettled.values()))

    @property
    def undeleted(self) -> list[str]:
        """The ids of those that were sent, and may still be in the source."""
        return [message_id for message_id, message in list(self.unsettled.items()) if message.new_id is not None]

    def may_be_new_id(self, message_id: str) -> bool:
        return message_id in self._new_ids

    def may_be_deleted(self, message_id: str) -> bool:
        return message_id in self._deleted

    def left_after(self, message_id: str, moment: float) -> bool:
        """Whether a request to send it left after `moment`."""
        message = self.unsettled.get(message_id)
        return message is not None and message.sends > 0 and message.left_at > moment

    def is_in_hand(self, message_id: str) -> bool:
        message = self.unsettled.get(message_id)
        return message is not None and message.is_in_hand

    def let_go(self, ids: Iterable[str]) -> None:
        """This process no longer works on these; removes those that were not sent."""
        for message_id in ids:
            message = self.unsettled.get(message_id)
            if message is not None:
                message.is_in_hand = False
                if not message.sends and message.new_id is None:
                    del self.unsettled[message_id]

    def apply(self, record: Record) -> None:  # noqa: C901 - a case for each record
        """Raises ValueError, TypeError or KeyError for an invalid record."""
        match record:
            case {"part": at}:
                self.start = self.start or datetime.fromisoformat(at)
                self.is_finished = False
                for message in self.unsettled.values():
                    message.is_in_hand = False
            case {"received": pairs}:
                for message_id, receipt in pairs:
                    message = self._message(message_id)
                    message.receipt, message.is_in_hand = receipt, True
            case {"left": ids}:
                for message_id in ids:
                    message = self._message(message_id)
                    message.sends += 1
                    message.left_at = record["at"]
            case {"refused": ids}:
                for message_id in ids:
                    self._message(message_id).sends -= 1
            case {"sent": pairs}:
                for message_id, new_id in pairs:
                    self._message(message_id).new_id = new_id
                    self._new_ids.add(new_id)
            case {"deleted": ids}:
                self._delete(ids)
            case {"released": ids}:
                self.let_go(ids)
            case {"finished": _}:
                self.is_finished = True
            case _:
                raise ValueError(f"unknown record: {', '.join(record)}")

    def _delete(self, ids: Iterable[str]) -> None:
        for message_id in ids:
            message = self.unsettled.pop(message_id, None)
            if message is not None:
                self._deleted.add(message_id)
                self._sent_twice += max(0, message.sends - 1)
                self.moved += 1

    def _message(self, message_id: str) -> Unsettled:
        return self.unsettled.setdefault(message_id, Unsettled())
