"""Whatever fails and whenever it is killed: each message is in the target or in the queue, or is counted as twice."""

from __future__ import annotations

import collections
import contextlib
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refinerctl.console import Silent
from refinerctl.dlq.redrive.engine import copy
from refinerctl.dlq.redrive.journal import JournalHeader, find
from refinerctl.dlq.redrive.types import CopyRules, Moved
from tests.unit.redrive_engine.queues import (
    BUSY,
    ENTRY,
    LOST,
    Fault,
    Killed,
    MemoryQueue,
    Power,
    PoweredJournal,
    forward,
)

FAULTS: list[Fault | None] = [None, (LOST, True), (LOST, False), (BUSY, False), (ENTRY, False)]
UNSEEN = st.lists(st.sampled_from(FAULTS), max_size=12)


def run(source: MemoryQueue, target: MemoryQueue, folder: Path, lanes: int, kill_after: int | None) -> Moved | None:
    """Begin, or go on with what was begun. None: it was killed."""
    power = source.power = target.power = Power(kill_after)
    header = JournalHeader(source.address.url, source.name)
    found = find(folder)
    journal = PoweredJournal.resume(found[0].path) if found else PoweredJournal.begin(folder, header)
    journal.power = power
    rules = CopyRules(lanes=lanes, longest_pause_s=0.0)
    with journal, contextlib.suppress(Killed):
        return copy(source, lambda _: target, forward(target), rules, journal, Silent())
    return None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(1, 35),
    lanes=st.integers(1, 3),
    kills=st.lists(st.integers(1, 150), max_size=4),
    times_out=st.booleans(),
    somebody_receives=st.booleans(),
    send_faults=UNSEEN,
    delete_faults=UNSEEN,
)
def test_every_message_is_accounted_for(
    count: int,
    lanes: int,
    kills: list[int],
    times_out: bool,
    somebody_receives: bool,
    send_faults: list[Fault | None],
    delete_faults: list[Fault | None],
) -> None:
    source, target = MemoryQueue("q-dlq"), MemoryQueue("q")
    bodies = [f"message {number}" for number in range(count)]
    for body in bodies:
        source.put(body)
    source.faults, target.faults = iter(delete_faults), iter(send_faults)
    with tempfile.TemporaryDirectory() as folder:
        for kill_after in kills:
            run(source, target, Path(folder), lanes, kill_after)
            if times_out:
                source.time_out()
            if somebody_receives:
                source.power = Power()
                source.receive(10, visibility_s=30, wait_s=0)
        source.time_out()
        moved = run(source, target, Path(folder), lanes, None)
        source.time_out()
        if moved is not None and moved.left:
            moved = run(source, target, Path(folder), lanes, None)
        again = run(source, target, Path(folder), lanes, None)

    assert moved is not None
    there = collections.Counter([*source.bodies(), *target.bodies()])
    assert set(there) == set(bodies)
    assert sum(there.values()) - count <= moved.sent_twice
    assert moved.stopped_by is None
    if not any(send_faults) and not any(delete_faults):
        assert moved.sent_twice <= len(kills) * lanes * 10
        assert moved.failed == 0
        assert moved.moved >= count - len(source.bodies())
        assert again == moved
