"""Messages in files: JSON Lines that hold everything of a message, so that it can be sent again as it was.

`dlq export` and `dlq purge` write them, `dlq redrive --from-file` reads them.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from refinerctl.aws.messages import MAX_ATTRIBUTES, Message, MessageAttribute, QueueAddress
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.files import DISK, Disk

FIELDS = ("id", "queue", "queue_url", "queue_arn", "sent", "receive_count", "attributes", "system", "body")
_REQUIRED = ("id", "queue", "sent", "receive_count", "body")
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
_DATA_TYPE = re.compile(r"(String|Number|Binary)(\..+)?", re.DOTALL)
_BINARY = "Binary"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# JSON allows these raw in strings, but some tools treat them as line ends, and terminals interpret some.
_UNPRINTABLE = re.compile(r"[^ -~]")


@dataclass(frozen=True)
class MessageRecord:
    """A message and the queue that it was in. The message has no receipt."""

    message: Message
    queue: QueueAddress


def to_record(message: Message, queue: QueueAddress) -> dict[str, Any]:
    """The JSON object of a message: `{"id", "queue", …, "attributes": {NAME: {"type", "value"|"base64"}}, "body"}`.

    `sent` is ISO 8601 in UTC. There is no receipt: it would be invalid once the message is released.
    """
    return {
        "id": message.id,
        "queue": queue.name,
        "queue_url": queue.url,
        "queue_arn": queue.arn,
        "sent": message.sent_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "receive_count": message.receive_count,
        "attributes": {name: attribute_record(value) for name, value in message.attributes.items()},
        "system": dict(message.system),
        "body": message.body,
    }


def to_line(message: Message, queue: QueueAddress) -> str:
    """The record as one line without line end; characters that are not printable are escaped."""
    text = json.dumps(to_record(message, queue), ensure_ascii=False)
    return _UNPRINTABLE.sub(_escape, text)


def from_record(record: object, line: int = 1) -> MessageRecord:
    """Read what `to_record` wrote, possibly edited since; `line` is its line number.

    Raises UsageError with line and field for anything else.
    """
    if not isinstance(record, dict):
        raise UsageError(f"line {line}: expected a JSON object, found {_kind(record)}")
    fields = _Fields(record, line)
    fields.check_names()
    queue = QueueAddress(fields.text("queue"), fields.text("queue_url", ""), fields.text("queue_arn", ""))
    message = Message(
        id=fields.text("id"),
        body=fields.text("body"),
        sent_at=fields.moment("sent"),
        receive_count=fields.count("receive_count"),
        attributes=fields.attributes(None if queue.url.startswith("amqp") else MAX_ATTRIBUTES),
        system=fields.texts("system"),
    )
    return MessageRecord(message, queue)


def read_records(lines: Iterable[bytes]) -> Iterator[MessageRecord]:
    """The records of a file, one at a time; empty lines are skipped. Raises UsageError as `from_record` does."""
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            record = json.loads(raw)
        except RecursionError:
            raise UsageError(f"line {number}: not JSON: nested too deeply") from None
        except ValueError as error:  # not JSON, not UTF-8, or a number of 5,000 digits
            raise UsageError(f"line {number}: not JSON: {error}") from None
        if _SURROGATE.search(raw) and _has_half_pair(record):
            raise UsageError(
                f"line {number}: half of a surrogate pair, like \\ud83d alone", hint="SQS does not accept it."
            )
        yield from_record(record, number)


def _has_half_pair(record: object) -> bool:
    """Whether some text has half of a surrogate pair: JSON allows that, UTF-8 does not."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def attribute_record(attribute: MessageAttribute) -> dict[str, str]:
    """`{"type", "value"}`, or `{"type", "base64"}` for bytes."""
    if isinstance(attribute.value, bytes):
        return {"type": attribute.data_type, "base64": base64.b64encode(attribute.value).decode("ascii")}
    return {"type": attribute.data_type, "value": attribute.value}


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1].replace("\x7f", "\\u007f")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


