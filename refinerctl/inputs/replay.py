"""`refinerctl replay`: send inputs through the pipeline again, as the messages that S3's events about them became."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.messages import MAX_BATCH, EntryResult, OutgoingMessage
from refinerctl.aws.s3 import ObjectInfo
from refinerctl.console import counted
from refinerctl.errors import RefinerctlError, RefusedError, TransientError, UsageError, known_names
from refinerctl.inputs.list import InputStatus, find_inputs
from refinerctl.inputs.names import input_key
from refinerctl.inputs.targets import Sender, Target, check_consumers, find_targets
from refinerctl.options import Moment, Rate, ask, check_consent, examples, global_options, yes_option
from refinerctl.parallel import attempt, concurrently, through_interrupt
from refinerctl.shell import complete_prefix
from refinerctl.stacks.base import Stage

if TYPE_CHECKING:
    from refinerctl.aws.s3 import S3Bucket
    from refinerctl.console import Renderer

Item = TypeVar("Item")

THREADS = 16
# So many objects are looked up at a time, before the messages about them are sent.
CHUNK = 8 * MAX_BATCH
ATTEMPTS = 5
PAUSE_S = 0.2
# A broker that restarts takes this long, and an attempt waits for it.
RETRY_S = 60.0


class ReplayStatus(StrEnum):
    SENT = "sent"
    WOULD_SEND = "would-send"
    FAILED = "failed"


@dataclass(frozen=True)
class Replay:
    """An input that is sent again, and the message. `error`: why it was not, or why it may have been sent twice."""

    key: str
    target: Target
    status: ReplayStatus
    version_id: str | None = None
    message_id: str | None = None
    error: str | None = None


@click.command(
    epilog=examples(
        "refinerctl replay RefinerInput/report.txt",
        "refinerctl replay --incomplete --since 2d --dry-run",
        "refinerctl replay --incomplete --rate 10/s --yes",
    )
)
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--incomplete", is_flag=True, help="Instead of KEY: all inputs that `inputs --incomplete` lists.")
@click.option(
    "--prefix",
    metavar="PREFIX",
    shell_complete=complete_prefix,
    help="With --incomplete: prefix or stage of the inputs.",
)
@click.option("--since", type=Moment(), help="With --incomplete: earliest upload time of an input.")
@click.option("--rate", type=Rate(), metavar="N/s", help="Maximum send rate.")
@click.option("--force", is_flag=True, help="Send even if a consumer is broken or an input may have a message.")
@click.option("--dry-run", is_flag=True, help="List what would be sent, and stop.")
@yes_option
@global_options
@click.pass_context
def replay(
    ctx: click.Context,
    keys: tuple[str, ...],
    incomplete: bool,
    prefix: str | None,
    since: datetime | None,
    rate: float | None,
    force: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Send inputs through the pipeline again.

    KEY is an input's key, or its name below the prefix of a stage. For each object, sends the queue of its stage the
    message that EventBridge would deliver about the current version; a queue on a broker gets the message that the
    stack would publish. The object is not changed. Refused (4) if the consumer is broken, or if all inputs of
    --incomplete may still have messages in a queue. Exit code 1 if an input could not be sent.
    """
    if bool(keys) == incomplete:
        raise UsageError("pass either keys or --incomplete")
    if not incomplete and (prefix is not None or since is not None):
        raise UsageError("--prefix and --since need --incomplete")
    check_consent(yes or dry_run)
    app = app_context(ctx, changes=True)
    app.tell_settings()
    app.bucket.check()
    now = datetime.now(UTC)
    chosen = incomplete_keys(app, prefix, since, now, force=force) if incomplete else given_keys(app, keys)
    if not chosen:
        app.render.note("no incomplete inputs: nothing to send")
        return
    targets = find_targets(app, [stage for _, stage in chosen])
    check_consumers(app, targets.values(), now, force=force)
    wanted = [(key, targets[stage]) for key, stage in chosen]
    names = ", ".join(target.queue.name for target in targets.values())
    what = f"{counted(len(wanted), 'input')} to {names}"
    if not dry_run:
        ask(f"Send {what} in {app.location}?", yes)
        app.render.note(f"sending {what}")
    _run(app, wanted, rate, dry_run=dry_run)


