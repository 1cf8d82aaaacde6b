"""Sending what `dlq export` or `dlq purge` wrote."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.console import Progress
from refinerctl.dlq.client import QueueClient
from refinerctl.dlq.held import clock
from refinerctl.dlq.records import read_records
from refinerctl.dlq.redrive.copy import CopyRules, RedriveResult, check_journal, result_of, run_workers
from refinerctl.dlq.redrive.journal import RedriveJournal
from refinerctl.dlq.redrive.routes import Route
from refinerctl.dlq.redrive.shared import Allowance, Batch, InHand, Run
from refinerctl.dlq.redrive.source import Source
from refinerctl.errors import RefinerctlError, UsageError

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class ExportedFile:
    """A file that was read to its end: its SHA-256, how many messages it has, and the queues that they were in."""

    path: Path
    digest: str
    count: int
    queues: tuple[QueueAddress, ...]

    @classmethod
    def check(cls, path: Path) -> ExportedFile:
        """Raises UsageError, naming the line, for what is not a whole export, RefinerctlError if it cannot be read."""
        seen: set[str] = set()
        queues: dict[str, QueueAddress] = {}
        digest = hashlib.sha256()
        for record in read_records(_lines(path, digest.update)):
            if record.message.id in seen:
                raise UsageError(f"message {record.message.id} is in {path} twice", hint="Remove one of the lines.")
            seen.add(record.message.id)
            queues.setdefault(record.queue.name, record.queue)
        return cls(path, digest.hexdigest(), len(seen), tuple(queues.values()))

    @property
    def url(self) -> str:
        """By which the journals of runs from the same content are found."""
        return f"sha256:{self.digest}"

    def messages(self) -> Iterator[Message]:
        return (record.message for record in read_records(_lines(self.path)))


def _lines(path: Path, use: Callable[[bytes], object] = lambda _: None) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                use(line)
                if not line.endswith(b"\n"):  # its writer was killed, or it was copied incompletely
                    raise UsageError(f"line {number}: no line break at its end: the file is incomplete")
                yield line
    except OSError as error:
        raise RefinerctlError(f"cannot read {path}: {error.strerror}") from error


class FileSource(Source):
    """A file as the source of a copy. What was sent is only in the journal."""

    def __init__(self, messages: Iterator[Message], run: Run) -> None:
        self._messages = messages
        self._run = run
        self._lock = threading.Lock()

    def receive(self, *, is_dry: bool) -> Batch | None:
        run = self._run
        if run.stopping.is_set() or run.allowance.is_spent:
            return None
        allowed = run.allowance.reserve(run.stopping)
        if not allowed:  # other workers may release what they have reserved
            run.stopping.wait(0.01)
            return Batch(was_received=False)
        with self._lock:
            messages = tuple(islice(self._messages, allowed))
        if messages:
            return Batch(messages, allowed)
        run.allowance.give_back(allowed)
        return None

    def delete(self, items: Sequence[InHand]) -> None:
        self._run.journal.deleted([item.id for item in items])


def copy_file(
    file: ExportedFile,
    queue_at: Callable[[QueueAddress], QueueClient],
    route: Callable[[Message], Route],
    rules: CopyRules,
    journal: RedriveJournal,
    progress: Progress,
    on_sent: Callable[[InHand, str], None] = lambda _item, _new_id: None,
) -> RedriveResult:
    """Send what `route` says, once; the file stays as it is. Everything else is as with `copy`."""
    check_journal(journal, QueueAddress("", file.url, ""))
    if not journal.is_finished:
        journal.begin_part(datetime.now(UTC))
        journal.deleted(journal.state.undeleted)
    done = set(journal.deleted_ids())
    if journal.is_finished:
        return result_of(journal, file.count - len(done))
    run = Run(
        journal,
        route,
        queue_at,
        Allowance(rules.limit, rules.rate),
        start=_NEVER,
        server_ahead_s=datetime.now(UTC).timestamp() - clock(),
        max_pause_s=rules.max_pause_s,
        on_sent=on_sent,
        sends_at_once=rules.rate is not None,
    )
    messages = (message for message in file.messages() if message.id not in done)
    run_workers(run, FileSource(messages, run), rules.workers, rules.total, progress)
    if run.failure is None and not run.counts["failed"] and not run.counts["dropped_duplicates"]:
        try:
            journal.finish()
        except RefinerctlError as error:
            run.fail(error)
    return result_of(journal, file.count - journal.state.moved, run)
