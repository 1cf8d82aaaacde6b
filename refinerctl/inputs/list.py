"""`refinerctl inputs`: the inputs of the stages, each with its completion, or where its message may be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.s3 import ObjectInfo
from refinerctl.console import counted, size
from refinerctl.errors import UsageError, known_names
from refinerctl.inputs.completions import completions_of
from refinerctl.inputs.listing import Input, is_recent, list_inputs
from refinerctl.inputs.messages import StageMessages, read_messages
from refinerctl.inputs.names import below_stages
from refinerctl.options import Moment, examples, global_options
from refinerctl.shell import complete_prefix
from refinerctl.stacks.base import Pipeline, Stage

if TYPE_CHECKING:
    from refinerctl.console import Renderer

NOTE_SECONDS = 10.0


class InputStatus(StrEnum):
    """`failed`: its message is in a DLQ; `under-way`: it was written a short time ago; `incomplete`: none of these."""

    COMPLETED = "completed"
    FAILED = "failed"
    UNDER_WAY = "under-way"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class ListedInput:
    """An input and its status. `dlq` has its message; `may_be_in`: queues whose messages are not all known.

    `has_older_completion`: it has a completion that is older than this version of it.
    """

    info: ObjectInfo
    stage: Stage
    status: InputStatus
    completion_key: str | None = None
    dlq: str | None = None
    may_be_in: tuple[str, ...] = ()
    has_older_completion: bool = False


@click.command(
    epilog=examples(
        "refinerctl inputs --incomplete",
        "refinerctl inputs RefinerInput/2026/ --since 2d",
        "refinerctl inputs --incomplete --output json | jq -r .key",
    )
)
@click.argument("prefix", required=False, shell_complete=complete_prefix)
@click.option("--incomplete", is_flag=True, help="Only inputs with status incomplete.")
@click.option("--since", type=Moment(), help="Earliest upload time of an input: 1h, or 2026-03-01T14:02:00Z.")
@global_options
@click.pass_context
def inputs(ctx: click.Context, prefix: str | None, incomplete: bool, since: datetime | None) -> None:
    """List inputs and whether they are completed.

    PREFIX is a key prefix (RefinerInput/team/), its part below the prefix of a stage (team/), or a stage's name; the
    default is all stages that have a function. Statuses: completed, failed (its message is in a DLQ), under-way
    (recent), incomplete (none of these). Messages of DLQs are received and released, which increases their receive
    counts by 1. Messages in a stage's own queue are only counted, so an incomplete input may have a message there.
    `replay` sends inputs through the pipeline again.
    """
    app = app_context(ctx)
    app.tell_settings()
    app.bucket.check()
    counts: Counter[InputStatus] = Counter()
    listing = find_inputs(app, prefix, since, datetime.now(UTC))
    for item in with_notes(listing.items, app.render, time.monotonic):
        counts[item.status] += 1
        if not incomplete or item.status is InputStatus.INCOMPLETE:
            _show(app.render, item)
    for note in summary(counts, listing.unread, app.command("replay", "--incomplete")):
        app.render.note(note)


@dataclass(frozen=True)
class InputListing:
    """`items` can be iterated over once; `unread` are queues that may hold messages about inputs, and why."""

    items: Iterator[ListedInput]
    unread: Mapping[str, str]


def find_inputs(app: AppContext, prefix: str | None, since: datetime | None, now: datetime) -> InputListing:
    """The inputs of all stages that have a function, or of those below `prefix`, in the order of stages and keys.

    The messages are read at once, the inputs while they are iterated over. Raises UsageError if no stage has inputs
    there. `now` in UTC.
    """
    try:
        chosen = choose_stages(app.pipeline, prefix)
    except UsageError:
        if not (chosen := below_stages(app, (prefix or "").removeprefix("/"))):
            raise
    completions = completions_of(app)
    messages, notes = read_messages(app, [stage for stage, _ in chosen])
    for note in notes:
        app.render.note(note)

    def items() -> Iterator[ListedInput]:
        for stage, below in chosen:
            for found in list_inputs(completions, below):
                if since is None or found.info.last_modified >= since:
                    yield _judge(found, stage, messages[stage], now)

    unread = {name: why for known in messages.values() for name, why in known.unread.items()}
    return InputListing(items(), unread)


def choose_stages(pipeline: Pipeline, prefix: str | None) -> list[tuple[Stage, str]]:
    """The stages with a function that have inputs below `prefix`, each with the prefix to list.

    `prefix` may be a stage's name. Raises UsageError if there are none.
    """
    named = pipeline.find_stage(prefix) if prefix else None
    wanted = (named and named.prefix) or (prefix or "").removeprefix("/")
    with_function = [stage for stage in pipeline.stages if stage.prefix and stage.consumer is not None]
    found = [
        (stage, max(stage.prefix, wanted, key=len))
        for stage in with_function
        if stage.prefix and (stage.prefix.startswith(wanted) or wanted.startswith(stage.prefix))
    ]
    if not found:
        known = (stage.prefix for stage in with_function if stage.prefix)
        hint = known_names(wanted, known, "Prefixes of such stages")
        raise UsageError(f"no stage with a function has inputs below {wanted!r}", hint=hint)
    return found


def _judge(found: Input, stage: Stage, messages: StageMessages, now: datetime) -> ListedInput:
    info, completion = found.info, found.completion
    if completion is not None:
        return ListedInput(info, stage, InputStatus.COMPLETED, completion.key)
    if (dlq := messages.dlq_of(info)) is not None:
        return ListedInput(info, stage, InputStatus.FAILED, dlq=dlq, has_older_completion=found.has_older_completion)
    if is_recent(info, now, messages.timeout_s):
        status = InputStatus.UNDER_WAY
        may_be_in = tuple(name for name in messages.unread if stage.queue is None or name != stage.queue.name)
    else:
        status, may_be_in = InputStatus.INCOMPLETE, tuple(messages.unread)
    return ListedInput(info, stage, status, may_be_in=may_be_in, has_older_completion=found.has_older_completion)


def with_notes(items: Iterator[ListedInput], render: Renderer, monotonic: Callable[[], float]) -> Iterator[ListedInput]:
    """The items; a long listing says from time to time how far it is. No live progress: results are printed."""
    last = monotonic()
    for number, item in enumerate(items):
        if monotonic() - last >= NOTE_SECONDS:
            render.note(f"{counted(number, 'input')} so far, at {item.info.key}")
            last = monotonic()
        yield item


def summary(counts: Mapping[InputStatus, int], unread: Mapping[str, str], command: str) -> Sequence[str]:
    """What was listed; `command` is what to do about incomplete inputs."""
    parts = [f"{counts[status]:,} {status}" for status in InputStatus if counts.get(status)]
    notes = [f"{counted(sum(counts.values()), 'input')}{': ' if parts else ''}{', '.join(parts)}"]
    if not counts.get(InputStatus.INCOMPLETE):
        return notes
    if unread:
        held = ", ".join(f"{name} ({why})" for name, why in unread.items())
        notes.append(f"incomplete inputs may still have messages in {held}")
    return [*notes, f"to send incomplete inputs through the pipeline again, run `{command}`"]


def _show(render: Renderer, item: ListedInput) -> None:
    if render.is_json:
        render.json(input_json(item), indent=None)
        return
    remarks = [
        *([f"message in {item.dlq}"] if item.dlq else []),
        *([f"message may be in {', '.join(item.may_be_in)}"] if item.may_be_in else []),
        *(["its completion is older than the input"] if item.has_older_completion else []),
    ]
    remark = f"  ({'; '.join(remarks)})" if remarks else ""
    at = f"{item.info.last_modified.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    # On a terminal, time and size are left out of a line that does not fit.
    render.fields([(f"{item.status:<10}", 0), (at, 1), (f"{size(item.info.size):>8}", 2), (item.info.key + remark, 0)])


def input_json(item: ListedInput) -> dict[str, Any]:
    """An input in the form of the documentation."""
    return {
        "key": item.info.key,
        "stage": item.stage.name,
        "size": item.info.size,
        "last_modified": item.info.last_modified,
        "status": item.status,
        "completion_key": item.completion_key,
        "dlq": item.dlq,
        "may_be_in": item.may_be_in,
        "has_older_completion": item.has_older_completion,
    }
