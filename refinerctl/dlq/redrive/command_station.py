"""Where messages come from, a queue or a file, and who is asked about where they go."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from refinerctl.aws.consumers import Consumers
from refinerctl.aws.message_queue import MessageQueues
from refinerctl.aws.messages import QueueAddress
from refinerctl.dlq.errors import error_finder
from refinerctl.dlq.queues import DlqKind, at_queue, find_queue
from refinerctl.dlq.redrive import Queue
from refinerctl.dlq.redrive.command_view import messages
from refinerctl.dlq.redrive.from_file import FileSource, check
from refinerctl.dlq.redrive.health import HealthSources
from refinerctl.dlq.redrive.types import Origin
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.dlq.choose import Chosen
    from refinerctl.dlq.filters import MessageFilter
    from refinerctl.dlq.redrive.command_options import RedriveOptions
    from refinerctl.dlq.redrive.journal import RedriveJournal


@dataclass(frozen=True)
class Station:
    """What messages are received from, and what it is the dead-letter queue of. `digest`: of the file, if it is one."""

    source: Queue
    origin: Origin
    gone: tuple[str, ...] = ()
    digest: str | None = None

    @property
    def is_queue(self) -> bool:
        return self.digest is None

    @property
    def name(self) -> str:
        return self.origin.queue.name

    @property
    def journal_url(self) -> str:
        """By which a run of the same messages is found: a queue's URL, or the digest of a file."""
        return self.source.address.url


def open_station(
    app: AppContext, options: RedriveOptions, stack: ExitStack, journal: RedriveJournal | None, *, force: bool
) -> Station:
    """The queue, or the file once it has been read to its end.

    Raises RefusedError for a file that has changed and, unless `force`, for a queue that loses what is received.
    """
    if options.file is None:
        origin, gone = _origin(app, options.queue, force=force)
        return Station(MessageQueues(app.session).at(origin.queue), origin, gone)
    try:
        file: BinaryIO = stack.enter_context(options.file.open("rb"))
    except OSError as error:
        raise RefinerctlError(f"cannot read {options.file}: {error.strerror}") from error
    checked = check(file)
    if options.digest not in (None, checked.digest):
        raise RefusedError(
            f"{options.file} is not what it was when the run began", hint="Put it back as it was, or begin a new run."
        )
    origin, gone = _origin_of_file(app, checked.queues)
    done = frozenset(journal.deleted_ids()) if journal else frozenset()
    address = replace(origin.queue, url=f"sha256:{checked.digest}")
    return Station(FileSource(file, address, checked.count, done), origin, gone, checked.digest)


def _origin(app: AppContext, text: str, *, force: bool = True) -> tuple[Origin, tuple[str, ...]]:
    """A dead-letter queue with its sources, and the names of those that are gone."""
    app = at_queue(app, text)
    found = find_queue(app, text)
    if found.max_receive_count is not None and not force:
        raise RefusedError(
            f"{found.name} has a dead-letter queue itself: what is received too often moves there",
            hint="Redrive that one, or --force.",
        )
    address = QueueAddress(found.name, found.url, found.arn)
    if found.kind is not DlqKind.PROCESSING:
        return Origin(address, found.kind), ()
    there = []
    gone = [source.name for source in found.sources if source.exists is False]
    for source in found.sources:
        if source.exists is not False and source.arn:
            try:
                there.append(app.queues.address(source.arn))
            except NotFoundError:
                gone.append(source.name)
    return Origin(address, found.kind, tuple(there)), tuple(gone)


def _origin_of_file(app: AppContext, queues: tuple[QueueAddress, ...]) -> tuple[Origin, tuple[str, ...]]:
    """Of several queues, or of one that is gone, each message has to tell where it belongs."""
    if len(queues) == 1:
        try:
            return _origin(app, queues[0].arn or queues[0].name)
        except NotFoundError:
            return Origin(queues[0], DlqKind.UNKNOWN), ()
    names = ", ".join(queue.name for queue in queues) or "the file"
    return Origin(QueueAddress(names, "", queues[0].arn if queues else ""), DlqKind.UNKNOWN), ()


def health_sources(app: AppContext) -> HealthSources:
    return HealthSources(
        Consumers(app.session),
        app.queues.state_at,
        app.functions.get,
        app.metrics,
    )


def tell_looked(app: AppContext, count: int) -> None:
    app.render.note(f"looking has raised the receive counts of {messages(count)} by one")


def look_into(app: AppContext, station: Station, chosen: MessageFilter, keep: int | None = None) -> Chosen:
    """How many are meant, or up to `keep` of them; all are given back at once.

    Raises RefinerctlError if the queue cannot be received from.
    """
    from refinerctl.dlq.choose import choose

    errors = error_finder(app, station.origin.sources if chosen.needs_error else ())
    with app.render.progress() as progress:
        found = choose(station.source, chosen, errors, progress, keep=keep)
    if station.is_queue:
        tell_looked(app, found.received)
    for problem in errors.problems:
        app.render.warning(f"what the log says is not known: {problem}")
    return found