def given_keys(app: AppContext, keys: Sequence[str]) -> list[tuple[str, Stage]]:
    """Keys with their stages, each once. Raises UsageError for a key that no stage with a queue receives."""
    found = []
    for key in dict.fromkeys(input_key(app, text) for text in keys):
        stage = app.pipeline.stage_for(key)
        if stage is None or stage.queue is None:
            prefixes = [item.prefix for item in app.pipeline.stages if item.prefix and item.queue]
            hint = known_names(key, prefixes, "Prefixes of the stages")
            raise UsageError(f"no stage with a queue receives {key}", hint=hint)
        found.append((key, stage))
    return found


def incomplete_keys(
    app: AppContext, prefix: str | None, since: datetime | None, now: datetime, *, force: bool
) -> list[tuple[str, Stage]]:
    """The incomplete inputs; unless `force` without those that may still be in a queue, which would be sent twice.

    Raises RefusedError if there are no others.
    """
    listing = find_inputs(app, prefix, since, now)
    chosen: list[tuple[str, Stage]] = []
    left = 0
    completing: set[Stage] = set()
    without: dict[Stage, None] = {}
    for item in listing.items:
        if item.status is InputStatus.COMPLETED:
            completing.add(item.stage)
        elif item.status is InputStatus.INCOMPLETE and item.stage.queue:
            without[item.stage] = None
            if item.may_be_in and not force:
                left += 1
            else:
                chosen.append((item.info.key, item.stage))
    for stage in [stage for stage in without if stage not in completing]:
        keys = f" as {stage.completions}" if stage.completions else ""
        app.render.warning(f"no input of {stage.name} has a completion; check that its function writes them{keys}")
    if left:
        held = ", ".join(f"{name} ({why})" for name, why in listing.unread.items())
        refusal = f"{counted(left, 'incomplete input')} may still have messages in {held}"
        if not chosen:
            raise RefusedError(
                refusal,
                hint="Wait until the queue is empty, redrive the DLQ first, or pass --force to send them anyway.",
            )
        app.render.warning(f"{refusal}; they are not sent without --force")
    return chosen


def _run(app: AppContext, wanted: Sequence[tuple[str, Target]], rate: float | None, *, dry_run: bool) -> None:
    """Send, and print each result as soon as it is known. Raises RefinerctlError if one failed.

    Stops after a batch of which nothing could be sent.
    """
    limiter = RateLimiter(rate)
    senders = {target: target.sender(app) for target in dict.fromkeys(target for _, target in wanted)}
    counts: Counter[ReplayStatus] = Counter()

    def report(items: Iterable[Replay]) -> None:
        for item in items:
            counts[item.status] += 1
            _show(app.render, item)

    try:
        for chunk in _slices(wanted, CHUNK):
            found, missing = look_up(app.bucket, chunk)
            report(missing)
            if dry_run:
                report(
                    Replay(info.key, target, ReplayStatus.WOULD_SEND, info.version_id)
                    for target, infos in found.items()
                    for info in infos
                )
                continue
            for target, infos in found.items():
                for batch in _slices(infos, limiter.batch):
                    limiter.wait(len(batch))
                    # Ctrl-C waits for a batch that is on its way, and for its results.
                    sending = partial(_send_and_report, senders[target], target, app.bucket.name, batch, report)
                    through_interrupt(sending)
    finally:
        sent, failed = counts[ReplayStatus.SENT], counts[ReplayStatus.FAILED]
        if not dry_run and sent + failed < len(wanted):
            app.render.note(
                f"stopped: {sent:,} of {counted(len(wanted), 'input')} sent. Run the command again when they are "
                "processed: with --incomplete, those that are completed or in a DLQ are not sent again"
            )
    if failed:
        raise RefinerctlError(f"{failed:,} of {counted(len(wanted), 'input')} could not be sent")
    if not dry_run:
        command = app.command("inputs", "--incomplete")
        app.render.note(f"{counted(sent, 'input')} sent; to see which are not completed, run `{command}`")


