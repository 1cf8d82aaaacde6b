"""One run: settle what an earlier part left, let the lanes work, give back what is to stay, count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from refinerctl.aws.messages import MAX_BATCH, Message, QueueAttributes
from refinerctl.console import Progress
from refinerctl.dlq.redrive import awake
from refinerctl.dlq.redrive.aside import Aside, give_back
from refinerctl.dlq.redrive.intake import Intake
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.lane import Lane
from refinerctl.dlq.redrive.ports import Queue
from refinerctl.dlq.redrive.run import Run, Targets
from refinerctl.dlq.redrive.types import CopyRules, Moved, Route
from refinerctl.errors import RefinerctlError, Terminated, TransientError, UsageError
from refinerctl.parallel import LOOK_SECONDS, concurrently

METHOD = "copy"
# An interrupted run finishes what is in flight, but not for longer than an operator waits.
GRACE_S = 5.0
SHOW_EVERY_S = 0.5
_SETTLE_THREADS = 16
_FACTS_ATTEMPTS = 5
_CLOCK_MARGIN_S = 5.0
# The server's Date has no fractions: what was sent within the second in which a run begins belongs to it.
_DATE_RESOLUTION = timedelta(seconds=1)


def copy(
    source: Queue,
    queue_at: Callable[[str], Queue],
    route: Callable[[Message], Route],
    rules: CopyRules,
    journal: RedriveJournal,
    progress: Progress,
) -> Moved:
    """Move what `route` says out of `source`, until nothing is left of what was sent before the start.

    `queue_at` gives the queue of a URL that `route` named, and is called once per URL. `route` is called in several
    threads, for each receiving of a message; what it raises stops the run. `progress.advance(n)`: n more messages are
    done with. A journal that is finished leaves nothing to do; one of an earlier part is gone on with, and the counts
    `moved`, `dropped` and `sent_twice` are of all parts.

    Also returns if it was interrupted (Ctrl-C, SIGTERM) or met an error that no retry helps against (no permission,
    queue gone, credentials expired, disk full): `Moved.stopped_by` is to be raised once the report is out; what was in
    hand has been given back, and the journal can be resumed. Raises RefinerctlError if it could not begin. A second
    signal gets through at once.
    """
    if journal.header.source_url != source.address.url:
        raise UsageError(f"{journal.path} is the journal of another queue: {journal.header.queue}")
    facts = _facts(source, rules.longest_pause_s)
    if journal.is_finished:
        return _moved(journal, facts.total)
    start = journal.begin_part(facts.at + _DATE_RESOLUTION)
    stopping = threading.Event()
    presumed: list[str] = []

    def is_owed() -> bool:
        return any(message_id in journal.state.unsettled for message_id in presumed)

    intake = Intake(source, facts.visible, rules, stopping, is_owed)
    aside = Aside(source, journal)
    targets = Targets(queue_at)
    run = Run(
        source,
        targets,
        route,
        journal,
        start,
        intake,
        aside,
        stopping,
        visibility_s=rules.visibility_s,
        longest_pause_s=rules.longest_pause_s,
        presumed_deleted=presumed,
        server_ahead_s=_server_now(facts) - awake.now(),
    )
    try:
        try:
            _settle(run)
        except (KeyboardInterrupt, Terminated) as signal:
            run.fail(signal)
        _work(run, max(1, rules.lanes), progress)
        if run.failure is None and not any(message.new_id for message in journal.state.unsettled.values()):
            journal.finish()
    except RefinerctlError as error:
        run.fail(error)
    finally:
        aside.close()
    return _moved(journal, _left(run), run)


def _work(run: Run, lanes: int, progress: Progress) -> None:
    # Not Thread.join: interrupted, it takes a thread for ended that is not (Python 3.11).
    ended = [threading.Event() for _ in range(lanes)]
    try:
        for number, event in enumerate(ended):
            threading.Thread(target=_lane, args=(run, event), name=f"redrive-{number}", daemon=True).start()
        _watch(run, ended, progress)
        try:
            _settle_presumed(run)
        except RefinerctlError as error:
            run.fail(error)
        if not isinstance(run.failure, Exception | None):
            raise run.failure
        if run.intake.unseen and len(run.aside):
            progress.step(
                f"about {run.intake.unseen} messages were not looked at: the queue hands out no more while"
                f" {len(run.aside)} that stay are hidden"
            )
        run.aside.give_back()
    except (KeyboardInterrupt, Terminated) as signal:
        run.fail(signal)
        progress.step("stopping: finishing what is in flight")
        deadline = time.monotonic() + GRACE_S
        for event in ended:
            event.wait(max(0.0, deadline - time.monotonic()))
        run.aside.give_back()


def _lane(run: Run, ended: threading.Event) -> None:
    lane = Lane(run)
    try:
        try:
            lane.work()
        except Exception as error:
            run.fail(error)
        lane.end()
    except BaseException as error:
        run.fail(error)
    finally:
        ended.set()


def _watch(run: Run, ended: Sequence[threading.Event], progress: Progress) -> None:
    """Until all lanes have ended."""
    state = run.journal.state
    done = state.moved + state.dropped
    shown_at = 0.0
    for event in ended:
        while not event.wait(LOOK_SECONDS):
            try:
                run.aside.keep_hidden()
            except RefinerctlError as error:
                run.fail(error)
            if time.monotonic() - shown_at > SHOW_EVERY_S:
                shown_at = time.monotonic()
                progress.advance(state.moved + state.dropped - done)
                done = state.moved + state.dropped
                progress.update(f"{done} done, {len(run.aside)} stay")
    progress.advance(state.moved + state.dropped - done)


def _settle(run: Run) -> None:
    """Delete what an earlier part had sent, and give back what it had in hand."""
    held = [(message_id, item) for message_id, item in run.journal.state.unsettled.items() if item.receipt]
    # With a receipt that somebody else's has replaced, SQS says that it deleted, and does not.
    good_until = run.server_time(awake.now()) + _CLOCK_MARGIN_S
    good: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for message_id, item in held:
        is_deletable = item.new_id is not None and item.hidden_until > good_until
        (good if is_deletable else others).append((message_id, item.receipt))
        # Those that were sent and are not deleted now are received again, and deleted then, or were deleted already.
        if item.new_id is not None and not is_deletable:
            run.presumed_deleted.append(message_id)
    tasks: list[Callable[[], object]] = [partial(_delete, run, batch) for batch in _batches(good)]
    tasks += [partial(give_back, run.source, run.journal, batch) for batch in _batches(others)]
    concurrently(tasks, _SETTLE_THREADS)


def _delete(run: Run, items: Sequence[tuple[str, str]]) -> None:
    results = run.source.delete([receipt for _, receipt in items])
    run.journal.deleted([message_id for (message_id, _), result in zip(items, results, strict=True) if result.is_done])


def _settle_presumed(run: Run) -> None:
    """What could not be deleted for certain, and was not received again, is gone if nothing but what stays is there.

    If some others are there, no more of them than those can be: the rest is gone, though nobody knows which.
    """
    presumed = [message_id for message_id in run.presumed_deleted if message_id in run.journal.state.unsettled]
    if presumed and (total := _left(run)) is not None:
        others = total - len(run.aside)
        if others <= 0:
            run.journal.deleted(presumed)
        else:
            run.surely_gone = max(0, len(presumed) - others)


def _batches(items: Sequence[tuple[str, str]]) -> list[Sequence[tuple[str, str]]]:
    return [items[start : start + MAX_BATCH] for start in range(0, len(items), MAX_BATCH)]


def _facts(source: Queue, longest_pause_s: float) -> QueueAttributes:
    for attempt in range(_FACTS_ATTEMPTS):
        try:
            return source.attributes()
        except TransientError:
            time.sleep(min(longest_pause_s, 0.1 * 2**attempt))
    return source.attributes()


def _server_now(facts: QueueAttributes) -> float:
    """Since the epoch. A file has a time after all others; a clock that is wrong by a day nobody talks to."""
    return min(facts.at, datetime.now(UTC) + timedelta(days=1)).timestamp()


def _left(run: Run) -> int | None:
    """How many are there. Nobody who has interrupted the run waits for several attempts."""
    try:
        facts = _facts(run.source, run.longest_pause_s) if run.failure is None else run.source.attributes()
    except RefinerctlError:
        return None
    return facts.total


def _moved(journal: RedriveJournal, left: int | None, run: Run | None = None) -> Moved:
    state = journal.state
    counts = Moved(METHOD, state.moved, sent_twice=state.sent_twice, left=left, dropped=state.dropped)
    if run is None:
        return counts
    return replace(
        counts,
        moved=counts.moved + run.surely_gone,
        sent_twice=counts.sent_twice - run.surely_gone,
        skipped=run.tally.skipped,
        failed=run.tally.failed,
        returned=run.tally.returned,
        dropped_duplicates=run.tally.dropped_duplicates,
        reasons=dict(run.tally.reasons),
        stopped_by=run.failure,
    )
