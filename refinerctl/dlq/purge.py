"""`refinerctl dlq purge`: delete messages of a DLQ, only those that match and only after they have been saved."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.console import counted
from refinerctl.dlq.bodies import source_key
from refinerctl.dlq.errors import error_finder
from refinerctl.dlq.export import export
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.queues import DeadLetterQueue
from refinerctl.dlq.records import MessageFile, to_line
from refinerctl.dlq.remaining import Remaining
from refinerctl.dlq.services import QueueService, at_queue, open_queue
from refinerctl.dlq.walk import Walk
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.options import PathParam, check_consent, examples, global_options, typed_answer
from refinerctl.parallel import through_interrupt
from refinerctl.shell import complete_dlq

if TYPE_CHECKING:
    from refinerctl.console import Progress
    from refinerctl.dlq.client import QueueClient
    from refinerctl.dlq.filters import MessageFilter

COLUMNS = {"MESSAGE": 0, "SENT": 1, "KEY": -1}


@dataclass(frozen=True)
class Options:
    """`file` None is one in the work folder."""

    message_filter: MessageFilter
    file: Path | None
    no_export: bool
    dry_run: bool
    yes: bool
    force: bool

    @property
    def is_whole(self) -> bool:
        """The queue itself is purged: no message is received."""
        return self.no_export and self.message_filter.is_empty


@dataclass
class Purge:
    """`method`: `delete` (each message that was received and matches) or `purge` (of the queue itself).

    `exported`: saved to the file; `failed`: could not be deleted; `skipped`: received and did not match; `left`: in the
    queue at the end, None if unknown. `left_over`: what may be left that should have been deleted, and why.
    `stopped_by`: the error that ended it, to be raised after the report.
    """

    queue: QueueAddress
    method: str = "delete"
    deleted: int = 0
    exported: int = 0
    skipped: int = 0
    failed: int = 0
    left: int | None = None
    left_over: str | None = None
    notes: tuple[str, ...] = ()
    stopped_by: BaseException | None = None


@click.command(
    "purge",
    epilog=examples(
        "refinerctl dlq purge dibbs-ecr-RefinerInput-dlq --export deleted.jsonl",
        "refinerctl dlq purge QUEUE --filter \"contains(error, 'NoSuchKey')\" --dry-run",
    ),
)
@click.argument("queue", shell_complete=complete_dlq)
@filter_options
@click.option(
    "--export",
    "file",
    type=PathParam(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to save messages to before they are deleted.  [default: a file in the work folder]",
)
@click.option("--no-export", is_flag=True, help="Delete messages without saving them.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and stop.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for the name of the queue.")
@click.option("--force", is_flag=True, help="Purge the queue even if it is not a dead-letter queue.")
@global_options
@click.pass_context
def command(ctx: click.Context, /, queue: str, **given: Any) -> None:
    """Delete messages of a dead-letter queue permanently, after saving them to a file.

    QUEUE is the name of a queue or of its stage, a URL or an ARN. Deletes all messages or those that match the filters,
    and only those that have been saved; messages that arrive meanwhile stay. `dlq redrive --from-file` sends the
    messages of the file. Refused (exit code 4) for a queue that is not a dead-letter queue.
    """
    options = Options(**given)
    if options.no_export and options.file is not None:
        raise UsageError("--export and --no-export are mutually exclusive")
    if not options.dry_run:
        if os.environ.get("CI") and options.file is None and not options.no_export:
            raise UsageError(
                "purge needs --export FILE in a CI job (CI is set): the work folder may be deleted with the job",
                hint="Keep FILE as an artifact of the job (`when: always`), or delete without saving: --no-export.",
            )
        check_consent(options.yes)
    app = at_queue(app_context(ctx, changes=True), queue)
    app.tell_settings()
    found, source, service = open_queue(app, queue, force=True)
    if not options.force:
        _check(found)
    errors = error_finder(app, found.source_queues if options.message_filter.needs_error else ())

    def new_walk() -> Walk:
        return Walk(source, options.message_filter, errors)

    if options.dry_run:
        _show_plan(app, options, found, new_walk())
        return
    path = None if options.no_export else options.file or _target(app, options) / _file_name(found.name)
    if not options.yes:
        _ask(_what(app, options, found, new_walk), path, found.name)
    if options.is_whole:
        _report(app, _purge_all(app, service, source), None)
    else:
        _report(app, *_run(app, path, new_walk()))


def _check(queue: DeadLetterQueue) -> None:
    if not queue.is_dlq:
        raise RefusedError(
            f"queue {queue.name} is not a dead-letter queue: no queue, EventBridge rule or schedule uses it as one",
            hint="Pass --force to purge it anyway.",
        )
    if queue.receive_risk:
        raise RefusedError(queue.receive_risk, hint="Pass --force to purge it anyway.")


def _what(app: AppContext, options: Options, queue: DeadLetterQueue, new_walk: Callable[[], Walk]) -> str:
    """What would be deleted. With filters all messages are received, to count those that match, and released."""
    if options.message_filter.is_empty:
        return f"all messages (about {queue.depth:,}) in {app.location}"
    walk = new_walk()
    with app.render.progress() as progress:
        export(walk, lambda _: None, progress)
    for note in walk.notes():
        app.render.note(note)
    if walk.is_complete:
        return f"{walk.matched:,} of {counted(walk.received, 'message')} in {app.location}"
    return (
        f"all messages that match the filters ({walk.matched:,} of the {walk.received:,} that could be received; "
        f"others may match, too) in {app.location}"
    )


def _ask(what: str, path: Path | None, name: str) -> None:
    saved = f"They are saved to {path} first." if path else "They are not saved."
    answer = typed_answer(f"Delete {what}? {saved} Type the name of the queue to confirm")
    if answer != name:
        raise RefusedError(f"{answer!r} is not the name of the queue, {name!r}; nothing was deleted")


def _show_plan(app: AppContext, options: Options, queue: DeadLetterQueue, walk: Walk) -> None:
    """Receives messages, which raises their receive counts, and releases them."""
    rows: list[tuple[str, str, str]] = []

    def take(item: Message) -> None:
        rows.append((item.id, f"{item.sent_at:%Y-%m-%dT%H:%M:%SZ}", source_key(item.body) or ""))

    with app.render.progress() as progress:
        export(walk, take, progress)
    for note in walk.notes():
        app.render.note(note)
    if app.render.is_json:
        app.render.json(
            {
                "queue": queue.name,
                "dry_run": True,
                "method": "purge" if options.is_whole else "delete",
                "would_delete": len(rows),
                "file": None if options.no_export else _target(app, options),
                "messages": [{"id": id_, "sent": sent, "key": key or None} for id_, sent, key in rows],
            }
        )
        return
    if rows:
        app.render.table(COLUMNS, rows, wrap=True)
    more = f" and {queue.in_flight} in flight" if options.is_whole and queue.in_flight else ""
    saved = "without saving them" if options.no_export else f"after saving them to {_target(app, options)}"
    app.render.line(f"{queue.name}: would delete {len(rows):,} of {walk.received:,} messages{more}, {saved}")


def _target(app: AppContext, options: Options) -> Path:
    """The file, or the folder for one with the time in its name."""
    return options.file or app.settings.work_folder / "dlq"


def _purge_all(app: AppContext, service: QueueService, source: QueueClient) -> Purge:
    start = source.attributes()
    service.purge(source.address)
    remaining = Remaining(source, start)
    with app.render.progress() as progress:
        progress.step("the messages are being deleted, which takes up to a minute")
        while not remaining.look(held=0, seen=start.total):
            pass
    return Purge(
        source.address,
        "purge",
        deleted=start.total - (remaining.count or 0),
        left=remaining.count,
        left_over=None if remaining.is_none else remaining.sentence,
        notes=("messages that arrived meanwhile may have been deleted, too",),
    )


def _file_name(queue: str) -> str:
    return f"purged-{queue}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}.jsonl"


def _run(app: AppContext, path: Path | None, walk: Walk) -> tuple[Purge, Path | None]:
    if path is None:
        with app.render.progress() as progress:
            return purge(walk, progress), None
    with MessageFile(path) as file, app.render.progress() as progress:

        def save(messages: Sequence[Message]) -> None:
            file.append(to_line(message, walk.queue) for message in messages)

        progress.step(f"saving messages to {path}, then deleting them")
        done = purge(walk, progress, save)
    return done, path if done.exported else None


def purge(walk: Walk, progress: Progress, save: Callable[[Sequence[Message]], None] | None = None) -> Purge:
    """Receive, save, delete, until the messages of the start are gone; those that do not match are released.

    `save` writes messages so that they survive a crash. Does not raise: what ends it, Ctrl-C too, is in `stopped_by`.
    """
    done = Purge(walk.queue)

    def step(messages: Sequence[Message]) -> None:
        if save is not None and messages:
            save(messages)
            done.exported += len(messages)
        walk.delete(messages)

    try:
        with walk:
            for chunk in walk.chunks():
                through_interrupt(partial(step, [item for item in chunk if item.arrived_at < walk.start_at]))
                progress.update(f"{walk.progress()}: {walk.deleted:,} deleted")
    except BaseException as error:  # Ctrl-C, too: the report shows what has been done
        done.stopped_by = error
    remaining = walk.remaining
    done.deleted, done.skipped = walk.deleted, walk.kept
    done.failed = walk.received - walk.kept - walk.deleted
    if not done.stopped_by:
        done.left = None if remaining.count is None else remaining.count + walk.kept
        done.left_over = None if remaining.is_none else remaining.sentence
    done.notes = (*_failures(done), *walk.notes())
    return done


def _failures(done: Purge) -> tuple[str, ...]:
    if not done.failed:
        return ()
    saved = ", and also in the file" if done.exported else ""
    return (f"deletion of {counted(done.failed, 'message')} not confirmed: still in the queue{saved}",)


def _report(app: AppContext, done: Purge, file: Path | None) -> None:
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
        saved = f", saved to {file}" if file else ""
        app.render.line(
            f"{done.queue.name}: {about}{done.deleted:,} deleted{saved}, {done.skipped:,} skipped, "
            f"{done.failed:,} failed, {left} left"
        )
    if done.stopped_by is not None:
        raise done.stopped_by
    if done.left_over is not None:
        raise RefinerctlError(done.left_over, hint="Run the same command again later.")