def _send_and_report(
    sender: Sender,
    target: Target,
    bucket: str,
    infos: Sequence[ObjectInfo],
    report: Callable[[Iterable[Replay]], None],
) -> None:
    """Raises RefinerctlError if nothing could be sent."""
    results = send(sender, target, bucket, infos)
    report(results)
    if all(item.status is ReplayStatus.FAILED for item in results):
        raise RefinerctlError(f"no message of a batch could be sent to {target.queue.name}")


def _slices(items: Sequence[Item], count: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + count] for start in range(0, len(items), count))


def look_up(
    bucket: S3Bucket, wanted: Sequence[tuple[str, Target]]
) -> tuple[dict[Target, list[ObjectInfo]], list[Replay]]:
    """The current versions of the objects by target, and results for those that cannot be read."""
    heads = concurrently([partial(attempt, partial(bucket.head, key)) for key, _ in wanted], THREADS)
    found: dict[Target, list[ObjectInfo]] = {}
    missing = []
    for (key, target), head in zip(wanted, heads, strict=True):
        if head.value is not None:
            found.setdefault(target, []).append(head.value)
        else:
            reason = head.error.message if head.error else "the object does not exist"
            missing.append(Replay(key, target, ReplayStatus.FAILED, error=reason))
    return found, missing


@dataclass
class RateLimiter:
    """Waits so that at most `rate` messages per second are sent, in batches that take a second or less."""

    rate: float | None
    _next: float = 0.0

    @property
    def batch(self) -> int:
        return MAX_BATCH if self.rate is None else max(1, min(MAX_BATCH, int(self.rate)))

    def wait(self, count: int) -> None:
        if self.rate is not None:
            start = max(self._next, time.monotonic())
            self._next = start + count / self.rate
            time.sleep(max(0.0, start - time.monotonic()))


def send(
    sender: Sender, target: Target, bucket: str, infos: Sequence[ObjectInfo], pause_s: float = PAUSE_S
) -> list[Replay]:
    """Send the messages about up to ten inputs. What failed and may succeed is sent again, with the same message."""
    messages = {info.key: target.message(bucket, info) for info in infos}
    results: dict[str, EntryResult] = {}
    uncertain: set[str] = set()
    waiting, until = list(messages), time.monotonic() + RETRY_S
    for number in range(ATTEMPTS):
        if number:
            time.sleep(pause_s * 2**number)
        results |= zip(waiting, sender.send([messages[key] for key in waiting]), strict=True)
        waiting = [key for key in waiting if _can_retry(results[key])]
        if not waiting or time.monotonic() > until:
            break
        uncertain |= {key for key in waiting if results[key].is_uncertain}
    return [
        _result(info, target, results[info.key], messages[info.key], is_doubtful=info.key in uncertain)
        for info in infos
    ]


def _can_retry(answer: EntryResult) -> bool:
    is_permanent = answer.cause is not None and not isinstance(answer.cause, TransientError)
    return not (answer.is_done or answer.is_sender_fault or is_permanent)


def _result(
    info: ObjectInfo, target: Target, answer: EntryResult, message: OutgoingMessage, *, is_doubtful: bool
) -> Replay:
    """`is_doubtful`: an attempt before this one may have sent it."""
    if answer.is_done:
        twice = "may have been sent twice" if is_doubtful else None
        # The id of an AMQP message is a property of its own, which the logs show.
        message_id = message.properties.get("message_id", answer.message_id)
        return Replay(info.key, target, ReplayStatus.SENT, info.version_id, message_id, twice)
    doubt = "may have been sent" if is_doubtful or answer.is_uncertain else "not sent"
    return Replay(
        info.key, target, ReplayStatus.FAILED, info.version_id, error=f"{doubt}: {answer.message or answer.error}"
    )


def _show(render: Renderer, item: Replay) -> None:
    if render.is_json:
        render.json(replay_json(item), indent=None)
    else:
        render.line(f"{item.status:<10}  {item.key}  {item.version_id or '-'}  {item.target.queue.name}")
    if item.error:
        render.warning(f"{item.key}: {item.error}")


def replay_json(item: Replay) -> dict[str, Any]:
    """A replay in the form of the documentation."""
    return {
        "key": item.key,
        "version_id": item.version_id,
        "stage": item.target.stage.name,
        "queue": item.target.queue.name,
        "status": item.status,
        "message_id": item.message_id,
        "error": item.error,
    }
