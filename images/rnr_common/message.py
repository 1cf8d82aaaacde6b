"""The message of the work queue: an input object to process."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import pika


class MalformedMessageError(ValueError):
    """A message that can never be processed."""


@dataclass(frozen=True)
class WorkMessage:
    """One version of an input object; `etag` has no quotation marks."""

    bucket: str
    key: str
    version_id: str | None
    etag: str
    size: int

    @property
    def claim_id(self) -> str:
        """The id of the claim and of the AMQP message: the same for each message about the same content."""
        return hashlib.sha256(f"{self.bucket}/{self.key}@{self.etag}".encode()).hexdigest()

    def body(self) -> bytes:
        """Return the body of the AMQP message."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    def properties(self, traceparent: str) -> pika.BasicProperties:
        """Return the properties of the AMQP message: persistent, with the time of now."""
        return pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent.value,
            message_id=self.claim_id,
            timestamp=int(time.time()),
            headers={"traceparent": traceparent},
        )

    @classmethod
    def parse(cls, body: bytes) -> WorkMessage:
        """Return the message that a body contains; raises `MalformedMessageError`. Unknown fields are ignored."""
        try:
            found = json.loads(body)
        except ValueError as error:
            raise MalformedMessageError(f"the body is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise MalformedMessageError("the body is not a JSON object")
        version_id = found.get("version_id")
        if version_id is not None and not isinstance(version_id, str):
            raise MalformedMessageError("version_id is not a text")
        size = found.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise MalformedMessageError("size is not a number of bytes")
        return cls(_text(found, "bucket"), _text(found, "key"), version_id, _text(found, "etag"), size)


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedMessageError(f"{name} is missing or not a text")
    return value
