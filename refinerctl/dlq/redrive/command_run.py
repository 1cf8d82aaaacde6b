"""A redrive from its plan to its report. Part of the composition root: operations do not know each other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinerctl.aws.move_tasks import MoveTasks
from refinerctl.dlq.errors import error_finder
from refinerctl.dlq.queues import at_queue
from refinerctl.dlq.redrive.command_copy import Copying
from refinerctl.dlq.redrive.command_edit import edit_messages
from refinerctl.dlq.redrive.command_options import RedriveOptions
from refinerctl.dlq.redrive.command_report import Report
from refinerctl.dlq.redrive.command_station import Station, look_into, open_station, tell_looked
from refinerctl.dlq.redrive.command_view import messages, plan_json, plan_lines, show_doubts
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal, find
from refinerctl.dlq.redrive.plan import PlanRequest, PlanSources, check_healthy, make_plan
from refinerctl.dlq.redrive.tasks import TaskRun
from refinerctl.dlq.redrive.types import Method, Moved, RedrivePlan
from refinerctl.errors import NotFoundError, RefusedError, UsageError
from refinerctl.options import ask, check_consent

if TYPE_CHECKING:
    from refinerctl.app import AppContext


@dataclass(frozen=True)
class Flags:
    """How to go about it; unlike the options these may differ when a run is resumed. `wait` in seconds."""

    method: Method | None = None
    edits: bool = False
    dry_run: bool = False
    wait: float | None = None
    force: bool = False
    yes: bool = False


def begin(app: AppContext, flags: Flags, queue: str | None, given: Mapping[str, Any]) -> Redrive:
    """A new run. Raises UsageError for options that do not go together."""
    if queue is None and given["from_file"] is None:
        raise UsageError("which queue?", hint="refinerctl dlq redrive QUEUE, or --from-file FILE.")
    if queue is not None and given["from_file"] is not None:
        raise UsageError(
            f"the file says where its messages came from, and {queue} is one too many",
            hint="--to QUEUE sends them somewhere else.",
        )
    if flags.edits and given["from_file"] is not None:
        raise UsageError("--edit is for messages in a queue", hint="Edit the file itself.")
    options = RedriveOptions(
        queue or "",
        given["message_filter"],
        to=given["to"],
        limit=given["limit"],
        rate=given["rate"],
        max_redrives=given["max_redrives"],
        file=given["from_file"].resolve() if given["from_file"] else None,
    )
    return Redrive(app, flags, options)


def resume(app: AppContext, flags: Flags, queue: str | None, run: str, rate: float | None) -> Redrive:
    """An unfinished run: the one that is called `run`, else the latest, of `queue` if it is given.

    Raises NotFoundError if there is none.
    """
    folder = app.settings.work_folder
    unfinished = [found for found in find(folder) if not found.is_finished]
    if run:
        wanted = [found for found in unfinished if run in (found.path.stem, found.path.name, str(found.path))]
        if not wanted and queue is None:  # `--resume QUEUE`
            queue = run
        elif not wanted:
            raise NotFoundError(f"there is no unfinished run {run!r}", hint=_names(unfinished))
        else:
            unfinished = wanted
    if queue is not None:
        name = queue.rpartition("/")[2].rpartition(":")[2]
        unfinished = [found for found in unfinished if found.header.queue == name]
        if len({found.header.source_url for found in unfinished}) > 1:  # of that name in several environments
            url = at_queue(app, queue).queues.address(queue).url
            unfinished = [found for found in unfinished if found.header.source_url == url]
    if not unfinished:
        what = f"of {queue} " if queue else ""
        raise NotFoundError(
            f"there is no unfinished run {what}to resume",
            hint="A finished one needs none, and one that was killed before it opened its journal has moved nothing.",
        )
    found = unfinished[0]
    options = RedriveOptions.from_json(found.header.options).with_rate(rate)
    return Redrive(app, replace(flags, method=Method.COPY), options, found.path)


def _names(found: Any) -> str:
    names = ", ".join(item.path.stem for item in found)
    return f"There are: {names}." if names else "There is none."


class Redrive:
    """One run. `resumed` is the journal of the run that is to go on."""

    def __init__(self, app: AppContext, flags: Flags, options: RedriveOptions, resumed: Path | None = None) -> None:
        self._app = at_queue(app, options.queue or None)
        self._flags = flags
        self._options = options
        self._resumed = resumed

    def perform(self) -> None:
        """Plan, ask, move, watch, report. Raises RefinerctlError if something was left that should not have been."""
        if not self._flags.dry_run:
            check_consent(self._flags.yes)
        with ExitStack() as stack:
            journal = stack.enter_context(RedriveJournal.resume(self._resumed)) if self._resumed else None
            station = open_station(self._app, self._options, stack, journal, force=self._flags.force)
            self._options = replace(self._options, digest=station.digest)
            self._app = at_queue(self._app, station.origin.queue.arn or None)  # of a file only that says the region
            plan = self._plan(station)
            if self._flags.dry_run:
                self._show(plan, station)
                return
            if plan.depth + plan.in_flight == 0 and journal is None:
                self._nothing(plan, f"{station.name} is empty")
                return
            check_healthy(plan, force=self._flags.force)
            if journal is None:
                self._check_unfinished(station)
                self._check_sent_before(station)
                if self._options.filter.needs_error:
                    error_finder(self._app, station.origin.sources).check(reads=True)
            if self._flags.edits:
                edited = edit_messages(self._app, station, self._options)
                if edited is None:
                    self._nothing(plan, "nothing is sent")
                    return
                self._options = replace(self._options, edited=edited)
            self._ask(plan, station)
            if plan.choice.method is Method.MOVE_TASK:
                self._move(plan, station)
                return
            if journal is None:
                header = JournalHeader(station.journal_url, station.name, self._options.to_json())
                journal = stack.enter_context(RedriveJournal.begin(self._app.settings.work_folder, header))
            self._copy(plan, station, journal)

    def _plan(self, station: Station) -> RedrivePlan:
        to = self._app.queues.address(self._options.to) if self._options.to else None
        asked = self._options.asked(self._flags.method, edits=self._flags.edits, watches=self._flags.wait is not None)
        request = PlanRequest(station.origin, asked, to, station.gone, self._flags.force, station.is_queue)
        plan = make_plan(request, station.source, self._plan_sources, datetime.now(UTC))
        if plan.looked_at and station.is_queue:
            tell_looked(self._app, plan.looked_at)
        return plan

    @cached_property
    def _plan_sources(self) -> PlanSources:
        from refinerctl.dlq.redrive.command_station import health_sources

        return PlanSources(self._app.queues.address, MoveTasks(self._app.session), health_sources(self._app))

    def _show(self, plan: RedrivePlan, station: Station) -> None:
        """What the run would do, or why it would refuse. With a filter it looks, to tell how many are meant."""
        render = self._app.render
        if not self._options.filter.is_empty and plan.depth:
            plan = replace(plan, matching=look_into(self._app, station, self._options.filter).matched)
        if render.is_json:
            render.json(plan_json(plan))
        else:
            for line in plan_lines(plan):
                render.line(line)
        show_doubts(render, plan)
        check_healthy(plan, force=self._flags.force)
        if self._resumed:
            render.note(f"this would continue run {self._resumed.stem}")
        else:
            self._check_unfinished(station)
            self._check_sent_before(station)

    def _nothing(self, plan: RedrivePlan, why: str) -> None:
        self._app.render.note(why)
        moved = Moved(str(plan.choice.method), left=plan.depth + plan.in_flight)
        Report(self._app.render, plan, moved, was_all_meant=False).show()

    def _check_unfinished(self, station: Station) -> None:
        """What an unfinished run has sent and not yet deleted would be sent again."""
        folder = self._app.settings.work_folder
        runs = [found for found in find(folder, station.journal_url) if not found.is_finished]
        if not runs:
            return
        if self._flags.force:
            self._app.render.warning(
                f"run {runs[0].path.stem} of {station.name} is unfinished: what it has sent may be sent again"
            )
            return
        raise RefusedError(
            f"run {runs[0].path.stem} of {station.name} is unfinished",
            hint="--resume continues it. --force begins anew, and may send again what that run has sent.",
        )

    def _check_sent_before(self, station: Station) -> None:
        """A file that was sent stays as it is: only journals tell."""
        if station.is_queue:
            return
        runs = [found for found in find(self._app.settings.work_folder, station.journal_url) if found.is_finished]
        if not runs:
            return
        said = f"run {runs[0].path.stem} has sent from this very file before"
        if not self._flags.force:
            raise RefusedError(said, hint="--force sends once more what the filters choose from it.")
        self._app.render.warning(said)

    def _ask(self, plan: RedrivePlan, station: Station) -> None:
        render = self._app.render
        for line in plan_lines(plan):
            render.note(line)
        show_doubts(render, plan)
        targets = ", ".join(target.name for target in plan.targets) or "where they belong"
        if self._options.file is not None:
            render.note(f"these are in {self._options.file}; {station.name} itself is left alone")
        count = plan.depth if self._options.limit is None else min(plan.depth, self._options.limit)
        what = messages(count) if self._options.filter.is_empty else f"up to {messages(count)}"
        if self._options.edited is not None:
            what = "the edited messages"
        verb = "Follow SQS moving" if plan.running else "Continue to send" if self._resumed else "Send"
        ask(f"{verb} {what} from {station.name} to {targets}?", self._flags.yes)

    def _move(self, plan: RedrivePlan, station: Station) -> None:
        tasks = MoveTasks(self._app.session)
        rate = None if self._options.rate is None else int(self._options.rate)
        to = plan.targets[0].arn if self._options.to else None
        run = TaskRun(tasks, plan.origin.queue.arn, to, rate)
        report = Report(self._app.render, plan, run.moved)
        try:
            with self._app.render.progress() as progress:
                if plan.running is not None:
                    run.adopt(plan.running)
                else:
                    run.start(tasks.latest(plan.origin.queue.arn) or ())
                run.follow(progress)
        except BaseException as error:
            report.moved = replace(run.moved, left=_left(station), stopped_by=error)
            report.show()
            raise
        report.moved = replace(run.moved, left=_left(station))
        report.finish()

    def _copy(self, plan: RedrivePlan, station: Station, journal: RedriveJournal) -> None:
        copying = Copying(self._app, self._options, plan, station, self._plan_sources, force=self._flags.force)
        is_all = self._options.limit is None and self._options.edited is None
        report = Report(self._app.render, plan, Moved(str(Method.COPY)), journal=journal, was_all_meant=is_all)
        report.moved = copying.run(journal, watched=self._flags.wait is not None)
        try:
            if report.moved.stopped_by is None and self._flags.wait is not None:
                copying.watch(self._flags.wait, report)
        except BaseException as error:
            report.moved = replace(report.moved, stopped_by=error)
        if station.is_queue and (stay := report.moved.skipped + report.moved.failed + report.moved.dropped_duplicates):
            tell_looked(self._app, stay)
        report.finish()
        if self._options.edited is not None and journal.is_finished:
            self._options.edited.unlink(missing_ok=True)


def _left(station: Station) -> int | None:
    from refinerctl.errors import RefinerctlError

    try:
        return station.source.attributes().total
    except RefinerctlError:
        return None
