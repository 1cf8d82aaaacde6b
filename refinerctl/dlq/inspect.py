"""`refinerctl dlq inspect`: messages of a DLQ, the object that each is about, and why it failed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import app_context
from refinerctl.aws.messages import Message, MessageAttribute
from refinerctl.aws.s3 import ObjectEvent, ObjectState, object_state
from refinerctl.console import counted
from refinerctl.dlq.bodies import body_value, source_key, source_object
from refinerctl.dlq.errors import MessageError, error_finder
from refinerctl.dlq.options import filter_options
from refinerctl.dlq.records import attribute_record
from refinerctl.dlq.services import at_queue, open_queue
from refinerctl.dlq.walk import Walk
from refinerctl.insight.error_signature import signature
from refinerctl.options import examples, global_options
from refinerctl.parallel import concurrently
from refinerctl.shell import complete_dlq

if TYPE_CHECKING:
    from refinerctl.console import Progress, Renderer
    from refinerctl.dlq.filters import MessageFilter

SHOWN = 10
# A filter may match few messages, and each receive raises a receive count: the number of receives is limited.
MAX_RECEIVED = 10_000
HEADS_AT_ONCE = 16
WORKERS = 4
# Limits of what is shown of a message: one or two screens.
MAX_BODY = 4_000
MAX_VALUE = 500
# Maximum length of a key in a line of `--group`.
MAX_KEY = 60
INDENT = "  "
TIMES = "\N{MULTIPLICATION SIGN}"
UNKNOWN = "unknown"

Parts = list[tuple[str, str]]

_STATES = {
    ObjectState.EXISTS: ("exists", "green"),
    ObjectState.REPLACED: ("this version does not exist, another one does", "yellow"),
    ObjectState.GONE: ("does not exist", "red"),
    ObjectState.UNKNOWN: ("unknown whether it exists", "yellow"),
}


@dataclass(frozen=True)
class InspectedMessage:
    """`object` None: the body names none; `error` None: unknown."""

    message: Message
    object: ObjectEvent | None = None
    object_state: ObjectState = ObjectState.UNKNOWN
    error: MessageError | None = None


@dataclass(frozen=True)
class ErrorGroup:
    """Messages whose errors have the same cause; the example is the first of them."""

    signature: str
    count: int
    example_id: str
    example_key: str | None = None
    example_error: str | None = None


@click.command(
    "inspect",
    epilog=examples(
        "refinerctl dlq inspect dibbs-ecr-RefinerInput-dlq",
        "refinerctl dlq inspect dibbs-ecr-RefinerInput-dlq --group",
        "refinerctl dlq inspect QUEUE --filter \"contains(error, 'NoSuchKey')\" --jsonl",
    ),
)
@click.argument("queue", shell_complete=complete_dlq)
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_RECEIVED),
    metavar="N",
    help=f"Maximum number of messages.  [default: {SHOWN}; with --group {MAX_RECEIVED}]",
)
@click.option("--group", is_flag=True, help="Count messages by their error.")
@click.option("--jsonl", is_flag=True, help="JSON Lines: one message or group per line.")
@click.option("--force", is_flag=True, help="Receive messages even if the queue has a DLQ itself.")
@global_options
@click.pass_context
def command(
    ctx: click.Context,
    queue: str,
    message_filter: MessageFilter,
    limit: int | None,
    group: bool,
    jsonl: bool,
    force: bool,
) -> None:
    """Show messages of a dead-letter queue and why they failed.

    QUEUE is the name of a queue or of its stage, a URL or an ARN. Prints for each message its S3 object and whether
    that still exists, its error, attributes and body. Messages are released at once; their receive counts increase by
    1.
    """
    app = at_queue(app_context(ctx), queue)
    app.tell_settings()
    found, source, _ = open_queue(app, queue, force=force)
    limit = limit or (MAX_RECEIVED if group else SHOWN)
    errors = error_finder(app, found.source_queues)
    walk = Walk(source, message_filter, errors, limit=limit, max_received=MAX_RECEIVED, workers=WORKERS)
    with app.render.progress() as progress:
        messages = receive(walk, progress, bodies=not group)
        progress.update(f"looking up the errors of {walk.matched:,} messages")
        known = errors.find(messages)
        groups = group_errors(messages, known) if group else []
        inspected = [] if group else with_objects(messages, known, partial(object_state, app.session))
    is_limited = walk.matched == limit or walk.received >= MAX_RECEIVED
    notes = [*walk.notes(), *([] if walk.is_complete or is_limited else [walk.remaining.sentence])]
    if jsonl:
        for item in groups or map(message_json, inspected):
            app.render.json(item, indent=None)
    elif app.render.is_json:
        app.render.json(
            {
                "queue": walk.queue.name,
                "url": walk.queue.url,
                "received": walk.received,
                "matched": walk.matched,
                "is_complete": walk.is_complete,
                **({"groups": groups} if group else {"messages": list(map(message_json, inspected))}),
                "notes": notes,
            }
        )
    else:
        _show(app.render, walk, groups, inspected)
    if walk.matched == limit and (walk.remaining.count != 0 or limit < walk.received):
        app.render.note(f"only the first {counted(limit, 'message')}; --limit N shows more")
    for note in notes:
        app.render.note(note)


def receive(walk: Walk, progress: Progress, *, bodies: bool = True) -> list[Message]:
    """The messages, which are released. Raises RefinerctlError if they cannot be received.

    Without `bodies` they keep no more than is needed to look up their errors: a body may have a megabyte.
    """
    messages: list[Message] = []
    with walk:
        for chunk in walk.chunks():
            messages += chunk if bodies else map(_without_body, chunk)
            progress.update(walk.progress())
    return messages


def _without_body(message: Message) -> Message:
    """Errors may be looked up by the object's key: that much of the body stays."""
    about = source_object(message.body)
    named = {"detail": {"bucket": {"name": about.bucket}, "object": {"key": about.key}}} if about else None
    return replace(message, body=json.dumps(named), receipt="", system={})


