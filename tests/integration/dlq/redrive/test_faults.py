"""Redrives through a proxy that fails on purpose. After each, every message is accounted for by the id in its body."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from refinerctl.aws.message_queue import MessageQueue, MessageQueues
from refinerctl.aws.messages import Message, OutgoingMessage, QueueAddress
from refinerctl.aws.session import AwsSession
from refinerctl.console import Progress
from refinerctl.dlq.redrive.copy import CopyRules, RedriveResult, copy
from refinerctl.dlq.redrive.journal import JournalHeader, RedriveJournal, find
from refinerctl.dlq.redrive.routes import SendTo
from refinerctl.errors import AccessDeniedError
from tests.needs import nightly
from tests.sqs.accounts import Account, account
from tests.sqs.faults import DELETE, HIDE, RECEIVE, SEND, Fault, Kind, SqsFaults, expired, sqs_faults
from tests.sqs.server import Kept, SqsServer, sqs_server

COUNT = 200
# A busy machine is no fault: it is the proxy that ends a stalled connection.
ANSWER_TIMEOUT_S = 60.0
STALL_S = 0.5
RULES = CopyRules(visibility_s=30, workers=6)
# SQS acts, and nobody hears of it. A body that is cut may still tell of some entries.
DONE_BUT_NOT_HEARD = {
    Kind.LOSE_ANSWER,
    Kind.RESET_HALFWAY,
    Kind.TRUNCATE,
    Kind.STALL,
    Kind.ANSWER_AFTER,
    Kind.OMIT_ENTRIES,
}
# It is known that nothing was done.
REFUSED = {Kind.FAIL_ENTRIES}


@pytest.fixture(scope="module")
def server() -> Iterator[SqsServer]:
    with sqs_server() as server:
        yield server


def id_of(message: Kept) -> int:
    return int(json.loads(message.body)["id"])


class Redrive:
    """A DLQ, its source queue, and a proxy to SQS that fails."""

    def __init__(self, server: SqsServer, proxy: SqsFaults, folder: Path, name: str) -> None:
        self.server, self.proxy, self._folder = server, proxy, folder
        [self.target, self.dead] = server.create_pair(name)
        self.ids: set[int] = set()
        session = AwsSession("us-east-1", profile=None, endpoint_url=proxy.url, embedded=True)
        self._queues = MessageQueues(session, ANSWER_TIMEOUT_S)

    def fill(self, count: int) -> None:
        start = len(self.ids)
        self.server.fill(self.dead, count, body='{"id": {n}}', start=start, source=self.target, receive_count=3)
        self.ids |= set(range(start, start + count))

    def queue(self, name: str) -> MessageQueue:
        return self._queues.at(QueueAddress(name, self.server.queue_url(name), self.server.arn(name)))

    def run(self, rules: CopyRules = RULES) -> RedriveResult:
        target = self.queue(self.target)

        def route(letter: Message) -> SendTo:
            group, deduplication = (letter.system.get(f"Message{name}Id") for name in ("Group", "Deduplication"))
            outgoing = OutgoingMessage(letter.body, letter.attributes, group=group, deduplication=deduplication)
            return SendTo(target.address, outgoing)

        source = self.queue(self.dead)
        with self._journal(source.address.url) as journal:
            return copy(source, lambda _address: target, route, rules, journal, Progress())

    def _journal(self, url: str) -> RedriveJournal:
        """That of an unfinished run, if there is one."""
        unfinished = [found for found in find(self._folder, url) if not found.is_finished]
        if unfinished:
            return RedriveJournal.resume(unfinished[0].path)
        return RedriveJournal.begin(self._folder, JournalHeader(url, self.dead))

    def account(self) -> Account:
        return account(self.server, self.target, self.dead)

    def check(self, moved: RedriveResult) -> Account:
        """No message is missing, and duplicates are reported."""
        found = self.account()
        assert not found.missing(self.ids)
        assert set(found.target) | set(found.dead) == self.ids
        assert found.twice <= moved.sent_twice, moved
        return found


def with_each_kind(redrive_of: Callable[[str], AbstractContextManager[Redrive]], check: Callable[..., None]) -> None:
    """At the same time, each with a queue of its own: most of a short redrive is waiting."""

    def one(kind: Kind) -> None:
        with redrive_of(kind.name.lower().replace("_", "-")) as redrive:
            redrive.fill(COUNT)
            check(redrive, kind)

    with ThreadPoolExecutor(len(Kind)) as pool:
        running = {kind.name: pool.submit(one, kind) for kind in Kind}
    failures = {name: future.exception() for name, future in running.items() if future.exception()}
    assert not failures


@pytest.fixture
def redrive_of(server: SqsServer, tmp_path: Path, unique: str) -> Callable[[str], AbstractContextManager[Redrive]]:
    @contextmanager
    def make(name: str) -> Iterator[Redrive]:
        with sqs_faults(server.url) as proxy:
            yield Redrive(server, proxy, tmp_path / name, f"faults-{unique}-{name}")

    return make


@pytest.fixture
def redrive(redrive_of: Callable[[str], AbstractContextManager[Redrive]]) -> Iterator[Redrive]:
    with redrive_of("one") as redrive:
        yield redrive


@pytest.mark.parametrize("action", [SEND, DELETE])
def test_transient_errors_are_retried(
    redrive_of: Callable[[str], AbstractContextManager[Redrive]], action: str
) -> None:
    def check(redrive: Redrive, kind: Kind) -> None:
        redrive.proxy.faults = [Fault(kind, action, times=4, skip=2, every=2, seconds=STALL_S)]
        moved = redrive.run()
        assert len(redrive.proxy.struck()) == 4
        found = redrive.check(moved)
        assert moved.stopped_by is None
        assert found.target.keys() == redrive.ids
        assert not found.dead
        assert (moved.moved, moved.left, moved.failed) == (COUNT, 0, 0)
        if kind in DONE_BUT_NOT_HEARD and action == SEND:
            assert 0 < found.twice == moved.sent_twice
        elif action == DELETE or kind in REFUSED:
            assert (found.twice, moved.sent_twice) == (0, 0)

    with_each_kind(redrive_of, check)


def test_failed_receives_lose_no_message(
    redrive_of: Callable[[str], AbstractContextManager[Redrive]],
) -> None:
    def check(redrive: Redrive, kind: Kind) -> None:
        redrive.proxy.faults = [Fault(kind, RECEIVE, times=4, skip=2, every=2, seconds=STALL_S)]
        moved = redrive.run(CopyRules(visibility_s=20, workers=6))
        found = redrive.check(moved)
        assert (moved.left_over, moved.left, moved.moved) == (None, 0, COUNT)
        assert (len(found.target), len(found.dead)) == (COUNT, 0)

    with_each_kind(redrive_of, check)


@pytest.mark.parametrize("status", [400, 403, 503])
def test_throttling_loses_no_message(redrive: Redrive, status: int) -> None:
    redrive.fill(COUNT)
    code = "RequestThrottled" if status < 500 else "ServiceUnavailable"
    redrive.proxy.faults = [Fault(Kind.ANSWER, "", times=10, skip=5, every=3, status=status, code=code)]
    moved = redrive.run()
    found = redrive.check(moved)
    assert (len(found.dead), found.twice, moved.moved, moved.stopped_by) == (0, 0, COUNT, None)
    refused = sum(exchange.entries for exchange in redrive.proxy.struck() if exchange.action.startswith(SEND))
    # A server that is in trouble may have acted; one that throttles says that it has not.
    assert moved.sent_twice == (0 if status < 500 else refused)


@pytest.mark.parametrize("action", [RECEIVE, SEND, DELETE])
def test_expired_credentials_stop_the_run_and_release_messages(redrive: Redrive, action: str) -> None:
    redrive.fill(COUNT)
    redrive.proxy.faults = [expired(action, times=None, skip=8)]
    moved = redrive.run()
    found = redrive.check(moved)
    assert isinstance(moved.stopped_by, AccessDeniedError)
    assert 0 < len(found.target) < COUNT
    # What was sent and could not be deleted is better not received by anybody now.
    hidden = {id_of(item) for item in redrive.server.messages(redrive.dead) if item.state != "visible"}
    assert hidden == found.target.keys() & found.dead.keys()
    assert bool(hidden) == (action == DELETE)


def test_a_run_is_resumed_with_new_credentials(redrive: Redrive) -> None:
    redrive.fill(COUNT)
    redrive.proxy.faults = [expired("", times=None, skip=20)]
    moved = redrive.run()
    assert isinstance(moved.stopped_by, AccessDeniedError)
    assert redrive.check(moved).dead
    redrive.proxy.faults = []
    redrive.server.advance(RULES.visibility_s + 1)  # it could not give back what it had
    moved = redrive.run()
    found = redrive.check(moved)
    assert (moved.moved, found.twice, moved.sent_twice, len(found.dead)) == (COUNT, 0, 0, 0)


@pytest.mark.parametrize("count", [1_500, nightly(10_000)])
def test_faults_of_every_kind_lose_no_message(redrive: Redrive, count: int) -> None:
    redrive.fill(count)
    draw = random.Random(5)  # noqa: S311
    kinds = [kind for kind in Kind if kind not in (Kind.STALL, Kind.STALL_UNHEARD)]
    redrive.proxy.faults = [
        Fault(draw.choice(kinds), action, times=None, skip=draw.randrange(50), every=draw.randrange(40, 90))
        for action in (SEND, DELETE, HIDE, RECEIVE)
        for _ in range(5)
    ]
    for_reads = (Kind.ANSWER, Kind.TRUNCATE, Kind.LOSE_ANSWER, Kind.RESET_HALFWAY, Kind.REFUSE, Kind.HTML)
    redrive.proxy.faults += [Fault(kind, "GetQueueAttributes", times=None, every=8) for kind in for_reads]
    moved = redrive.run(CopyRules(workers=16, visibility_s=20))
    found = redrive.check(moved)
    assert len(redrive.proxy.struck()) > 20
    assert found.target.keys() == redrive.ids
    assert not found.dead
    assert (moved.moved, moved.left_over) == (count, None)


def test_fifo_groups_keep_their_order_with_faults(server: SqsServer, tmp_path: Path, unique: str) -> None:
    kinds = (Kind.LOSE_ANSWER, Kind.FAIL_ENTRIES, Kind.OMIT_ENTRIES, Kind.REFUSE, Kind.ANSWER_AFTER)
    faults = [Fault(kind, SEND, times=3, skip=skip, every=7) for skip, kind in enumerate(kinds)]
    with sqs_faults(server.url, *faults) as proxy:
        redrive = Redrive(server, proxy, tmp_path, f"order-{unique}.fifo")
        for group in range(6):
            ids = {"group": f"g{group}", "deduplication": "d{n}"}
            server.fill(redrive.dead, 20, body='{"id": {n}}', start=group * 20, source=redrive.target, **ids)
        redrive.ids = set(range(120))
        moved = redrive.run()
        found = redrive.check(moved)
    assert len(proxy.struck()) >= 10
    assert (found.target.total(), len(found.dead)) == (120, 0)
    assert moved.moved == 120
    for group in range(6):
        arrived = [id_of(item) for item in server.messages(redrive.target) if item.group == f"g{group}"]
        assert arrived == list(range(group * 20, group * 20 + 20))
