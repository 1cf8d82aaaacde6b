"""The messages about a stage's inputs: which inputs are in a DLQ, and in which queues others may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.aws.s3 import ObjectInfo, object_event
from refinerctl.console import counted
from refinerctl.inputs.broker_messages import read_broker_messages
from refinerctl.inputs.listing import LONGEST_TIMEOUT_S
from refinerctl.parallel import Answer, attempt, concurrently
from refinerctl.stacks.base import EventRule, Queue, Stage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.messages import Message
    from refinerctl.aws.sqs import QueueState

THREADS = 16
# Of one DLQ; a hundred calls.
MAX_MESSAGES = 1000
# S3 records whole seconds, SQS milliseconds.
EVENT_SKEW = timedelta(seconds=2)


@dataclass(frozen=True)
class StageMessages:
    """What is known about the messages of a stage.

    `in_dlqs` are the inputs in its DLQs: key → the DLQ's name, and when the message was sent. `unread` are queues that
    may hold messages of other inputs, and why they are not known. `timeout_s` is the function's.
    """

    in_dlqs: Mapping[str, tuple[str, datetime]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = LONGEST_TIMEOUT_S

    def dlq_of(self, info: ObjectInfo) -> str | None:
        """The DLQ with the input's message; a message that was sent before the input was written is of another one."""
        name, sent_at = self.in_dlqs.get(info.key, (None, info.last_modified))
        return name if sent_at > info.last_modified - EVENT_SKEW else None


def read_messages(app: AppContext, stages: Sequence[Stage]) -> tuple[dict[Stage, StageMessages], list[str]]:
    """Read the queues and DLQs of stages with a consumer; returns notes, too.

    Receives messages of DLQs and releases them, which does no harm: a DLQ has no redrive policy. Those of a stage's
    queue are counted only, before and after the DLQs: a message may move from one to the other meanwhile.
    """
    shared = [rule.dlq for rule in app.pipeline.shared if isinstance(rule, EventRule) and rule.dlq is not None]
    queues = [stage.queue for stage in stages if stage.queue is not None and stage.queue.broker is None]
    dlqs = list(dict.fromkeys([*(dlq for stage in stages for dlq in stage.sqs_queues if dlq != stage.queue), *shared]))
    timeouts = concurrently([partial(_timeout_s, app, stage) for stage in stages], THREADS)
    on_brokers = concurrently([partial(read_broker_messages, app, stage, MAX_MESSAGES) for stage in stages], THREADS)
    before = _states(app, queues)
    states = _states(app, dlqs)
    full = [dlq for dlq in dlqs if (state := states[dlq].value) is not None and state.visible]
    received = concurrently(
        [partial(attempt, partial(app.queues.peek, dlq.name, MAX_MESSAGES)) for dlq in full], THREADS
    )
    messages = dict(zip(full, received, strict=True))
    after = _states(app, queues)
    unread = {queue: _waiting(before[queue]) or _waiting(after[queue]) for queue in queues}
    unread |= {dlq: _not_received(states[dlq], messages.get(dlq)) for dlq in dlqs}
    notes = [
        f"messages of {dlq.name} were received to find inputs in it: their receive counts increased by 1"
        for dlq in full
    ]
    found = {}
    for stage, timeout_s, on_broker in zip(stages, timeouts, on_brokers, strict=True):
        own = [*stage.sqs_queues, *shared]
        received_from: dict[str, Iterable[Message]] = {
            dlq.name: messages[dlq].value or () for dlq in own if dlq in messages
        }
        if stage.dlq and on_broker.received:
            received_from[stage.dlq.name] = on_broker.received
        in_dlqs = _in_dlqs(received_from, app.bucket.name)
        held = {queue.name: why for queue in own if (why := unread[queue])}
        notes += on_broker.notes
        found[stage] = StageMessages(in_dlqs, {**held, **on_broker.unread}, timeout_s)
    return found, notes


def _states(app: AppContext, queues: Sequence[Queue]) -> dict[Queue, Answer[QueueState]]:
    states = concurrently([partial(attempt, partial(app.queues.state, queue.name)) for queue in queues], THREADS)
    return dict(zip(queues, states, strict=True))


def _timeout_s(app: AppContext, stage: Stage) -> float:
    function = attempt(partial(app.functions.get, stage.function.name)).value if stage.function else None
    return function.timeout_s if function else LONGEST_TIMEOUT_S


def _waiting(answer: Answer[QueueState]) -> str:
    """Why a queue may hold the message of any input; empty for a queue without messages, or without queue."""
    if answer.value is None:
        return "" if answer.not_found or answer.error is None else answer.error.message
    return counted(answer.value.total, "message") if answer.value.total else ""


def _not_received(answer: Answer[QueueState], received: Answer[list[Message]] | None) -> str:
    """Why a DLQ may hold messages that were not received."""
    if received is not None and received.error is not None:
        return received.error.message
    if answer.value is None:
        return _waiting(answer)
    left = answer.value.total - len({message.id for message in received.value or ()} if received else ())
    return f"{counted(left, 'message')} not received" if left > 0 else ""


def _in_dlqs(messages: Mapping[str, Iterable[Message]], bucket: str) -> dict[str, tuple[str, datetime]]:
    """The newest message of each key."""
    found: dict[str, tuple[str, datetime]] = {}
    for name, received in messages.items():
        for message in received:
            event = object_event(message.body)
            if event is None or event.bucket != bucket:
                continue
            if event.key not in found or found[event.key][1] < message.sent_at:
                found[event.key] = (name, message.sent_at)
    return found