def group_errors(messages: Iterable[Message], known: Mapping[str, MessageError]) -> list[ErrorGroup]:
    """By what errors have in common, the most frequent first; unknown errors last."""
    first: dict[str, Message] = {}
    counts: dict[str, int] = {}
    for message in messages:
        error = known.get(message.id)
        name = signature(error.text, [source_key(message.body) or ""]) if error else UNKNOWN
        first.setdefault(name, message)
        counts[name] = counts.get(name, 0) + 1
    order = sorted(first, key=lambda name: (name == UNKNOWN, -counts[name], name))
    texts = {id_: error.text for id_, error in known.items()}
    return [
        ErrorGroup(name, counts[name], item.id, source_key(item.body), texts.get(item.id))
        for name, item in ((name, first[name]) for name in order)
    ]


def with_objects(
    messages: Sequence[Message], known: Mapping[str, MessageError], state_of: Callable[[ObjectEvent], ObjectState]
) -> list[InspectedMessage]:
    about = {message.id: source_object(message.body) for message in messages}
    asked = list(dict.fromkeys(item for item in about.values() if item))
    states = dict(zip(asked, concurrently([partial(state_of, item) for item in asked], HEADS_AT_ONCE), strict=True))
    return [
        InspectedMessage(message, item, states[item] if item else ObjectState.UNKNOWN, known.get(message.id))
        for message in messages
        for item in [about[message.id]]
    ]


def _show(render: Renderer, walk: Walk, groups: Sequence[ErrorGroup], inspected: Sequence[InspectedMessage]) -> None:
    if not walk.received:
        render.note(f"{walk.queue.name}: no visible message")
    elif not walk.matched:
        render.note(f"{walk.queue.name}: none of {walk.received} messages matches")
    for line in group_lines(groups):
        render.line(line)
    for number, item in enumerate(inspected):
        if number:
            render.line()
        for parts in message_parts(item):
            render.styled(parts)


def message_parts(item: InspectedMessage) -> Iterator[Parts]:
    """Lines in parts, each with its style."""
    message = item.message
    yield [(message.id, "bold")]
    times = "once" if message.receive_count == 1 else f"{message.receive_count} times"
    yield _field("sent", f"{message.sent_at:%Y-%m-%dT%H:%M:%SZ}, received {times} (this receive included)")
    if item.object is not None:
        text, style = _STATES[item.object_state]
        version = f" version {item.object.version_id}" if item.object.version_id else ""
        yield [*_field("object", f"s3://{item.object.bucket}/{item.object.key}{version}: "), (text, style)]
    yield [*_field("error", ""), (item.error.text, "red") if item.error else (UNKNOWN, "yellow")]
    if item.error is not None and item.error.request_id:
        yield _field("request", item.error.request_id)
    for name, attribute in message.attributes.items():
        yield _field(name, _value(attribute))
    for name, value in message.system.items():
        yield _field(name, value[:MAX_VALUE])
    yield _field("body", "")
    yield [(_body(message.body), "")]


def _field(name: str, text: str) -> Parts:
    return [(f"{INDENT}{name}: ", "dim"), (text, "")]


def _value(attribute: MessageAttribute) -> str:
    value = attribute.value
    if isinstance(value, bytes):
        return f"{len(value)} bytes, base64 {base64.b64encode(value[:MAX_VALUE]).decode()}"
    return value if len(value) <= MAX_VALUE else f"{value[:MAX_VALUE]}… ({len(value)} characters)"


def _body(body: str) -> str:
    """Indented if it is JSON; a long one is cut."""
    value = body_value(body)
    text = json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict | list) else body
    if len(text) > MAX_BODY:
        text = f"{text[:MAX_BODY]}… ({len(body)} characters; `dlq export` writes all of them)"
    return "    " + text


def group_lines(groups: Sequence[ErrorGroup]) -> Iterator[str]:
    """The count of each error, and a message that has it."""
    width = max((len(f"{group.count:,}") for group in groups), default=0)
    for group in groups:
        example = _shortened(group.example_key or group.example_id)
        yield f"{group.count:>{width},} {TIMES} {group.signature}  e.g. {example}"


def _shortened(key: str) -> str:
    """The beginning and the end of a long key: S3 allows 1,024 bytes. JSON has the whole key."""
    half = (MAX_KEY - 1) // 2
    return key if len(key) <= MAX_KEY else f"{key[:half]}…{key[-half:]}"


def message_json(item: InspectedMessage) -> dict[str, Any]:
    """A message with its body parsed if that is JSON; `dlq export` writes the form that can be sent again."""
    message, about = item.message, item.object
    return {
        "id": message.id,
        "sent": message.sent_at,
        "receive_count": message.receive_count,
        "bucket": about.bucket if about else None,
        "key": about.key if about else None,
        "version_id": about.version_id if about else None,
        "object": item.object_state if about else None,
        "error": item.error.text if item.error else None,
        "request_id": item.error.request_id if item.error else None,
        "attributes": {name: attribute_record(attribute) for name, attribute in message.attributes.items()},
        "system": dict(message.system),
        "body": body_value(message.body),
    }