class _Fields:
    """The fields of one record."""

    def __init__(self, record: dict[str, Any], line: int) -> None:
        self._record = record
        self._line = line

    def check_names(self) -> None:
        """An unknown name is reported before a missing one, because it may be a misspelling."""
        if unknown := [name for name in self._record if name not in FIELDS]:
            raise UsageError(f"line {self._line}: unknown field {unknown[0]!r}", hint=f"Fields: {', '.join(FIELDS)}.")
        if missing := [name for name in _REQUIRED if name not in self._record]:
            raise UsageError(f"line {self._line}: field {missing[0]!r} is missing")

    def text(self, name: str, default: str | None = None) -> str:
        value = self._record.get(name, default)
        if not isinstance(value, str):
            self._fail(name, f"expected a string, found {_kind(value)}")
        return value

    def count(self, name: str) -> int:
        value = self._record[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self._fail(name, "expected an integer of 0 or more")
        return value

    def moment(self, name: str) -> datetime:
        text = self.text(name)
        try:
            found = datetime.fromisoformat(text)
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self._fail(name, f"{text!r} is not a time like 2026-03-01T14:02:00Z")

    def texts(self, name: str) -> dict[str, str]:
        value = self._object(name)
        for key, item in value.items():
            if not isinstance(item, str):
                self._fail(f"{name}.{key}", f"expected a string, found {_kind(item)}")
        return value

    def attributes(self, most: int | None) -> dict[str, MessageAttribute]:
        given = self._object("attributes")
        if most is not None and len(given) > most:
            self._fail("attributes", f"a message has at most {most}, found {len(given)}")
        return {name: self._attribute(f"attributes.{name}", value) for name, value in given.items()}

    def _attribute(self, name: str, given: Any) -> MessageAttribute:
        if not isinstance(given, dict) or set(given) not in ({"type", "value"}, {"type", "base64"}):
            self._fail(name, 'expected {"type": …, "value": …}, or "base64" for a type Binary')
        if not all(isinstance(item, str) for item in given.values()):
            self._fail(name, "type, value and base64 must be strings")
        match = _DATA_TYPE.fullmatch(given["type"])
        if match is None:
            self._fail(name, f"type {given['type']!r} is not String, Number or Binary, or like String.custom")
        if (match[1] == _BINARY) != ("base64" in given):
            self._fail(name, f"type {match[1]} needs {'base64' if match[1] == _BINARY else 'value'}")
        return MessageAttribute(given["type"], self._bytes(name, given) if match[1] == _BINARY else given["value"])

    def _bytes(self, name: str, given: dict[str, str]) -> bytes:
        try:
            return base64.b64decode(given["base64"], validate=True)
        except (binascii.Error, ValueError):
            self._fail(name, "not base64")

    def _object(self, name: str) -> dict[str, Any]:
        value = self._record.get(name, {})
        if not isinstance(value, dict):
            self._fail(name, f"expected an object, found {_kind(value)}")
        return value

    def _fail(self, name: str, reason: str) -> NoReturn:
        raise UsageError(f"line {self._line}: field {name!r}: {reason}")


class MessageFile:
    """A new file of records, private as bodies may hold personal data. It is removed if nothing was appended.

    Raises UsageError if it exists, RefinerctlError if it cannot be written.
    """

    def __init__(self, path: Path, disk: Disk = DISK) -> None:
        self.path = path
        self._disk = disk
        # Unbuffered: a failed write must not be repeated when the file is closed.
        self._file: FileIO = _create(path)
        self._size = 0

    def append(self, lines: Iterable[str]) -> None:
        """Add lines, given without line ends, and sync them to disk. On an error the file stays as it was before."""
        data = memoryview("".join(f"{line}\n" for line in lines).encode())
        size = self._size + len(data)
        try:
            while data:
                data = data[self._file.write(data) :]
            self._disk.sync(self._file.fileno())
            if not self._size:
                self._disk.sync_folder(self.path.parent)
        except BaseException as error:  # Ctrl-C, too: no line is left incomplete
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise _unwritable(self.path, error) if isinstance(error, OSError) else error from error
        self._size = size

    def __enter__(self) -> MessageFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()
        if not self._size:
            self.path.unlink(missing_ok=True)


def check_new(path: Path) -> None:
    """Raises UsageError if the file exists."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} already exists", hint="Choose another file, or replace it with --force.")


def _create(path: Path) -> FileIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600), "w")
    except FileExistsError:
        raise UsageError(f"{path} already exists", hint="Choose another file.") from None
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RefinerctlError:
    return RefinerctlError(f"cannot write {path}: {error.strerror}")
