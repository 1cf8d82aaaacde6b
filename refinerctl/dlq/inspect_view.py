"""How dead letters look: for a person, and as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

from refinerctl.aws.messages import MessageAttribute
from refinerctl.dlq.bodies import body_value
from refinerctl.dlq.records import attribute_record
from refinerctl.dlq.views import UNKNOWN, ErrorGroup, InspectedMessage, Looked, ObjectState

# A screen or two; export has all of it.
MAX_BODY = 4_000
MAX_VALUE = 500
INDENT = "  "
TIMES = "\N{MULTIPLICATION SIGN}"

Parts = list[tuple[str, str]]

_STATES = {
    ObjectState.EXISTS: ("is there", "green"),
    ObjectState.REPLACED: ("this version is gone, there is another one", "yellow"),
    ObjectState.GONE: ("is gone", "red"),
    ObjectState.UNKNOWN: ("not known whether it is there", "yellow"),
}


def message_parts(seen: InspectedMessage) -> Iterator[Parts]:
    """Lines in parts, each with its style."""
    letter = seen.letter
    yield [(letter.id, "bold")]
    times = "once" if letter.receive_count == 1 else f"{letter.receive_count} times"
    yield _field("sent", f"{letter.sent_at:%Y-%m-%dT%H:%M:%SZ}, received {times} (this look counts)")
    if seen.object is not None:
        text, style = _STATES[seen.object_state]
        version = f" version {seen.object.version_id}" if seen.object.version_id else ""
        yield [*_field("object", f"s3://{seen.object.bucket}/{seen.object.key}{version}: "), (text, style)]
    yield [*_field("error", ""), (seen.error.text, "red") if seen.error else (UNKNOWN, "yellow")]
    if seen.error is not None and seen.error.request_id:
        yield _field("request", seen.error.request_id)
    for name, attribute in letter.attributes.items():
        yield _field(name, _value(attribute))
    for name, value in letter.system.items():
        yield _field(name, value[:MAX_VALUE])
    yield _field("body", "")
    yield [(_body(letter.body), "")]


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
        text = f"{text[:MAX_BODY]}… ({len(body)} characters; `dlq export` has all of it)"
    return "    " + text


def group_lines(groups: Sequence[ErrorGroup]) -> Iterator[str]:
    """How often which error, and a message that has it."""
    width = max((len(f"{group.count:,}") for group in groups), default=0)
    for group in groups:
        yield f"{group.count:>{width},} {TIMES} {group.signature}  e.g. {group.example_key or group.example_id}"


def looked_json(looked: Looked, *, group: bool) -> dict[str, Any]:
    """One document."""
    found: dict[str, Any] = (
        {"groups": looked.groups} if group else {"messages": [message_json(seen) for seen in looked.letters]}
    )
    return {
        "queue": looked.queue.name,
        "url": looked.queue.url,
        "received": looked.received,
        "matched": looked.matched,
        "is_whole": looked.is_whole,
        **found,
        "notes": looked.notes,
    }


def message_json(seen: InspectedMessage) -> dict[str, Any]:
    """A message; its body is parsed if it is JSON. What can be sent again is what `dlq export` writes."""
    letter = seen.letter
    about = seen.object
    return {
        "id": letter.id,
        "sent": letter.sent_at,
        "receive_count": letter.receive_count,
        "bucket": about.bucket if about else None,
        "key": about.key if about else None,
        "version_id": about.version_id if about else None,
        "object": seen.object_state if about else None,
        "error": seen.error.text if seen.error else None,
        "request_id": seen.error.request_id if seen.error else None,
        "attributes": {name: attribute_record(attribute) for name, attribute in letter.attributes.items()},
        "system": dict(letter.system),
        "body": body_value(letter.body),
    }
