"""Whatever fails and whenever it is killed: each message is in the target or in the queue, or is counted as twice."""

from __future__ import annotations

import collections
import contextlib
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refinerctl.dlq.redrive.copy import RedriveResult
from refinerctl.dlq.redrive.journal import find
from tests.unit.dlq.redrive.conftest import Redrive
from tests.unit.dlq.redrive.memory_queue import BUSY, ENTRY, LOST, Fault, Killed, Power, PoweredDisk

FAULTS: list[Fault | None] = [None, (LOST, True), (LOST, False), (BUSY, False), (ENTRY, False)]
UNSEEN = st.lists(st.sampled_from(FAULTS), max_size=12)


def run(redrive: Redrive, workers: int, kill_after: int | None) -> RedriveResult | None:
    """Begin, or continue what was begun. None: it was killed."""
    power = redrive.source.power = redrive.target.power = Power(kill_after)
    disk = PoweredDisk(power)
    with contextlib.suppress(Killed):
        if find(redrive.folder):
            return redrive.resume(disk=disk, workers=workers)
        return redrive.run(disk=disk, workers=workers)
    return None


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(1, 35),
    workers=st.integers(1, 3),
    kills=st.lists(st.integers(1, 150), max_size=4),
    times_out=st.booleans(),
    somebody_receives=st.booleans(),
    send_faults=UNSEEN,
    delete_faults=UNSEEN,
)
def test_every_message_is_accounted_for(
    count: int,
    workers: int,
    kills: list[int],
    times_out: bool,
    somebody_receives: bool,
    send_faults: list[Fault | None],
    delete_faults: list[Fault | None],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        redrive = Redrive(Path(folder))
        bodies, source, target = redrive.fill(count), redrive.source, redrive.target
        source.faults, target.faults = iter(delete_faults), iter(send_faults)
        for kill_after in kills:
            run(redrive, workers, kill_after)
            if times_out:
                source.time_out()
            if somebody_receives:
                source.power = Power()
                source.receive(10, visibility_s=30, wait_s=0)
        source.time_out()
        was_finished = any(item.is_finished for item in find(redrive.folder))  # it may have left messages in flight
        moved = run(redrive, workers, None)
        if moved is not None and moved.left_over is None and not was_finished:
            assert len(source.bodies()) == moved.failed
        source.time_out()
        if moved is not None and moved.left:
            moved = run(redrive, workers, None)
        again = run(redrive, workers, None)

    assert moved is not None
    there = collections.Counter([*source.bodies(), *target.bodies()])
    assert set(there) == set(bodies)
    assert sum(there.values()) - count <= moved.sent_twice
    assert moved.stopped_by is None
    if not any(send_faults) and not any(delete_faults):
        assert moved.sent_twice <= len(kills) * workers * 10
        assert moved.failed == 0
        assert moved.moved >= count - len(source.bodies())
        assert again == moved
