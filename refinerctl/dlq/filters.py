"""Which dead letters are meant: by when they were sent, by key, and by a JMESPath expression over all that they say."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jmespath
from jmespath import exceptions
from jmespath.functions import Functions

from refinerctl.aws.messages import Message
from refinerctl.dlq.bodies import body_value, source_key
from refinerctl.errors import UsageError

# What an expression is about; `body` is the JSON value where it holds one.
FIELDS = ("id", "body", "attributes", "system", "error", "key", "sent", "receive_count")
# What is right of the first part of these sees what that part gave, and not the message.
_CHAINS = ("subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection")
# `error == null` without back quotes compares with a field that there is not, which is null, too.
_NULL = "null"
# https://jmespath.org/specification.html#or-expressions: these are false, and 0 is not.
_EMPTY: tuple[Any, ...] = ("", [], {})


@dataclass(frozen=True)
class Expression:
    """A JMESPath expression, parsed. https://jmespath.org/specification.html"""

    text: str
    _parsed: Any = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Raises UsageError, with the position, for what is no expression or has nothing to do with a message."""
        try:
            parsed = jmespath.compile(text)
        except exceptions.ParseError as error:
            raise _wrong(text, error) from None
        except exceptions.JMESPathError as error:
            raise UsageError(f"--filter: {error}") from None
        _check(text, parsed.parsed)
        return cls(text, parsed)

    @property
    def needs_error(self) -> bool:
        """Whether the answer may depend on the error, which has to be looked up in logs."""
        return any(
            node["type"] in ("current", "value_projection") or (node["type"] == "field" and node["value"] == "error")
            for node in _nodes(self._parsed.parsed, at_root=True)
        )

    def is_true_of(self, document: dict[str, Any]) -> bool:
        """A document without what the expression is about, or with another type there, is not meant."""
        try:
            value = self._parsed.search(document)
        # contains(error, 'x') where there is no error, for instance; and Python's own, as of a text > a number.
        except (exceptions.JMESPathError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
            return False
        return not (value is None or value is False or value in _EMPTY)


@dataclass(frozen=True)
class MessageFilter:
    """A message is meant if all that is given says so; nothing given means all.

    `since` ≤ sent < `until`, in UTC. With `needs_error` messages have to be asked for with the error that killed them.
    """

    since: datetime | None = None
    until: datetime | None = None
    key_prefix: str | None = None
    expression: Expression | None = None

    @property
    def is_empty(self) -> bool:
        return self == MessageFilter()

    @property
    def needs_error(self) -> bool:
        return self.expression is not None and self.expression.needs_error

    def may_match(self, letter: Message) -> bool:
        """Without asking for its error: whether it is worth asking."""
        if self.since is not None and letter.sent_at < self.since:
            return False
        if self.until is not None and letter.sent_at >= self.until:
            return False
        if self.key_prefix is not None and not (source_key(letter.body) or "").startswith(self.key_prefix):
            return False
        return self.needs_error or self._holds(letter, None)

    def matches(self, letter: Message, error: str | None = None) -> bool:
        """Whether the message is meant; `error` is what killed it, where that is known."""
        return self.may_match(letter) and (not self.needs_error or self._holds(letter, error))

    def _holds(self, letter: Message, error: str | None) -> bool:
        return self.expression is None or self.expression.is_true_of(document(letter, error))


def document(letter: Message, error: str | None) -> dict[str, Any]:
    """What an expression sees of a message. Binary attributes are base64, as in an export."""
    return {
        "id": letter.id,
        "body": body_value(letter.body),
        "attributes": {
            name: base64.b64encode(value).decode() if isinstance(value := attribute.value, bytes) else value
            for name, attribute in letter.attributes.items()
        },
        "system": dict(letter.system),
        "error": error,
        "key": source_key(letter.body),
        "sent": letter.sent_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "receive_count": letter.receive_count,
    }


def _wrong(text: str, error: Any) -> UsageError:
    """jmespath prints several lines; its position and its words make one."""
    position = error.lex_position
    if isinstance(error, exceptions.LexerError):
        reason = error.message
    elif isinstance(error, exceptions.IncompleteExpressionError):
        reason, position = "more is expected", len(text)
    else:
        reason = error.msg
    return UsageError(
        f"--filter: {reason} at column {position + 1} of {text!r}",
        hint="It is a JMESPath expression, like: contains(error, 'NoSuchKey') && body.detail.object.size > `1000`",
    )


def _check(text: str, node: Any) -> None:
    """Functions and fields that do not exist would show only at the first message, or never."""
    nodes = list(_nodes(node))
    for call in (node for node in nodes if node["type"] == "function_expression"):
        known = Functions.FUNCTION_TABLE.get(call["value"])
        if known is None:
            raise UsageError(f"--filter: there is no function {call['value']}() in JMESPath")
        signature, count = known["signature"], len(call["children"])
        is_variadic = bool(signature) and bool(signature[-1].get("variadic"))
        if count < len(signature) or (count > len(signature) and not is_variadic):
            raise UsageError(f"--filter: {call['value']}() takes {len(signature)} arguments, found {count}")
    names = [node["value"] for node in _nodes(node, at_root=True) if node["type"] == "field"]
    for name in names:
        if name not in (*FIELDS, _NULL):  # error != "NoSuchKey", in the wrong quotes, would be true of all
            raise UsageError(
                f"--filter: a message has no field {name!r}",
                hint=f"There are: {', '.join(FIELDS)}. Text is in single quotes: error != 'x'.",
            )
    if not names and not any(node["type"] in ("current", "value_projection") for node in nodes):
        raise UsageError(f"--filter: {text!r} looks at nothing of a message", hint=f"There are: {', '.join(FIELDS)}.")


def _nodes(node: Any, *, at_root: bool = False) -> Iterator[Any]:
    """The parts of a parsed expression; `at_root` leaves out what is below another one, as `error` in `body.error`."""
    yield node
    children = node["children"]
    if at_root and node["type"] in _CHAINS:
        children = children[:1]
    elif at_root and node["type"] == "expref":
        children = []
    for child in children:
        if isinstance(child, dict) and "type" in child:
            yield from _nodes(child, at_root=at_root)
