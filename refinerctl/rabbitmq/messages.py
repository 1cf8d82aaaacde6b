"""Messages of RabbitMQ as the commands know messages, and back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from refinerctl.aws.messages import Message, MessageAttribute, OutgoingMessage
from refinerctl.rabbitmq.amqp import PROPERTIES, Delivery, Publication

# Headers that the broker sets, which are not sent again; and those that would send copies to other queues.
DELIVERY_COUNT, ACQUIRED_COUNT = "x-delivery-count", "x-acquired-count"
_BROKERS = ("x-death", "x-first-death-", "x-last-death-", DELIVERY_COUNT, ACQUIRED_COUNT, "x-opt-")
_COPIES = ("CC", "BCC")
DEATHS = "x-death"
FIRST_DEATH_QUEUE = "x-first-death-queue"
MESSAGE_ID = "message_id"
_TIMESTAMP = "timestamp"
# This field of `system` says that a body which is not UTF-8 is in base64.
BODY_ENCODING, BASE64 = "body_encoding", "base64"
# The broker refuses another user's id, and persistence is not optional.
_NOT_SENT = ("user_id", "cluster_id", "delivery_mode")
_SENT = {*PROPERTIES, BODY_ENCODING}.difference(_NOT_SENT)
_NUMBERS = ("priority", _TIMESTAMP)
# A header that is neither text, integer nor bytes: its value is JSON.
JSON_TYPE = "String.amqp"
_UNKNOWN_TIME = datetime.fromtimestamp(0, UTC)
_ID_LENGTH = 24


def content_id(body: str, attributes: Mapping[str, MessageAttribute], properties: Mapping[str, str]) -> str:
    """What identifies a message after it was sent again: all of it but the broker's headers."""
    parts = [body, *(f"{name}={properties[name]}" for name in sorted(_SENT & properties.keys()))]
    parts += [f"{name}={attributes[name].data_type}:{attributes[name].value!r}" for name in sorted(attributes)]
    return _digest(parts)


def message_digest(message: Message) -> str:
    """What identifies a message in its DLQ: its content, and why and when it came there."""
    return _digest([message.content_id, message.system.get(DEATHS, "")])


def read_delivery(delivery: Delivery) -> Message:
    """The message of a delivery, without id and receipt."""
    headers = delivery.headers
    own = {name: value for name, value in headers.items() if not name.startswith(_BROKERS) and name not in _COPIES}
    attributes = {name: _attribute(value) for name, value in own.items()}
    properties = {name: str(value) for name, value in delivery.properties.items()}
    try:
        body = delivery.body.decode()
    except UnicodeDecodeError:
        body = base64.b64encode(delivery.body).decode()
        properties[BODY_ENCODING] = BASE64
    deaths = headers.get(DEATHS) or []
    system = dict(properties)
    system |= {name: str(value) for name, value in headers.items() if name.startswith(("x-first-", "x-last-"))}
    if deaths:
        system[DEATHS] = json.dumps(deaths, default=str)
    moved_at = max((death["time"] for death in deaths if isinstance(death.get("time"), datetime)), default=None)
    return Message(
        body,
        _sent_at(delivery.properties.get(_TIMESTAMP)) or moved_at or _UNKNOWN_TIME,
        int(headers.get(DELIVERY_COUNT) or 0) + 1,
        attributes,
        system=system,
        content_id=content_id(body, attributes, properties),
        moved_at=moved_at,
    )


def outgoing_properties(message: Message) -> dict[str, str]:
    """The properties with which a message is sent again."""
    return {name: value for name, value in message.system.items() if name in _SENT}


def source_queues(message: Message) -> tuple[str, ...]:
    """The queues that it was in before, the one where it failed first in front; none if the broker does not say so."""
    found = [message.system[FIRST_DEATH_QUEUE]] if FIRST_DEATH_QUEUE in message.system else []
    try:
        deaths = json.loads(message.system.get(DEATHS, "[]"))
        found += [str(death["queue"]) for death in reversed(deaths)]
    except (ValueError, KeyError, TypeError):  # an edited file
        pass
    return tuple(dict.fromkeys(found))


def to_publication(message: OutgoingMessage) -> Publication:
    """What AMQP sends. Raises ValueError for a value that AMQP cannot send."""
    properties = dict(message.properties)
    is_binary = properties.pop(BODY_ENCODING, None) == BASE64
    typed = {name: int(value) if name in _NUMBERS else value for name, value in properties.items()}
    headers = {name: _value(attribute) for name, attribute in message.attributes.items()}
    return Publication(base64.b64decode(message.body) if is_binary else message.body.encode(), headers, typed)


def sent_id(message: OutgoingMessage) -> str:
    """The content id that a message has after it was sent."""
    return content_id(message.body, message.attributes, message.properties)


def _digest(parts: Sequence[str]) -> str:
    whole = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:_ID_LENGTH]


def _sent_at(timestamp: str | int | None) -> datetime | None:
    try:
        return None if timestamp is None else datetime.fromtimestamp(int(timestamp), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _attribute(value: Any) -> MessageAttribute:
    if isinstance(value, str):
        return MessageAttribute("String", value)
    if isinstance(value, bytes | bytearray):
        return MessageAttribute("Binary", bytes(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return MessageAttribute("Number", str(int(value)))
    return MessageAttribute(JSON_TYPE, json.dumps(value, default=_encoded))


def _value(attribute: MessageAttribute) -> Any:
    if attribute.data_type == JSON_TYPE:
        return json.loads(attribute.value, object_hook=_decoded)
    if attribute.data_type == "Number" and isinstance(attribute.value, str):
        return int(attribute.value)
    return attribute.value


def _encoded(value: Any) -> Any:
    """What JSON does not have."""
    if isinstance(value, datetime):
        return {"time": value.isoformat()}
    if isinstance(value, bytes | bytearray):
        return {"base64": base64.b64encode(value).decode()}
    return str(value)


def _decoded(value: dict[str, Any]) -> Any:
    if value.keys() == {"base64"}:
        return base64.b64decode(value["base64"])
    return datetime.fromisoformat(value["time"]) if value.keys() == {"time"} else value
