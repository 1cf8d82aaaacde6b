"""`refinerctl trace`: where one input is, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from refinerctl.app import app_context
from refinerctl.errors import UsageError
from refinerctl.insight.hops import hop_table
from refinerctl.insight.trace_search import Trace, TraceRequest, trace_input
from refinerctl.insight.trace_verdict import DlqMessage, Outcome
from refinerctl.keys import check_key
from refinerctl.options import Moment, Prefix, examples, global_options

EXIT_CODES = {Outcome.COMPLETED: 0, Outcome.FAILED: 1, Outcome.UNDER_WAY: 3}


@click.command(
    epilog=examples(
        "refinerctl trace RefinerInput/report.txt",
        "refinerctl trace report.txt --prefix RefinerInput/ --output json",
        "refinerctl trace s3://data-repository/RefinerInput/old.txt --since 30d",
    )
)
@click.argument("key")
@click.option("--prefix", type=Prefix(), help="Prefix of KEY.")
@click.option("--version-id", metavar="ID", help="Version of the object.  [default: the newest]")
@click.option(
    "--since", type=Moment(), default="14d", show_default=True, help="Start of the log search: a time, or how long ago."
)
@click.option("--look", is_flag=True, help="Receive the messages of the stage's queue if nothing else tells.")
@global_options
@click.pass_context
def trace(
    ctx: click.Context, key: str, prefix: str | None, version_id: str | None, since: datetime, look: bool
) -> None:
    """Show where an input is, and why.

    Exit code 0: completed; 1: failed, or never taken; 3: under way. Messages of DLQs are received and made visible
    again, which raises their receive counts. Those of the stage's own queue are only counted, unless --look is given:
    a message that is received too often moves to the DLQ.
    """
    app = app_context(ctx)
    app.tell_settings()
    bare = _below_bucket(key, app.bucket.name).removeprefix("/")
    if prefix is not None and not bare.startswith(prefix):
        bare = prefix + bare
    request = TraceRequest(check_key(bare), since, datetime.now(UTC), version_id, look=look)
    with app.render.progress() as progress:
        progress.update(f"tracing {request.key}")
        found = trace_input(app, request)
    if app.render.is_json:
        app.render.json(trace_json(found))
    else:
        app.render.line(f"{found.facts.key}: {found.verdict.text}")
        if found.hops:
            app.render.line()
            for line in hop_table(found.hops):
                app.render.line(line)
    for note in found.notes:
        app.render.note(note)
    ctx.exit(EXIT_CODES[found.verdict.outcome])


def _below_bucket(key: str, bucket: str) -> str:
    """A key as it is, or as other tools write it: `s3://bucket/key`."""
    if not key.startswith("s3://"):
        return key
    named, _, rest = key.removeprefix("s3://").partition("/")
    if named != bucket:
        raise UsageError(f"{key} is not in bucket {bucket}, which the stack uses")
    return rest


def trace_json(found: Trace) -> dict[str, Any]:
    """A trace in the form of the documentation."""
    facts = found.facts
    completion = facts.completion
    return {
        "key": facts.key,
        "version_id": facts.version.version_id if facts.version else None,
        "stage": facts.stage.name if facts.stage else None,
        "place": found.verdict.place,
        "outcome": found.verdict.outcome,
        "verdict": found.verdict.text,
        "deleted_at": facts.deleted_at,
        "hops": found.hops,
        "attempts": facts.attempts,
        "dlq_message": _dlq_message_json(facts.dlq_message or facts.undelivered_message),
        "completion_key": completion.info.key if completion else None,
        "outputs": list(completion.document.output_keys) if completion else [],
        "notes": found.notes,
    }


def _dlq_message_json(found: DlqMessage | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "queue": found.queue,
        "since": found.since,
        "sent_at": found.message.sent_at,
        "expires_at": found.expires_at,
        "receive_count": found.message.receive_count,
        "attributes": found.message.texts,
    }
