"""`refinerctl dlq purge`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.dlq.bodies import source_key
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.queues import DeadLetterQueue
from refinerctl.dlq.stations import at_queue, error_finder, open_queue
from refinerctl.dlq.views import Purged
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.options import global_options
from refinerctl.releases.planning import check_consent
from refinerctl.tables import table

if TYPE_CHECKING:
    from refinerctl.aws.message_queue import MessageQueue
    from refinerctl.aws.messages import Message
    from refinerctl.dlq.filters import MessageFilter


@dataclass(frozen=True)
class Options:
    """What was asked for. `file` None is one in the work folder."""

    message_filter: MessageFilter
    file: Path | None
    no_export: bool
    dry_run: bool
    yes: bool
    force: bool

    @property
    def is_whole(self) -> bool:
        """SQS can do it by itself."""
        return self.no_export and self.message_filter.is_empty


@click.command("purge")
@click.argument("queue")
@filter_options
@click.option(
    "--export",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where what is deleted is written to before.  [default: a file in the work folder]",
)
@click.option("--no-export", is_flag=True, help="Delete without keeping anything.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and stop.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for the queue's name.")
@click.option("--force", is_flag=True, help="Also a queue that is nobody's dead-letter queue.")
@global_options
@click.pass_context
def command(ctx: click.Context, /, queue: str, **given: Any) -> None:
    """Delete dead letters for good, all or those that the filter means, and write them to a file before.

    QUEUE is a name, a URL or an ARN. Only what has been written is deleted; what comes meanwhile stays. The file is
    like that of `dlq export`. Refused (4) for a queue that is not a dead-letter queue.
    """
    options = Options(**given)
    if options.no_export and options.file is not None:
        raise UsageError("--export and --no-export exclude each other")
    if not options.dry_run:
        check_consent(options.yes)
    app = at_queue(app_context(ctx), queue)
    app.tell_settings()
    found, source = open_queue(app, queue, force=True)
    if not options.force:
        _check(found)
    if options.dry_run:
        _show_plan(app, options, found, source)
        return
    if not options.yes:
        _ask(options, found)
    done = _purge_whole(app, source) if options.is_whole else _purge(app, options, found, source)
    _finish(app, *done)


def _check(found: DeadLetterQueue) -> None:
    if not found.is_dead_letter_queue:
        raise RefusedError(
            f"{found.name} is not a dead-letter queue: no queue and no EventBridge rule uses it as such",
            hint="--force purges it nevertheless.",
        )
    if found.max_receive_count is not None:
        raise RefusedError(
            f"{found.name} has a dead-letter queue itself: a message that is received {found.max_receive_count} times "
            "moves there",
            hint="--force purges it nevertheless.",
        )


def _ask(options: Options, found: DeadLetterQueue) -> None:
    what = "all" if options.message_filter.is_empty else "those that the filters match"
    kept = "keeping nothing" if options.no_export else "after writing them to a file"
    question = f"{found.depth:,} messages, {what} to be deleted {kept}. Type the queue's name to go ahead"
    name = click.prompt(question, err=True)
    if name != found.name:
        raise RefusedError(f"{name!r} is not the name of the queue, {found.name!r}")


def _show_plan(app: AppContext, options: Options, found: DeadLetterQueue, source: MessageQueue) -> None:
    """By looking: receive counts go up, and everything is given back."""
    from refinerctl.dlq.export import ExportRequest, export

    seen: list[tuple[str, str, str]] = []

    def take(letter: Message) -> None:
        seen.append((letter.id, f"{letter.sent_at:%Y-%m-%dT%H:%M:%SZ}", source_key(letter.body) or ""))

    errors = error_finder(app, found, is_needed=options.message_filter.needs_error)
    with app.render.progress() as progress:
        request = ExportRequest(options.message_filter)
        looked = export(source, request, errors, take, progress)
    for note in looked.notes:
        app.render.note(note)
    if app.render.is_json:
        messages = [dict(zip(("id", "sent", "key"), (*row[:2], row[2] or None), strict=True)) for row in seen]
        plan = {
            "queue": found.name,
            "dry_run": True,
            "method": "purge" if options.is_whole else "delete",
            "would_delete": len(seen),
            "file": None if options.no_export else options.file or _folder(app),
            "messages": messages,
        }
        app.render.json(plan)
        return
    for line in table(("MESSAGE", "SENT", "KEY"), seen) if seen else ():
        app.render.line(line)
    more = f" and {found.in_flight} in somebody's hands" if options.is_whole and found.in_flight else ""
    kept = ", keeping nothing" if options.no_export else f" after writing them to {options.file or _folder(app)}"
    app.render.line(f"{found.name}: {len(seen):,} of {looked.received:,} messages{more} would be deleted{kept}")


def _purge_whole(app: AppContext, source: MessageQueue) -> tuple[Purged, Path | None]:
    from refinerctl.aws.dead_letter_queues import DeadLetterQueues

    there = source.attributes().total
    DeadLetterQueues(app.session).purge(source.address)
    note = "SQS deletes within a minute; what is sent meanwhile may be deleted, too"
    return Purged(source.address, "purge", deleted=there, left=0, notes=(note,)), None


def _purge(
    app: AppContext, options: Options, found: DeadLetterQueue, source: MessageQueue
) -> tuple[Purged, Path | None]:
    from refinerctl.dlq.message_file import MessageFile
    from refinerctl.dlq.purge import PurgeRequest, purge
    from refinerctl.dlq.records import to_line

    errors = error_finder(app, found, is_needed=options.message_filter.needs_error)
    if options.no_export:
        with app.render.progress() as progress:
            return purge(source, PurgeRequest(options.message_filter), errors, progress), None
    path = options.file or _default_path(app, found.name)
    with MessageFile(path) as file, app.render.progress() as progress:

        def keep(letters: Sequence[Message]) -> None:
            file.append(to_line(letter, source.address) for letter in letters)

        progress.step(f"writing what is deleted to {path}")
        done = purge(source, PurgeRequest(options.message_filter, keep), errors, progress)
    return done, path if done.exported else None


def _default_path(app: AppContext, queue: str) -> Path:
    return _folder(app) / f"purged-{queue}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.jsonl"


def _folder(app: AppContext) -> Path:
    return app.settings.work_folder / "dlq"


def _finish(app: AppContext, done: Purged, file: Path | None) -> None:
    for note in done.notes:
        app.render.note(note)
    if app.render.is_json:
        app.render.json(
            {
                "queue": done.queue.name,
                "method": done.method,
                "deleted": done.deleted,
                "exported": done.exported,
                "file": file,
                "skipped": done.skipped,
                "failed": done.failed,
                "left": done.left,
            }
        )
    else:
        about = "about " if done.method == "purge" else ""
        left = "an unknown number" if done.left is None else f"{done.left:,}"
        where = f", written to {file}" if file else ""
        app.render.line(
            f"{done.queue.name}: {about}{done.deleted:,} deleted{where}, {done.skipped:,} skipped, "
            f"{done.failed:,} failed, {left} left"
        )
    if done.stopped_by is not None:
        raise done.stopped_by
    if done.failed:
        raise RefinerctlError(f"{done.failed} messages of {done.queue.name} could not be deleted", hint="Run it again.")
