"""`refinerctl trace`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.errors import UsageError
from refinerctl.insight.status_view import seconds
from refinerctl.insight.trace.facts import DeadLetter, Outcome
from refinerctl.insight.trace.hops import Trace
from refinerctl.keys import check_key
from refinerctl.options import Moment, Prefix, global_options
from refinerctl.stations import environment_rulesets
from refinerctl.tables import table

EXIT_CODES = {Outcome.COMPLETED: 0, Outcome.FAILED: 1, Outcome.UNDER_WAY: 3}


@click.command()
@click.argument("key")
@click.option("--prefix", type=Prefix(), help="KEY is the name below this prefix.")
@click.option("--version-id", metavar="ID", help="Which version of the object.  [default: the newest]")
@click.option(
    "--since", type=Moment(), default="14d", show_default=True, help="How far back to search logs: a time, or 14d."
)
@click.option(
    "--look", is_flag=True, help="If nothing else tells: receive what waits in its queue, which costs each a receive."
)
@global_options
@click.pass_context
def trace(
    ctx: click.Context, key: str, prefix: str | None, version_id: str | None, since: datetime, look: bool
) -> None:
    """Tell where an input is, and why there.

    Exit code 0: completed; 1: failed, or never taken; 3: still under way. Dead-letter queues that hold something are
    looked into, which raises the receive counts there and does no harm. The ruleset's own queue is counted only,
    unless --look says otherwise.
    """
    from refinerctl.insight.trace import Stations, TraceRequest
    from refinerctl.insight.trace import trace as operation

    app = app_context(ctx)
    app.tell_settings()
    bare = _below_bucket(key, app.bucket.name).removeprefix("/")
    if prefix is not None and not bare.startswith(prefix):
        bare = prefix + bare
    rulesets = environment_rulesets(app)
    names = {ruleset.base.removesuffix(f"-{ruleset.name}") for ruleset in rulesets}
    request = TraceRequest(
        check_key(bare),
        since=since,
        now=datetime.now(UTC),
        version_id=version_id,
        forward=tuple(f"{name}-forward-delivery-dlq" for name in sorted(names)),
        look=look,
    )
    stations = Stations(app.bucket, app.completions, app.queues, app.functions, app.log_groups)
    with app.render.progress() as progress:
        progress.update(f"looking for {request.key}")
        found = operation(request, rulesets, app.old_pipeline, stations)
    _show(app, found)
    ctx.exit(EXIT_CODES[found.verdict.outcome])


def _below_bucket(key: str, bucket: str) -> str:
    """A key as it is, or as other tools give it: `s3://bucket/key`."""
    if not key.startswith("s3://"):
        return key
    named, _, rest = key.removeprefix("s3://").partition("/")
    if named != bucket:
        raise UsageError(f"{key} is in another bucket than {bucket}, the pipeline's")
    return rest


def _show(app: AppContext, found: Trace) -> None:
    if app.render.is_json:
        app.render.json(trace_json(found))
    else:
        app.render.line(f"{found.facts.key}: {found.verdict.text}")
        if found.hops:
            app.render.line()
        rows = [
            [
                f"{hop.at:%Y-%m-%dT%H:%M:%S}.{hop.at.microsecond // 1000:03}Z" if hop.at else "",
                "" if hop.elapsed_s is None else f"+{_elapsed(hop.elapsed_s)}",
                hop.station,
                hop.detail,
            ]
            for hop in found.hops
        ]
        for line in list(table(("AT", "ELAPSED", "STATION", ""), rows)) if rows else ():
            app.render.line(line)
    for note in found.notes:
        app.render.note(note)


def _elapsed(value: float) -> str:
    return f"{value:.3f}s" if value < 60 else seconds(value)


def trace_json(found: Trace) -> dict[str, Any]:
    """A trace in the contract's form."""
    facts = found.facts
    completion = facts.completion
    return {
        "key": facts.key,
        "version_id": facts.version.version_id if facts.version else None,
        "ruleset": facts.ruleset.name if facts.ruleset else None,
        "place": found.verdict.place,
        "outcome": found.verdict.outcome,
        "verdict": found.verdict.text,
        "deleted_at": facts.deleted_at,
        "hops": found.hops,
        "attempts": facts.attempts,
        "dead_letter": _letter(facts.dead or facts.undelivered),
        "completion_key": completion.info.key if completion else None,
        "outputs": list(completion.document.output_keys) if completion else [],
        "notes": found.notes,
    }


def _letter(letter: DeadLetter | None) -> dict[str, Any] | None:
    if letter is None:
        return None
    return {
        "queue": letter.queue,
        "since": letter.since,
        "sent_at": letter.message.sent_at,
        "expires_at": letter.expires_at,
        "receive_count": letter.message.receive_count,
        "attributes": letter.message.texts,
    }
