"""Sending a batch until each of its messages is confirmed or is known to stay; deleting what was confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from refinerctl.aws.messages import EntryResult
from refinerctl.dlq.redrive import awake
from refinerctl.dlq.redrive.aside import give_back
from refinerctl.dlq.redrive.run import InHand, Run, Target
from refinerctl.errors import RefinerctlError, TransientError

SEND_ATTEMPTS = 8
# Once the run is to end, only what was sent already is still worth a few.
DELETE_ATTEMPTS = 8
LAST_DELETE_ATTEMPTS = 3
# A message that is about to be visible again is not to be sent.
MARGIN_S = 30.0
# SQS drops what a FIFO queue got within five minutes; a bit less, as clocks go.
DEDUPLICATED_FOR_S = 290.0


@dataclass
class _Answers:
    """What a request did: `again` are worth another, `halves` may be taken in smaller batches."""

    confirmed: list[tuple[InHand, str]] = field(default_factory=list)
    duplicates: list[InHand] = field(default_factory=list)
    rejected: list[tuple[InHand, str]] = field(default_factory=list)
    again: list[tuple[InHand, str]] = field(default_factory=list)


class Sender:
    """What a lane does with messages in hand."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._journal = run.journal

    def send(self, target: Target, items: Sequence[InHand]) -> list[InHand]:
        """Those that the target confirmed: on the disk, to be deleted. The others were put aside or given back."""
        confirmed: list[InHand] = []
        attempt = 0
        waiting = list(items)
        while waiting := self._still_hidden(waiting):
            try:
                results, counted = self._request(target, waiting)
            except RefinerctlError:  # it could not be written down, and did not go out
                self.give_back(waiting)
                raise
            answers = self._read(target, waiting, results)
            self._write_down(answers, waiting, results, counted)
            confirmed += [item for item, _ in answers.confirmed]
            cause = results[0].cause
            if cause is not None and results[0].is_sender_fault and len(waiting) > 1:
                middle = len(waiting) // 2
                return confirmed + self.send(target, waiting[:middle]) + self.send(target, waiting[middle:])
            if cause is not None and not isinstance(cause, TransientError) and not results[0].is_sender_fault:
                self._run.fail(cause)
                self.give_back(waiting)
                break
            self._settle(answers)
            attempt += 1
            waiting = [item for item, _ in answers.again]
            if not waiting:
                break
            if attempt == SEND_ATTEMPTS:
                for item, why in answers.again:
                    self.put_aside(item, "failed", why)
                break
            if self._run.stopping.wait(self._run.intake.pause_s(attempt)):
                self.give_back(waiting)
                break
        return confirmed

    def delete(self, items: Sequence[InHand]) -> None:
        """Up to ten. Those that cannot be deleted stay in the journal as sent: received again, they are deleted."""
        waiting = list(items)
        for attempt in range(1, DELETE_ATTEMPTS + 1):
            results = self._run.source.delete([self._journal.receipt(item.id, item.receipt) for item in waiting])
            done = [item for item, result in zip(waiting, results, strict=True) if result.is_done]
            now = awake.now()
            self._journal.deleted([item.id for item in done if item.hidden_until > now])
            self._run.presumed_deleted += [item.id for item in done if item.hidden_until <= now]
            if (cause := results[0].cause) is not None and not isinstance(cause, TransientError):
                self._run.fail(cause)
                break
            pairs = zip(waiting, results, strict=True)
            waiting = [item for item, result in pairs if not result.is_done and not result.is_sender_fault]
            if not waiting or (attempt >= LAST_DELETE_ATTEMPTS and self._run.stopping.is_set()):
                break
            self._run.stopping.wait(self._run.intake.pause_s(attempt))
        self._journal.state.let_go([item.id for item in items])
        self._run.intake.limit.spend(sum(item.is_reserved for item in items))

    def give_back(self, items: Sequence[InHand]) -> None:
        """Not now: the next one who receives gets them."""
        give_back(self._run.source, self._journal, [(item.id, item.receipt) for item in items])
        self._run.intake.give_back(len(items))

    def put_aside(self, item: InHand, count: str, reason: str | None = None) -> None:
        """It was to be moved, and stays where it is. `count` of the tally has one more."""
        self._run.tally.add(count, reason)
        self._run.aside.put([(item.id, item.receipt)], item.hidden_until)
        self._run.intake.give_back(1)

    def _request(self, target: Target, items: Sequence[InHand]) -> tuple[list[EntryResult], list[str]]:
        """The results, and the ids of those that are there twice if they had arrived before."""
        ids = [item.id for item in items]
        counted: list[str] = []
        state = self._journal.state

        def leaving() -> None:
            now = self._run.server_time(awake.now())
            since = now - DEDUPLICATED_FOR_S if target.is_fifo else float("inf")
            more = [message_id for message_id in ids if not state.left_since(message_id, since)]
            self._journal.left(more, now)
            counted.extend(more)  # once it is written down: what is refused takes no more back

        self._journal.intent(ids, target.queue.address.url)
        return target.queue.send([item.outgoing for item in items if item.outgoing], leaving), counted

    def _read(self, target: Target, items: Sequence[InHand], results: Sequence[EntryResult]) -> _Answers:
        answers = _Answers()
        new_ids: set[str] = set()
        for item, result in zip(items, results, strict=True):
            if result.message_id is not None and result.is_done:
                # SQS answers with the id of the message that it got first.
                is_known = result.message_id == item.id or result.message_id in new_ids
                if target.is_fifo and (is_known or self._journal.was_sent(result.message_id)):
                    answers.duplicates.append(item)
                else:
                    answers.confirmed.append((item, result.message_id))
                new_ids.add(result.message_id)
            elif result.is_sender_fault:
                answers.rejected.append((item, result.message or result.error or ""))
            else:
                answers.again.append((item, result.message or result.error or ""))
        return answers

    def _write_down(
        self, answers: _Answers, items: Sequence[InHand], results: Sequence[EntryResult], counted: Sequence[str]
    ) -> None:
        if answers.confirmed:
            self._journal.sent([(item.id, new_id) for item, new_id in answers.confirmed])
        without_effect = {
            item.id for item, result in zip(items, results, strict=True) if not (result.is_done or result.is_uncertain)
        }
        without_effect |= {item.id for item in answers.duplicates}
        if refused := [message_id for message_id in counted if message_id in without_effect]:
            self._journal.refused(refused)

    def _settle(self, answers: _Answers) -> None:
        for item in answers.duplicates:
            self.put_aside(item, "dropped_duplicates")
        for item, why in answers.rejected:
            self.put_aside(item, "failed", why)

    def _still_hidden(self, items: list[InHand]) -> list[InHand]:
        """Those that are certainly nobody else's for long enough."""
        visibility_s = self._run.visibility_s
        soon = awake.now() + min(MARGIN_S, visibility_s / 2)
        if all(item.hidden_until > soon for item in items):
            return items
        now = awake.now()
        results = self._run.source.change_visibility([item.receipt for item in items], visibility_s)
        kept = []
        for item, result in zip(items, results, strict=True):
            if result.is_done:
                item.hidden_until = now + visibility_s
            if item.hidden_until > now:
                kept.append(item)
        lost = [item for item in items if item.hidden_until <= now]
        self._journal.returned([item.id for item in lost])
        self._run.intake.give_back(len(lost))
        return kept
