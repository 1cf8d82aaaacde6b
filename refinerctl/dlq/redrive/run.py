"""A redrive from its plan to its report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from refinerctl.aws.consumers import refuse_broken
from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.console import counted
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.errors import ErrorFinder, error_finder
from refinerctl.dlq.export import export
from refinerctl.dlq.redrive.copy import CopyRules, RedriveResult, copy
from refinerctl.dlq.redrive.edit import check_editor, edit_messages, read_edited
from refinerctl.dlq.redrive.from_file import ExportedFile, copy_file
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal, find
from refinerctl.dlq.redrive.move_task import TaskRun
from refinerctl.dlq.redrive.origin import find_origin, origin_of_file
from refinerctl.dlq.redrive.plan import Method, PlanRequest, RedrivePlan, make_plan
from refinerctl.dlq.redrive.report import RedriveReport, plan_json, plan_lines, show_warnings
from refinerctl.dlq.redrive.routes import Routes
from refinerctl.dlq.redrive.shared import InHand
from refinerctl.dlq.redrive.watch import Original, Watch, compare
from refinerctl.dlq.redrive.worker import RETURNED_IN_DOUBT
from refinerctl.dlq.remaining import Remaining
from refinerctl.dlq.services import at_queue, service_of
from refinerctl.dlq.walk import Walk, matching
from refinerctl.errors import RefusedError
from refinerctl.options import ask
from refinerctl.parallel import attempt

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.dlq.redrive.options import RedriveFlags, RedriveOptions

# More messages are too many for an editor, unless --limit asks for them.
MAX_EDITED = 1000
# Seconds, in addition to its retries, until a message that fails again is in the DLQ.
WAIT_MORE_SECONDS = 30
LONGEST_WAIT_SECONDS = 900


class Redrive:
    """One run; with `resumed`, the journal of an earlier one, its continuation. A context manager."""

    def __init__(
        self, app: AppContext, flags: RedriveFlags, options: RedriveOptions, resumed: Path | None = None
    ) -> None:
        self._stack = ExitStack()
        self._journal = self._stack.enter_context(RedriveJournal.resume(resumed)) if resumed else None
        self._flags = flags
        self._began = datetime.now(UTC)
        self._sent: dict[str, Original] = {}
        self._used: dict[str, QueueClient] = {}
        self._file: ExportedFile | None = None
        if options.file is None:
            self._app = at_queue(app, options.queue)
            self._origin = find_origin(self._app, options.queue or "", force=flags.force)
        else:
            self._file = ExportedFile.check(Path(options.file))
            if options.digest not in (None, self._file.digest):
                raise RefusedError(
                    f"{options.file} has changed since the run began", hint="Restore the file, or begin a new run."
                )
            options = replace(options, digest=self._file.digest)
            self._origin = origin_of_file(app, self._file.queues)
            self._app = at_queue(app, self._origin.queue.arn or None)
        self._options = options
        self._render = self._app.render
        self._service = service_of(self._app, self._origin.queue.name)
        self._source_url = self._file.url if self._file else self._origin.queue.url

    def __enter__(self) -> Redrive:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def _queue(self) -> QueueClient:
        """The DLQ; of a file, where its messages were."""
        journal = self._journal
        ids = (journal.deleted_ids(), tuple(journal.state.unsettled)) if journal else ()
        return self._service.client(self._origin.queue, *ids)

    def prepare(self) -> RedrivePlan | None:
        """Plan, check and ask; None if there is nothing to do. Raises RefusedError if a check fails."""
        options, flags = self._options, self._flags
        request = PlanRequest(
            self._origin,
            flags.method,
            self._service.address(options.to) if options.to else None,
            options.rate,
            (*options.needs, *(("--edit",) if flags.edits else ())),
            flags.waits,
            flags.force,
        )
        plan = make_plan(request, self._file or self._queue, self._began, self._service)
        if self._journal is not None:
            plan = replace(plan, method_reason="the run that continues is a copy")
        self._note_received(plan.sampled)
        if flags.dry_run:
            self._show(plan)
            return None
        why = f"{self._origin.queue.name} is empty"
        if plan.depth + plan.in_flight or self._journal is not None:
            self._check(plan)
            if not flags.edits or (edited := self._edit()):
                self._options = replace(options, edited=edited) if flags.edits else options
                plan, what = self._selected(plan)
                if plan.matching != 0:
                    self._ask(plan, what)
                    return plan
            none = f"none of {counted(plan.depth, 'message')} matches the filters; " if plan.matching == 0 else ""
            why = f"{none}nothing is sent"
        self._render.note(why)
        result = RedriveResult(plan.method, left=plan.depth + plan.in_flight)
        RedriveReport(self._render, plan, result, is_whole=False).show()
        return None

    def _check(self, plan: RedrivePlan) -> None:
        """Raises RefusedError if messages would not be processed, or could be sent twice without a record of it."""
        if not self._flags.force:
            refuse_broken(plan.health)
        if self._journal is not None:
            return
        runs = find(self._app.settings.work_folder, self._source_url)
        refusal = None
        if unfinished := [item for item in runs if not item.is_finished]:
            refusal = f"run {unfinished[0].run} of {self._origin.queue.name} is unfinished"
            resume = self._app.command("dlq", "redrive", "--resume", unfinished[0].run)
            hint = f"To continue it, run `{resume}`. A new run (--force) may send again what that one has sent."
        elif runs and self._file:  # no journal records that
            refusal = f"run {runs[0].run} has sent from this file before"
            hint = "Pass --force to send from it again."
        if refusal and not self._flags.force:
            raise RefusedError(refusal, hint=hint)
        if refusal:
            self._render.warning(f"{refusal}: messages may be sent again")
        if self._options.filter.needs_error:
            error_finder(self._app, self._origin.sources).check(reads=True)

    def _show(self, plan: RedrivePlan) -> None:
        """The plan, or why the run would be refused. With a filter it counts the matching messages."""
        if not self._options.filter.is_empty and plan.depth:
            plan = replace(plan, matching=self._choose(None)[0])
        if self._render.is_json:
            self._render.json(plan_json(plan))
        else:
            for line in plan_lines(plan):
                self._render.line(line)
        show_warnings(self._render, plan)
        self._check(plan)

    def _choose(self, keep: int | None) -> tuple[int, list[Message], bool]:
        """How many messages match the filter, up to `keep` of them, and whether others may match.

        Without `keep` all are counted and none is kept. Those of a queue are released at once.
        """
        which = self._options.filter
        errors = error_finder(self._app, self._origin.sources if which.needs_error else ())
        if self._file is not None:
            return len(matching(list(self._file.messages()), which, errors)), [], False
        kept: list[Message] = []

        def take(message: Message) -> None:
            if keep is not None:
                kept.append(replace(message, receipt=""))

        walk = Walk(self._queue, which, errors, limit=keep)
        with self._render.progress() as progress:
            export(walk, take, progress)
        self._note_received(walk.received)
        for problem in errors.problems:
            self._render.warning(f"errors are unknown: {problem}")
        return walk.matched, kept, not walk.is_complete

    def _edit(self) -> str | None:
        """The file of edited messages. No message is in flight while the editor is open."""
        check_editor()
        limit = self._options.limit
        _, messages, has_more = self._choose(limit or MAX_EDITED)
        if not messages:
            self._render.note("no message matches: there is nothing to edit")
            return None
        if limit is None and has_more:
            self._render.note(f"only the first {counted(len(messages), 'message')}; --limit N selects more")
        path = edit_messages(self._render, messages, self._origin.queue, self._app.settings.work_folder)
        return str(path) if path else None

    def _note_received(self, count: int) -> None:
        if count and self._file is None:
            self._render.note(f"receive counts of {counted(count, 'message')} increased by 1")

    def _selected(self, plan: RedrivePlan) -> tuple[RedrivePlan, str]:
        """The plan, and which messages it sends. Before the prompt, the messages that match the filters are counted."""
        options = self._options
        if options.edited is not None:
            return plan, "the edited messages"
        limit = plan.depth if options.limit is None else min(plan.depth, options.limit)
        if options.filter.is_empty:
            return plan, counted(limit, "message")
        if self._journal is not None or self._flags.yes:
            return plan, f"up to {counted(limit, 'message')}"
        matched, _, has_more = self._choose(None)
        if has_more:
            seen = f"matches so far: {matched:,}; only part of the DLQ was scanned"
            return plan, f"up to {counted(limit, 'message')} ({seen})"
        return replace(plan, matching=matched), f"{min(matched, limit):,} of {counted(plan.depth, 'message')}"

    def _ask(self, plan: RedrivePlan, what: str) -> None:
        options, name = self._options, self._origin.queue.name
        for line in plan_lines(plan):
            self._render.note(line)
        show_warnings(self._render, plan)
        if options.file is not None:
            self._render.note(f"the messages are in {options.file}; those in {name} are not touched")
        verb = "Follow the move task of" if plan.running else "Continue to send" if self._journal else "Send"
        targets = ", ".join(target.name for target in plan.targets) or "their targets"
        ask(f"{verb} {what} from {name} to {targets} in {self._app.location}?", self._flags.yes)

    def move(self, plan: RedrivePlan) -> None:
        """Move with a move task of SQS. Raises the error of the report."""
        assert self._service.tasks is not None  # noqa: S101 - the plan has this method
        task = TaskRun(self._service.tasks, self._origin.queue.arn)
        result = RedriveResult(plan.method)
        try:
            remaining = Remaining(self._queue, self._queue.attributes())
            expected = remaining.start.in_flight + remaining.start.delayed
            with self._render.progress() as progress:
                if plan.running is not None:
                    task.adopt(plan.running)
                else:
                    rate = None if self._options.rate is None else int(self._options.rate)
                    task.start(plan.targets[0].arn if self._options.to else None, rate)
                task.follow(progress)
                while not remaining.look(held=0, seen=task.moved, expected=expected):
                    progress.update("SQS has moved the messages; waiting until its counts show that")
            left_over = None if remaining.is_none else remaining.sentence
            result = replace(result, left=remaining.count, left_over=left_over)
        except BaseException as error:
            counts = attempt(partial(self._queue.attributes, 1)).value
            result = replace(result, left=counts.total if counts else None, stopped_by=error)
        resume = self._resume(Method.COPY if task.is_stuck else self._flags.method)
        RedriveReport(self._render, plan, replace(result, moved=task.moved), resume=resume).finish()

    def _resume(self, method: Method | None) -> str:
        """The command that continues this run; of a finished one, the command that does the same again."""
        flags = self._flags
        if self._journal is not None and not self._journal.is_finished:
            words = ["--resume", self._journal.path.stem]
        else:
            words = [*self._options.arguments, *(("--method", method) if method else ())]
            words += ["--edit"] if flags.edits else []
        given = {"--wait": flags.waits, "--force": flags.force, "--yes": flags.yes}
        return self._app.command("dlq", "redrive", *words, *(name for name, is_given in given.items() if is_given))

    def copy(self, plan: RedrivePlan) -> None:
        """Receive, send and delete. Raises the error of the report."""
        options, flags = self._options, self._flags
        if self._journal is None:
            header = JournalHeader(self._source_url, self._origin.queue.name, asdict(options))
            self._journal = self._stack.enter_context(RedriveJournal.begin(self._app.settings.work_folder, header))
        journal, state = self._journal, self._journal.state
        edited = read_edited(Path(options.edited)) if options.edited else None
        limit = options.limit if edited is None else len(edited)
        # With a filter the number of messages to move is unknown until all have been received.
        total = plan.depth if options.filter.is_empty or edited is not None else None
        rules = CopyRules(
            None if limit is None else max(limit - state.moved - len(state.undeleted), 0),
            options.rate,
            is_selective=not options.filter.is_empty or edited is not None or options.max_redrives is not None,
            total=total if total is None or limit is None else min(total, limit),
        )
        routes = self._routes(plan, edited)
        on_sent = self._on_sent if flags.waits else lambda _item, _new_id: None
        with self._render.progress() as progress:
            if self._file is not None:
                is_fifo = any(target.is_fifo for target in (self._origin.queue, *plan.targets))
                rules = replace(rules, workers=1 if is_fifo else rules.workers)
                result = copy_file(self._file, self._queue_at, routes, rules, journal, progress, on_sent)
            else:
                result = copy(self._queue, self._queue_at, routes, rules, journal, progress, on_sent)
        report = RedriveReport(
            self._render, plan, result, journal, is_whole=limit is None, resume=self._resume(flags.method)
        )
        if options.filter.needs_error and edited is None and (count := self._errors.not_looked_up):
            self._render.warning(f"{counted(count, 'message')} were not sent: their errors were not looked up")
        missing = 0 if edited is None else len(edited) - result.moved - result.failed - result.dropped_duplicates
        if missing > 0 and result.stopped_by is None:
            self._render.warning(f"{counted(missing, 'edited message')} not sent: not in the queue any more")
        try:
            if result.stopped_by is None and flags.waits:
                self._watch(report)
        except BaseException as error:
            report.result = replace(result, stopped_by=error)
        self._note_received(result.skipped + result.failed + result.dropped_duplicates)
        report.finish()
        if options.edited is not None and journal.is_finished:
            Path(options.edited).unlink(missing_ok=True)

    def _queue_at(self, address: QueueAddress) -> QueueClient:
        if address.url not in self._used:
            self._used[address.url] = self._service.client(address)
        return self._used[address.url]

    def _returned_since(self, journal: RedriveJournal | None) -> datetime:
        """By the clock of the queues' server, whose times may have no fractions of seconds."""
        began = journal.state.start if journal is not None else None
        return (began or self._began) - RETURNED_IN_DOUBT

    def _on_sent(self, item: InHand, new_id: str) -> None:
        self._sent[new_id] = Original(item.id, item.sent_at)

    def _routes(self, plan: RedrivePlan, edited: Mapping[str, Message] | None) -> Routes:
        return self._service.routes(
            self._origin,
            self._service.address,
            to=plan.targets[0] if self._options.to else None,
            max_redrives=self._options.max_redrives,
            unwanted=self._unwanted(),
            edited=edited,
            veto=lambda target: self._veto(plan, target),
        )

    def _unwanted(self) -> Callable[[Message], str | None]:
        which, why = self._options.filter, "does not match the filters"
        if not which.needs_error:
            return lambda message: None if which.matches(message) else why
        lock = threading.Lock()

        def unwanted(message: Message) -> str | None:
            if not which.may_match(message):
                return why
            with lock:
                return None if matching([message], which, self._errors) else why

        return unwanted

    @cached_property
    def _errors(self) -> ErrorFinder:
        finder = error_finder(self._app, self._origin.sources)
        finder.many = True
        return finder

    def _veto(self, plan: RedrivePlan, target: QueueAddress) -> str | None:
        """The consumer of a queue that only messages name is checked when the first of them does."""
        if self._flags.force or target in plan.targets:
            return None
        health = self._service.consumers.check(target, self._origin.queue.reference, datetime.now(UTC))
        return "; ".join(health.broken) or None

    def _watch(self, report: RedriveReport) -> None:
        """Add the messages that failed again to the report, also after an interrupt."""
        for before, new_id in report.journal.sent_ids() if report.journal else ():  # also by earlier parts of the run
            self._sent.setdefault(new_id, Original(before))
        report.came_back = 0
        if not self._sent:
            return
        targets = list(self._used.values())
        addresses = [queue.address for queue in targets]
        settings = [self._service.consumers.settings(address) for address in addresses]
        own = () if self._file else (self._origin.queue.reference,)
        names = {*own, *(item.dlq_arn for item in settings if item.dlq_arn)}
        seconds = self._flags.wait_s
        if seconds is None:
            retries_s = [(item.max_receive_count or 1) * item.visibility_timeout_s for item in settings]
            seconds = min(max(retries_s, default=0) + WAIT_MORE_SECONDS, LONGEST_WAIT_SECONDS)
        dlqs = [self._service.client(self._service.address(name)) for name in sorted(names)]
        watch = Watch(dlqs, targets, self._sent, seconds, self._returned_since(report.journal))
        try:
            with self._render.progress() as progress:
                watch.run(progress)
        finally:
            report.came_back, report.is_settled = len(watch.returned), watch.is_settled
        if watch.is_partial:
            self._render.warning("only part of the DLQ was received: more messages may have returned")
        if watch.returned:
            before_run = error_finder(self._app, addresses, self._began)
            report.comparison = compare(watch.returned, self._sent, before_run, error_finder(self._app, addresses))
