"""A redrive by receive, send and delete, and the watch for what comes back after it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from refinerctl.aws.message_queue import MessageQueues
from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.aws.sqs import QueueState
from refinerctl.dlq.errors import error_finder
from refinerctl.dlq.redrive import Queue
from refinerctl.dlq.redrive.command_edit import read_edited
from refinerctl.dlq.redrive.command_errors import compare
from refinerctl.dlq.redrive.command_view import CountedProgress, messages
from refinerctl.dlq.redrive.engine import copy
from refinerctl.dlq.redrive.health import look
from refinerctl.dlq.redrive.returns import SentMessages, Watch
from refinerctl.dlq.redrive.routes import Routes
from refinerctl.dlq.redrive.types import CopyRules, Moved
from refinerctl.dlq.walk import matching

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.dlq.errors import ErrorFinder
    from refinerctl.dlq.redrive.command_options import RedriveOptions
    from refinerctl.dlq.redrive.command_report import Report
    from refinerctl.dlq.redrive.command_station import Station
    from refinerctl.dlq.redrive.journal import RedriveJournal
    from refinerctl.dlq.redrive.plan import PlanSources
    from refinerctl.dlq.redrive.types import RedrivePlan

# Beside the retries: for the message to be received, and to be moved to the dead-letter queue.
WAIT_MORE_SECONDS = 30
LONGEST_WAIT_SECONDS = 900


@dataclass
class Copying:
    app: AppContext
    options: RedriveOptions
    plan: RedrivePlan
    station: Station
    sources: PlanSources
    force: bool
    _sent: SentMessages = field(default_factory=SentMessages)
    _used: dict[str, QueueAddress] = field(default_factory=dict)
    _began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def run(self, journal: RedriveJournal, *, watched: bool) -> Moved:
        """Returns also when it was interrupted: `stopped_by` says so."""
        queues = MessageQueues(self.app.session)
        edited = read_edited(self.options.edited) if self.options.edited else None

        def queue_at(url: str) -> Queue:
            address = self.app.queues.address(url)
            self._used[url] = address
            queue: Queue = queues.at(address)
            return self._sent.of(queue) if watched else queue

        limit = self.options.limit if edited is None else len(edited)
        rules = CopyRules(limit=_rest(limit, journal), rate=self.options.rate)
        with self.app.render.progress() as progress:
            # How many a filter means is not known before all have been looked at.
            total = self.plan.depth if self.options.filter.is_empty or edited is not None else None
            counted = CountedProgress(progress, total if total is None or limit is None else min(total, limit))
            moved = copy(self.station.source, queue_at, self._routes(edited), rules, journal, counted)
        if watched:
            self._sent.add(journal.sent_ids())
        if edited is None and self.options.filter.needs_error and (count := self._errors.not_looked_up):
            self.app.render.warning(f"what killed {messages(count)} was not looked up, and they were not sent")
        if edited is not None and moved.stopped_by is None:
            self._tell_missing(len(edited) - moved.moved - moved.failed - moved.dropped_duplicates)
        return moved

    def watch(self, seconds: float, report: Report) -> None:
        """Fill in what came back, also when it is interrupted."""
        queues = MessageQueues(self.app.session)
        targets = list(self._used.values())
        settings = [self.sources.health.settings(target) for target in targets]
        dead = {item.dlq_arn: item.dlq_arn for item in settings if item.dlq_arn is not None}
        if self.station.is_queue:
            dead.setdefault(self.station.origin.queue.arn, self.station.origin.queue.arn)
        watch = Watch(
            [queues.at(self.app.queues.address(arn)) for arn in dead],
            [queues.at(target) for target in targets],
            self._sent,
            seconds if seconds >= 0 else _as_long_as_it_takes(settings),
        )
        report.came_back = 0
        report.is_settled = not self._sent.originals
        try:
            if self._sent.originals:
                with self.app.render.progress() as progress:
                    watched = watch.run(progress)
                report.is_settled = watched.is_settled
                if watched.is_partial:
                    self.app.render.warning("more is dead than could be looked at: others may have come back, too")
        finally:
            report.came_back = len(watch.returned)
        if watch.returned:
            before = error_finder(self.app, targets, self._began)
            report.same = compare(watch.returned, before, error_finder(self.app, targets))

    def _tell_missing(self, count: int) -> None:
        if count > 0:
            self.app.render.warning(f"{messages(count)} of the edited ones were not there any more, and were not sent")

    def _routes(self, edited: Mapping[str, Message] | None) -> Routes:
        return Routes(
            self.station.origin,
            self.sources.resolve,
            to=self.plan.targets[0] if self.options.to and self.plan.targets else None,
            max_redrives=self.options.max_redrives,
            unwanted=self._unwanted(),
            edited=edited,
            vet=self._vet,
        )

    def _unwanted(self) -> Callable[[Message], str | None]:
        chosen = self.options.filter
        if not chosen.needs_error:
            return lambda letter: None if chosen.matches(letter) else "not asked for"
        lock = threading.Lock()

        def unwanted(letter: Message) -> str | None:
            if not chosen.may_match(letter):
                return "not asked for"
            with lock:
                return None if matching([letter], chosen, self._errors) else "not asked for"

        return unwanted

    @cached_property
    def _errors(self) -> ErrorFinder:
        finder = error_finder(self.app, self.station.origin.sources)
        finder.many = True
        return finder

    def _vet(self, target: QueueAddress) -> str | None:
        """The consumers of queues that only the messages name are looked at when the first message names them."""
        if self.force or target in self.plan.targets:
            return None
        health = look(self.sources.health, target, self.station.origin.queue.arn, datetime.now(UTC))
        return "; ".join(health.broken) or None


def _rest(limit: int | None, journal: RedriveJournal) -> int | None:
    """What an earlier part of the run has left of a limit."""
    if limit is None:
        return None
    state = journal.state
    sent = sum(1 for message in state.unsettled.values() if message.new_id is not None)
    return max(limit - state.moved - state.dropped - sent, 0)


def _as_long_as_it_takes(settings: list[QueueState]) -> float:
    """What fails every time is dead after so many receives, each of which hides it for so long."""
    retries = [(item.max_receive_count or 1) * item.visibility_timeout_s for item in settings]
    return min(max(retries, default=0) + WAIT_MORE_SECONDS, LONGEST_WAIT_SECONDS)
