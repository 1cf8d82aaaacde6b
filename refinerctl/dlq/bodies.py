"""Reads the body and the attributes of a message: its S3 object, the reason why it was not delivered."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import unquote_plus

from refinerctl.aws.messages import Message
from refinerctl.aws.s3 import ObjectEvent, object_event
from refinerctl.stacks.records import error_text

# Deeper than any event, and not too deep to be written as JSON again.
MAX_DEPTH = 100


def body_value(body: str) -> Any:
    """The JSON value of a body; the text itself if it is not JSON or could not be written as JSON again."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # ValueError: not JSON, or a number of 5,000 digits
        return body
    return value if _can_be_written(value) else body


def _can_be_written(value: Any) -> bool:
    """Whether it is not nested too deeply and has no NaN or Infinity, which Python reads but JSON does not allow."""
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
    """The S3 object of an event from EventBridge, of a bucket's own notification, or of a work queue's message.

    None for any other text.
    """
    return object_event(body) or _notified_object(body)


def _notified_object(body: str) -> ObjectEvent | None:
    """A bucket's own notification has one record in practice, and its key is URL-encoded.

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


def delivery_error(message: Message) -> str | None:
    """Why an EventBridge rule or a schedule could not deliver it: `NO_PERMISSIONS: message`.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    https://docs.aws.amazon.com/scheduler/latest/UserGuide/configuring-schedule-dlq.html
    Or how a function failed that was invoked asynchronously, which Lambda writes into the body:
    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
    """
    given = message.texts
    code, text = given.get("ERROR_CODE"), given.get("ERROR_MESSAGE")
    if code is None or not given.keys() & {"RULE_ARN", "SCHEDULE_ARN"}:
        return _invocation_error(message.body)
    return f"{code}: {text}" if text else code


def _invocation_error(body: str) -> str | None:
    value = body_value(body)
    if not isinstance(value, dict) or not isinstance(context := value.get("requestContext"), dict):
        return None
    condition, response = context.get("condition"), value.get("responsePayload")
    if condition is None or "functionArn" not in context:
        return None
    return error_text(response) if isinstance(response, dict) and response.get("errorMessage") else str(condition)
