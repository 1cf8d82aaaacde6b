"""`refinerctl trace`: where one input is, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.console import counted, seconds
from refinerctl.inputs.names import input_key, near_keys
from refinerctl.insight.attempts import Attempt
from refinerctl.insight.trace_facts import Facts, Place, TraceOutcome, Verdict
from refinerctl.insight.trace_search import trace_input
from refinerctl.insight.trace_service import ServiceFacts
from refinerctl.insight.trace_verdict import is_lost, verdict
from refinerctl.options import Moment, examples, global_options
from refinerctl.parallel import attempt
from refinerctl.shell import complete_prefix
from refinerctl.stacks.base import EventRule, Stage
from refinerctl.stacks.records import RecordEvent

if TYPE_CHECKING:
    from refinerctl.console import Renderer
    from refinerctl.inputs.completions import Completion

EXIT_CODES = {TraceOutcome.COMPLETED: 0, TraceOutcome.FAILED: 1, TraceOutcome.UNDER_WAY: 3}


@click.command(
    epilog=examples(
        "refinerctl trace RefinerInput/report.txt",
        "refinerctl trace report.txt --output json",
        "refinerctl trace s3://data-repository/RefinerInput/old.txt --since 30d",
    )
)
@click.argument("key")
@click.option("--prefix", metavar="PREFIX", shell_complete=complete_prefix, help="Prefix or stage of KEY.")
@click.option("--version-id", metavar="ID", help="Version of the object.  [default: the newest]")
@click.option(
    "--since",
    type=Moment(),
    default="14d",
    show_default=True,
    help="Start of the log search: a time, or a duration before now.",
)
@click.option(
    "--look", is_flag=True, help="Receive the messages of the stage's queue if the input is not found elsewhere."
)
@global_options
@click.pass_context
def trace(
    ctx: click.Context, key: str, prefix: str | None, version_id: str | None, since: datetime, look: bool
) -> None:
    """Show where an input is, and why.

    KEY is an input's key, or its name below the prefix of a stage.

    Exit code 0: completed; 1: failed, or no stage receives it; 3: under way. Messages of DLQs are received and
    released, which increases their receive counts by 1. Those of the stage's own queue are only counted, unless --look
    is given: a message that is received too often moves to the DLQ.
    """
    app = app_context(ctx)
    app.tell_settings()
    bare = input_key(app, key, prefix)
    with app.render.progress() as progress:
        progress.update(f"tracing {bare}")
        facts = trace_input(app, bare, since, datetime.now(UTC), version_id, look=look)
    found = verdict(facts)
    if app.render.is_json:
        app.render.json(trace_json(facts, found))
    else:
        app.render.line(f"{bare}: {found.text}")
        if hops := hops_of(facts):
            app.render.line()
            show_hops(app.render, hops)
    for note in (*facts.notes, *_near(app, found, bare)):
        app.render.note(note)
    if version_id is None and is_lost(facts, found):
        app.render.note(f"to send it through the pipeline again, run `{app.command('replay', bare)}`")
    ctx.exit(EXIT_CODES[found.outcome])


def _near(app: AppContext, found: Verdict, key: str) -> list[str]:
    """A note with the keys of similar inputs, if the input never existed."""
    if found.place not in (Place.NEVER_EXISTED, Place.NEVER_MATCHED):
        return []
    keys = attempt(partial(near_keys, app, key)).value
    return [f"inputs with a similar key: {', '.join(keys)}"] if keys else []


def trace_json(facts: Facts, found: Verdict) -> dict[str, Any]:
    """A trace in the form of the documentation."""
    completion, held = facts.completion, facts.dlq_message or facts.undelivered_message
    return {
        "key": facts.key,
        "version_id": facts.version.version_id if facts.version else None,
        "stage": facts.stage.name if facts.stage else None,
        "place": found.place,
        "outcome": found.outcome,
        "verdict": found.text,
        "deleted_at": facts.deleted_at,
        "hops": hops_of(facts),
        "attempts": facts.attempts,
        "dlq_message": held
        and {
            "queue": held.queue,
            "since": held.since,
            "sent_at": held.message.sent_at,
            "expires_at": held.expires_at,
            "receive_count": held.message.receive_count,
            "attributes": held.message.texts,
        },
        **_of_service(facts.service),
        "completion_key": completion.info.key if completion else None,
        "outputs": list(completion.document.output_keys) if completion else [],
        "notes": facts.notes,
    }


def _of_service(service: ServiceFacts | None) -> dict[str, Any]:
    """What only stages with a service have."""
    if service is None:
        return {}
    found = {"traceparent": service.traceparent, "publications": service.publications}
    return found | {"merged": service.merged, "queue_counts": service.counts}


@dataclass(frozen=True)
class Hop:
    """A step of an input through the pipeline; `elapsed_s` since the first. None: the time was not recorded."""

    component: str
    detail: str
    at: datetime | None = None
    elapsed_s: float | None = None


def hops_of(facts: Facts) -> list[Hop]:
    """In the order of the pipeline."""
    hops = list(_hops(facts))
    if (deleted := facts.deleted_at) is not None:
        later = (number for number, hop in enumerate(hops) if hop.at and hop.at > deleted)
        hops.insert(next(later, len(hops)), Hop("S3", "deleted", deleted))
    return with_elapsed(hops)


def with_elapsed(hops: Sequence[Hop]) -> list[Hop]:
    """S3 and EventBridge record whole seconds: a hop that seems to be before the first one is at the same time."""
    start = next((hop.at for hop in hops if hop.at), None)
    return [
        replace(hop, elapsed_s=max(0.0, (hop.at - start).total_seconds())) if hop.at and start else hop for hop in hops
    ]


def show_hops(render: Renderer, hops: Sequence[Hop]) -> None:
    """Print a table of hops."""
    rows = []
    for hop in hops:
        at = f"{hop.at:%Y-%m-%dT%H:%M:%S}.{hop.at.microsecond // 1000:03}Z" if hop.at else ""
        elapsed = ""
        if hop.elapsed_s is not None:
            elapsed = f"+{hop.elapsed_s:.3f}s" if hop.elapsed_s < 60 else f"+{seconds(hop.elapsed_s)}"
        rows.append((at, elapsed, hop.component, hop.detail))
    render.table({"AT": -1, "ELAPSED": 0, "HOP": -1, "DETAIL": -1}, rows, wrap=True)


def _hops(facts: Facts) -> Iterator[Hop]:
    stage = facts.stage
    if (version := facts.version) is not None:
        yield Hop(
            "S3", f"version {version.version_id or '(none)'}, {counted(version.size, 'byte')}", version.last_modified
        )
    messages = [item for item in (facts.queued_message, facts.dlq_message and facts.dlq_message.message) if item]
    times = [(item.event_at, item.sent_at) for item in facts.attempts if item.sent_at]
    times += [(None, message.sent_at) for message in messages]
    if facts.service is not None and facts.stage_queue is not None:
        yield from _publication_hops(facts.service, facts.stage_queue.name)
    elif stage is not None and times:
        yield from _delivery_hops(stage, *times[0])
    for number, item in enumerate(facts.attempts, 1):
        yield from _attempt_hops(item, number, "ECS" if facts.service else "Lambda")
    for found in (facts.dlq_message, facts.undelivered_message):
        if found is not None:
            yield Hop("DLQ", f"{found.queue}, expires {facts.clock(found.expires_at)}", found.since)
    if facts.completion is not None:
        info = facts.completion.info
        yield Hop(
            "S3", f"completion {info.key}: {facts.completion.document.status}", _written_at(facts.completion, facts)
        )
    for merged in facts.service.merged if facts.service else ():
        yield Hop("S3", f"merged {merged.manifest}", merged.at)


def _delivery_hops(stage: Stage, event_at: datetime | None, sent_at: datetime | None) -> Iterator[Hop]:
    if isinstance(stage.source, EventRule):
        yield Hop("EventBridge", f"rule {stage.source.name} (prefix {stage.source.prefix})", event_at)
    if stage.queue is not None:
        yield Hop("SQS", stage.queue.name, sent_at)


def _publication_hops(service: ServiceFacts, queue: str) -> Iterator[Hop]:
    for item in service.publications:
        if item.event is RecordEvent.PUBLISHED:
            yield Hop("RabbitMQ", f"published to {queue}, message {item.message_id}", item.at)
        else:
            detail = f"not published: {item.error}" if item.error else f"claimed by {item.function}"
            yield Hop("Lambda", detail, item.at)


def _written_at(completion: Completion, facts: Facts) -> datetime:
    """S3 tells the second; the log of the attempt that wrote it tells when it ended in that second."""
    at, key = completion.info.last_modified, completion.info.key
    ends = (item.ended for item in facts.attempts if item.completion_key == key and item.ended)
    return max((end for end in ends if at <= end < at + timedelta(seconds=1)), default=at)


def _attempt_hops(item: Attempt, number: int, service: str) -> Iterator[Hop]:
    """One attempt, by the receive count of its message or else by `number`."""
    worker = f"{'task' if service == 'ECS' else 'request'} {item.request_id}"
    yield Hop(service, f"attempt {item.receive_count or number}, {worker}", item.started)
    for output in item.outputs:
        yield Hop("S3", f"output {output.key}", output.at)
    took = f" after {item.duration_ms:.0f} ms" if item.duration_ms is not None else ""
    if item.error:
        yield Hop(service, f"failed{took}: {item.error}", item.ended)
    elif item.ignored:
        yield Hop(service, f"ignored: {item.ignored}", item.ended)
    elif item.ended:
        yield Hop(service, f"done{took}", item.ended)
