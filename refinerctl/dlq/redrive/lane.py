"""A lane: receive, sort, send, delete, again. It has fewer than twenty messages in hand."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from refinerctl.aws.messages import MAX_BATCH, Message
from refinerctl.dlq.redrive.aside import VISIBILITY_S, give_back
from refinerctl.dlq.redrive.intake import Catch, Turn
from refinerctl.dlq.redrive.run import InHand, Run, Target
from refinerctl.dlq.redrive.sending import Sender
from refinerctl.dlq.redrive.types import Drop, Leave

# For so long a message waits for others to be sent with.
LINGER_S = 0.5


class Lane:
    """Used by one thread."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sender = Sender(run)
        self._pending: dict[str, Sequence[InHand]] = {}
        self._deletions: list[InHand] = []
        self._waiting_since: float | None = None

    def work(self) -> None:
        """Until the intake or a failure ends it. Raises what the source, the journal or `route` raise."""
        while (turn := self._run.intake.turn(may_wait=self._waiting_since is None)) is not Turn.END:
            goes_on = turn is Turn.RECEIVE and self._receive() > 0
            self._flush(whole_only=goes_on and not self._is_late())

    def end(self) -> None:
        """Finish what is in hand; in a run that was stopped, what is yet to be sent is given back."""
        self._flush(whole_only=False)

    def _is_late(self) -> bool:
        # A FIFO queue gives nothing more of a group while one of it is in hand, and a slow pace nothing for long.
        if self._run.source.address.is_fifo or self._run.intake.pace.is_limited:
            return True
        return self._waiting_since is not None and time.monotonic() - self._waiting_since > LINGER_S

    def _receive(self) -> int:
        """How many came that are to be sent or deleted."""
        intake = self._run.intake
        catch, ours = None, 0
        try:
            catch = intake.receive()
            ours, wanted = self._sort(catch)
            # What has been reserved for more than came, or for those that are not wanted, is free again.
            intake.give_back(catch.reserved - wanted)
        finally:
            intake.sorted(catch, ours)
        if wanted and self._waiting_since is None:
            self._waiting_since = time.monotonic()
        return wanted

    def _sort(self, catch: Catch) -> tuple[int, int]:
        """How many were there before the start, and how many of these are wanted."""
        letters = deque(catch.letters)
        ours = wanted = 0
        try:
            ours = self._take_in_hand(letters, catch.hidden_until)
            while letters:
                is_ours, is_wanted = self._sort_letter(letters[0], catch, catch.reserved - wanted)
                letters.popleft()
                ours += is_ours
                wanted += is_wanted
        finally:
            if letters:
                pairs = [(letter.id, letter.receipt) for letter in letters]
                give_back(self._run.source, self._run.journal, pairs)
        return ours, wanted

    def _take_in_hand(self, letters: deque[Message], hidden_until: float) -> int:
        """Takes those away that nothing is to be done about, and those that were deleted before; how many were."""
        journal = self._run.journal
        gone = [letter for letter in letters if journal.was_deleted(letter.id)]
        found = [letter for letter in letters if letter not in gone]
        until = self._run.server_time(hidden_until)
        fresh = journal.held([(letter.id, letter.receipt) for letter in found], until) if found else set()
        letters.clear()
        letters.extend(letter for letter in found if letter.id in fresh)
        self._deletions += [InHand(letter.id, letter.receipt, hidden_until, is_reserved=False) for letter in gone]
        if self._run.stopping.is_set():  # another lane has just given them back, and they were received again
            again = [letter.receipt for letter in found if letter.id not in fresh]
            if again:
                self._run.source.change_visibility(again, 0)
        return len(gone)

    def _sort_letter(self, letter: Message, catch: Catch, reserved: int) -> tuple[bool, bool]:
        run = self._run
        item = InHand(letter.id, letter.receipt, catch.hidden_until)
        known = run.journal.state.unsettled.get(letter.id)
        if known is not None and known.new_id is not None:  # sent in an earlier part, or before a failed deletion
            item.is_reserved = False
            self._deletions.append(item)
            return True, False
        if run.journal.state.is_ours(letter.id):
            run.tally.add("returned")
            self._put_aside(item)
            return False, False
        if letter.sent_at >= run.start:
            self._put_aside(item)
            return False, False
        if not catch.reserved:  # beyond the limit
            self._put_aside(item)
            return True, False
        return True, self._follow_route(letter, item, reserved)

    def _follow_route(self, letter: Message, item: InHand, reserved: int) -> bool:
        """Whether it is to be sent or deleted."""
        run = self._run
        route = run.route(letter)
        if isinstance(route, Leave):
            run.tally.add("failed" if route.is_failure else "skipped", route.reason if route.is_failure else None)
        elif reserved > 0:
            if isinstance(route, Drop):
                self._deletions.append(item)
                return True
            item.outgoing, item.size = route.outgoing, route.outgoing.size
            if (limit := run.targets.at(route.queue_url).max_message_bytes) is None or item.size <= limit:
                self._pending[route.queue_url] = [*self._pending.get(route.queue_url, ()), item]
                return True
            run.tally.add("failed", f"larger than the {limit} bytes that the target takes")
        self._put_aside(item)
        return False

    def _put_aside(self, item: InHand) -> None:
        self._run.aside.put([(item.id, item.receipt)], item.hidden_until)
        self._run.intake.some_stay(VISIBILITY_S)

    def _flush(self, *, whole_only: bool) -> None:
        """Send and delete; of what does not fill a batch, with `whole_only` nothing."""
        for url in list(self._pending):
            self._send(url, whole_only)
        while len(self._deletions) >= (MAX_BATCH if whole_only else 1):
            batch, self._deletions = self._deletions[:MAX_BATCH], self._deletions[MAX_BATCH:]
            self._sender.delete(batch)
        if not self._pending and not self._deletions:
            self._waiting_since = None

    def _send(self, url: str, whole_only: bool) -> None:
        target = self._run.targets.at(url)
        if target.is_fifo:
            return self._send_in_order(target, self._pending.pop(url))
        while (items := self._pending.pop(url)) and (len(items) >= MAX_BATCH or not whole_only):
            if self._run.stopping.is_set():
                return self._sender.give_back(items)
            batch = _first_batch(items, target.batch_bytes)
            self._pending[url] = items[len(batch) :]
            self._deletions += self._sender.send(target, batch)
        if items:
            self._pending[url] = items
        return None

    def _send_in_order(self, target: Target, items: Sequence[InHand]) -> None:
        """One of each group at a time: a batch may fail in part, and nothing is to overtake what failed."""
        groups: dict[str | None, deque[InHand]] = {}
        for item in items:
            groups.setdefault(item.outgoing.group if item.outgoing else None, deque()).append(item)
        while groups:
            if self._run.stopping.is_set():
                return self._sender.give_back([item for group in groups.values() for item in group])
            batch = _first_batch([group[0] for group in groups.values()], target.batch_bytes)
            try:
                confirmed = self._sender.send(target, batch)
            except BaseException:
                others = [item for group in groups.values() for item in group if item not in batch]
                self._sender.give_back(others)
                raise
            self._deletions += confirmed
            done = {item.id for item in confirmed}
            for (name, group), item in list(zip(groups.items(), batch, strict=False)):
                group.popleft()
                if item.id not in done and not self._run.stopping.is_set():
                    for follower in group:
                        self._sender.put_aside(follower, "failed", "an earlier message of its group stays in the queue")
                    group.clear()
                if not group:
                    del groups[name]
        return None


def _first_batch(items: Sequence[InHand], most_bytes: int) -> Sequence[InHand]:
    """Up to ten from the front that fit into a request together; at least one."""
    size = 0
    for number, item in enumerate(items[:MAX_BATCH]):
        size += item.size
        if size > most_bytes and number:
            return items[:number]
    return items[:MAX_BATCH]
