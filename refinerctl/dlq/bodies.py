"""What a dead letter's body and attributes say: which object it is about, why it was not delivered."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import unquote_plus

from refinerctl.aws.messages import Message
from refinerctl.aws.objects import ObjectEvent, object_event

# Deeper than any event, and no deeper than what can be written as JSON again.
MAX_DEPTH = 100


def body_value(body: str) -> Any:
    """The JSON value that a body holds; the text itself if it holds none, or one that could not be written again."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # ValueError: not JSON, or a number of 5,000 digits
        return body
    return value if _is_plain(value) else body


def _is_plain(value: Any) -> bool:
    """Not nested too deeply, and without numbers that Python reads from JSON and JSON does not have."""
    level, depth = [value], 0
    while level:
        if depth > MAX_DEPTH or any(isinstance(item, float) and not math.isfinite(item) for item in level):
            return False
        depth += 1
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return True


def source_object(body: str) -> ObjectEvent | None:
    """The S3 object that a message is about, told by EventBridge or by the bucket itself; None for any other text."""
    return object_event(body) or _notified_object(body)


def _notified_object(body: str) -> ObjectEvent | None:
    """Of a bucket's own notification, whose keys are encoded as in a URL; it has one record in practice.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    try:
        (record,) = json.loads(body)["Records"]
        entity, bucket = record["s3"]["object"], record["s3"]["bucket"]["name"]
        return ObjectEvent(str(bucket), unquote_plus(entity["key"]), entity.get("versionId"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def source_key(body: str) -> str | None:
    """The key of that object."""
    found = source_object(body)
    return found.key if found else None


def delivery_error(letter: Message) -> str | None:
    """Why EventBridge could not deliver it, as it wrote on the message: `NO_PERMISSIONS: message`.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    given = {name: attribute.value for name, attribute in letter.attributes.items()}
    code, message = given.get("ERROR_CODE"), given.get("ERROR_MESSAGE")
    if not isinstance(code, str) or "RULE_ARN" not in given:
        return None
    return f"{code}: {message}" if isinstance(message, str) and message else code
