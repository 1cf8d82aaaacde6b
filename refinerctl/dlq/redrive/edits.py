"""What somebody made of messages in an editor: read back, checked, compared."""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from refinerctl.aws.messages import Message, QueueAddress
from refinerctl.dlq.records import read_records, to_line, to_record
from refinerctl.errors import UsageError

# What is sent with a message, or decides on where it goes; the rest is SQS's own.
_SENT_SYSTEM = ("MessageGroupId", "MessageDeduplicationId", "AWSTraceHeader")


@dataclass(frozen=True)
class Edits:
    """`edited` by id: what is to be sent; `unchanged` and `removed` (ids) stay where they are."""

    edited: Mapping[str, Message]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


def write_lines(letters: Sequence[Message], queue: QueueAddress) -> str:
    """The messages as JSON Lines, for an editor."""
    return "".join(f"{to_line(letter, queue)}\n" for letter in letters)


def read_edits(content: bytes, letters: Sequence[Message]) -> Edits:
    """Compare what came out of the editor with what went in.

    Raises UsageError for a line that makes no sense, an id that was not there or is there twice, and for changes to
    what SQS alone says of a message.
    """
    originals = {letter.id: letter for letter in letters}
    edited: dict[str, Message] = {}
    unchanged: dict[str, None] = {}
    for record in read_records(content.splitlines()):
        letter = record.message
        if letter.id not in originals:
            raise UsageError(f"message {letter.id!r} was not among those to edit", hint="Leave the ids as they are.")
        if letter.id in edited or letter.id in unchanged:
            raise UsageError(f"message {letter.id} is there twice", hint="A message can be sent once.")
        original = originals[letter.id]
        _check_kept(letter, original)
        letter = replace(letter, receipt=original.receipt)  # which the file does not have
        if letter == original:
            unchanged[letter.id] = None
        else:
            edited[letter.id] = letter
    removed = tuple(id_ for id_ in originals if id_ not in edited and id_ not in unchanged)
    return Edits(edited, tuple(unchanged), removed)


def _check_kept(letter: Message, original: Message) -> None:
    if not letter.body:
        raise UsageError(f"message {letter.id} has no body left", hint="SQS takes no empty message.")
    if letter.receive_count != original.receive_count:
        raise UsageError(f"message {letter.id}: the receive count is SQS's own", hint="Leave it as it was.")
    if letter.sent_at != original.sent_at:
        raise UsageError(f"message {letter.id}: when it was sent is SQS's own", hint="Leave it as it was.")
    for name in letter.system.keys() | original.system.keys():
        if name not in _SENT_SYSTEM and letter.system.get(name) != original.system.get(name):
            raise UsageError(f"message {letter.id}: {name} is SQS's own", hint="Leave it as it was.")


def diff(edits: Edits, letters: Sequence[Message], queue: QueueAddress) -> Iterator[str]:
    """A unified diff of each edited message; a body that is JSON is laid out, unless nothing but its layout differs."""
    for letter in letters:
        if letter.id in edits.edited:
            both = (letter, edits.edited[letter.id])
            before, after = (_lines(item, queue, lay_out=True) for item in both)
            if before == after:
                before, after = (_lines(item, queue, lay_out=False) for item in both)
            name = f"message {letter.id}"
            yield from difflib.unified_diff(before, after, name, f"{name}, edited", lineterm="")


def _lines(letter: Message, queue: QueueAddress, *, lay_out: bool) -> list[str]:
    record = to_record(letter, queue)
    if lay_out:
        with contextlib.suppress(ValueError, RecursionError):
            record["body"] = json.loads(letter.body)
    return json.dumps(record, indent=2, ensure_ascii=False).splitlines()
