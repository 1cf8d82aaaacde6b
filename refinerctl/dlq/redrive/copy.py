"""Moving messages by receive, send, delete: with filters, faster than a move task of SQS, and safe to kill.

docs/architecture.md has the states of a message, the order of the journal's records and what each thread owns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from refinerctl.aws.messages import MAX_BATCH, Message, QueueAddress
from refinerctl.console import Progress
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.held import THREADS, HeldMessages, clock
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.routes import Route
from refinerctl.dlq.redrive.shared import Allowance, InHand, Run
from refinerctl.dlq.redrive.source import QueueSource, Source, release_and_record
from refinerctl.dlq.redrive.worker import Worker
from refinerctl.dlq.remaining import PAUSE_S, Remaining
from refinerctl.dlq.walk import progress_text
from refinerctl.errors import RefinerctlError, Terminated, UsageError
from refinerctl.parallel import LOOK_SECONDS, attempt, concurrently, through_interrupt

# Most of what is received for a filter stays, hidden until the end. Killed and not resumed, it stays hidden so long.
SELECTIVE_VISIBILITY_S = 1800
# Maximum time in which an interrupted run finishes its messages in hand.
GRACE_S = 5.0
SHOW_EVERY_S = 0.5
FEWEST_WORKERS = 4  # because counts are approximate
# The server's Date has no fractions: what was sent in the second in which a run begins belongs to it.
_DATE_RESOLUTION = timedelta(seconds=1)
_SIGNALS = (KeyboardInterrupt, Terminated)


@dataclass(frozen=True)
class CopyRules:
    """At most `limit` messages, at most `rate` per second. `is_selective`: the route lets most messages stay.

    `visibility_s`: for how long a message is hidden from others, should this process die. `total`: about how many
    messages are going to be moved, None if unknown.
    """

    limit: int | None = None
    rate: float | None = None
    is_selective: bool = False
    visibility_s: int = 120
    workers: int = 40
    max_pause_s: float = 5.0
    total: int | None = None


@dataclass(frozen=True)
class RedriveResult:
    """Counts of messages. Those that are not `moved` are still in the source.

    `sent_twice`: may be there twice, because a send or a deletion was not answered; `skipped`: not chosen; `failed`:
    chosen, and could not be sent, with `reasons`; `left`: in the source at the end, in flight included; `returned`:
    sent by this run and in the DLQ again; `dropped_duplicates`: a FIFO target got their deduplication id within five
    minutes before. `left_over`: what may be left that should have been moved, and why; `stopped_by`: what ended the run
    early, to be raised after its report.
    """

    method: str
    moved: int = 0
    skipped: int = 0
    failed: int = 0
    sent_twice: int = 0
    left: int | None = None
    returned: int = 0
    dropped_duplicates: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    left_over: str | None = None
    stopped_by: BaseException | None = field(default=None, compare=False)


def copy(
    queue: QueueClient,
    queue_at: Callable[[QueueAddress], QueueClient],
    route: Callable[[Message], Route],
    rules: CopyRules,
    journal: RedriveJournal,
    progress: Progress,
    on_sent: Callable[[InHand, str], None] = lambda _item, _new_id: None,
) -> RedriveResult:
    """Move what `route` says out of `queue`, until nothing is left of what was sent before the run began.

    `route` is called in several threads; what it raises stops the run. A journal of an earlier run is continued, and
    `moved` and `sent_twice` count all of it; one that is finished leaves nothing to do.

    Also returns if it was interrupted, or met an error that no retry helps against: `stopped_by`. Then what was in hand
    is released, and the run can be resumed. Raises RefinerctlError if it cannot begin. A second signal is raised at
    once.
    """
    check_journal(journal, queue.address)
    there = queue.attributes()
    if journal.is_finished:
        return result_of(journal, there.total)
    run = Run(
        journal,
        route,
        queue_at,
        Allowance(rules.limit, rules.rate),
        start=journal.begin_part(there.at + _DATE_RESOLUTION),
        server_ahead_s=there.at.timestamp() - clock(),
        max_pause_s=rules.max_pause_s,
        on_sent=on_sent,
        sends_at_once=queue.address.is_fifo or rules.rate is not None,
    )
    visibility_s = max(rules.visibility_s, SELECTIVE_VISIBILITY_S) if rules.is_selective else rules.visibility_s
    left: int | None = None
    left_over: str | None = None
    held = HeldMessages(queue, visibility_s, journal.path.parent)
    try:
        remaining = Remaining(queue, there, PAUSE_S if rules.max_pause_s else 0.0)
        source = QueueSource(queue, run, held, remaining, visibility_s, is_selective=rules.is_selective)
        _move(queue, run, source, remaining, held, rules, progress)
        staying = len(held)
        through_interrupt(partial(held.release, lambda ids: attempt(partial(journal.released, ids))))
        if run.failure is None:
            if remaining.is_none and (undeleted := journal.state.undeleted):
                journal.deleted(undeleted)  # nothing confirmed that, but they are not in the queue
            if not journal.state.undeleted:
                journal.finish()
            if not remaining.has_looked:  # because of the limit
                remaining.read(staying)
            elif not remaining.is_none:
                left_over = remaining.sentence
            left = None if remaining.count is None else remaining.count + staying
    except (*_SIGNALS, RefinerctlError) as error:
        _fail(run, error)
    finally:
        held.close()
    if run.failure is not None:  # who interrupted the run does not wait for retries
        counts = attempt(partial(queue.attributes, 1)).value
        left = counts.total if counts else None
    return replace(result_of(journal, left, run), left_over=left_over)


def _move(
    queue: QueueClient,
    run: Run,
    source: QueueSource,
    remaining: Remaining,
    held: HeldMessages,
    rules: CopyRules,
    progress: Progress,
) -> None:
    """Let workers move messages until their polls return none, again and again, until none are left."""
    state, start = run.journal.state, remaining.start
    moved_before = state.moved
    most = min(rules.workers, queue.max_workers)
    workers = min(most, max(FEWEST_WORKERS, -(-start.total // MAX_BATCH)))
    try:
        _release_unsettled(queue, run.journal)
        while True:
            source.begin_round()
            run_workers(run, source, workers, rules.total, progress, tick=held.extend)
            if run.stopping.is_set() or (run.allowance.is_spent and not state.undeleted):
                return
            seen = state.moved - moved_before + len(held)
            if remaining.look(len(held), seen, start.in_flight + start.delayed) or source.is_flooded:
                return
            if remaining.count:
                progress.update(remaining.sentence)
            workers = min(most, max(1, -(-remaining.visible // MAX_BATCH)))
    except (*_SIGNALS, RefinerctlError) as error:
        _fail(run, error)


def _fail(run: Run, error: BaseException) -> None:
    """Stop all workers. A second signal is raised."""
    if isinstance(error, _SIGNALS) and isinstance(run.failure, _SIGNALS):
        raise error
    run.fail(error)


def check_journal(journal: RedriveJournal, source: QueueAddress) -> None:
    if journal.header.source_url != source.url:
        raise UsageError(f"{journal.path} is the journal of another source: {journal.header.queue}")


def run_workers(
    run: Run,
    source: Source,
    count: int,
    total: int | None,
    progress: Progress,
    *,
    tick: Callable[[], object] = lambda: None,
) -> None:
    """Let workers work until their source has no more, and meanwhile call `tick` often; a signal stops them."""
    workers: list[Worker] = []
    try:
        if run.allowance.rate is not None:  # more workers would only wait
            count = min(count, 1 + int(run.allowance.rate / MAX_BATCH))
        for number in range(max(1, count)):
            worker = Worker(run, source)
            threading.Thread(target=worker.work, name=f"redrive-{number}", daemon=True).start()
            workers.append(worker)
        _watch(run, workers, total, progress, tick)
    except _SIGNALS as signal:
        run.fail(signal)
        progress.step("stopping: finishing what is in flight")
        deadline = time.monotonic() + GRACE_S
        for worker in workers:
            worker.ended.wait(max(0.0, deadline - time.monotonic()))


def _watch(
    run: Run, workers: Sequence[Worker], total: int | None, progress: Progress, tick: Callable[[], object]
) -> None:
    """Wait until all workers have ended."""
    began = shown_at = time.monotonic()
    before = run.journal.state.moved
    for worker in workers:
        while not worker.ended.wait(LOOK_SECONDS):
            try:
                tick()
            except RefinerctlError as error:
                run.fail(error)
            if time.monotonic() - shown_at > SHOW_EVERY_S:
                shown_at = time.monotonic()
                progress.update(progress_text(run.journal.state.moved - before, total, shown_at - began))


def _release_unsettled(queue: QueueClient, journal: RedriveJournal) -> None:
    """Of an earlier part: so that all of it can be received again at once."""
    unsettled = journal.state.unsettled.items()
    items = [(message_id, message.receipt) for message_id, message in unsettled if message.receipt]
    batches = [items[start : start + MAX_BATCH] for start in range(0, len(items), MAX_BATCH)]
    concurrently([partial(release_and_record, queue, journal, batch) for batch in batches], THREADS)


def result_of(journal: RedriveJournal, left: int | None, run: Run | None = None) -> RedriveResult:
    """The counts of a run; `moved` and `sent_twice` of all its parts."""
    found = RedriveResult("copy", journal.state.moved, sent_twice=journal.state.sent_twice, left=left)
    if run is None:
        return found
    names = ("skipped", "failed", "returned", "dropped_duplicates")
    counts: dict[str, Any] = {name: run.counts[name] for name in names}
    return replace(found, **counts, reasons=dict(run.reasons), stopped_by=run.failure)
