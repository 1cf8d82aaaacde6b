"""Filters of messages: by the time they were sent, by key, and by a JMESPath expression."""

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

# What an expression can use; `body` is its JSON value if it has one.
FIELDS = ("id", "body", "attributes", "system", "error", "key", "sent", "receive_count")
# Only the first part of these is applied to the message; each other part to the result of the part before.
_CHAINS = ("subexpression", "index_expression", "pipe", "projection", "value_projection", "filter_projection")
# `error == null` without back quotes compares with a field that does not exist, which is null, too.
_NULL = "null"
# False by https://jmespath.org/specification.html#or-expressions; 0 is not.
_EMPTY: tuple[Any, ...] = ("", [], {})


@dataclass(frozen=True)
class Expression:
    """A JMESPath expression, parsed. https://jmespath.org/specification.html"""

    text: str
    _parsed: Any = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Raises UsageError, with the column, for an invalid expression or one that uses nothing of a message."""
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
        """Whether the result may depend on the error, which has to be looked up in logs."""
        return any(
            node["type"] in ("current", "value_projection") or (node["type"] == "field" and node["value"] == "error")
            for node in _nodes(self._parsed.parsed, at_root=True)
        )

    def is_true_of(self, document: dict[str, Any]) -> bool:
        """False for a document without the fields that the expression uses, or with other types there."""
        try:
            value = self._parsed.search(document)
        # for instance contains(error, 'x') without an error; and Python's own errors, such as string > number.
        except (exceptions.JMESPathError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError):
            return False
        return not (value is None or value is False or value in _EMPTY)


@dataclass(frozen=True)
class MessageFilter:
    """A message matches if all that is given holds; an empty filter matches all.

    `since` ≤ sent < `until`, in UTC. With `needs_error`, the error of a message decides, too.
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

    def may_match(self, message: Message) -> bool:
        """Whether the message may match, before its error is known."""
        if self.since is not None and message.sent_at < self.since:
            return False
        if self.until is not None and message.sent_at >= self.until:
            return False
        if self.key_prefix is not None and not (source_key(message.body) or "").startswith(self.key_prefix):
            return False
        return self.needs_error or self._holds(message, None)

    def matches(self, message: Message, error: str | None = None) -> bool:
        """Whether the message matches; `error` is why it failed, if that is known."""
        return self.may_match(message) and (not self.needs_error or self._holds(message, error))

    def _holds(self, message: Message, error: str | None) -> bool:
        return self.expression is None or self.expression.is_true_of(document(message, error))


def document(message: Message, error: str | None) -> dict[str, Any]:
    """The message as an expression sees it. Binary attributes are base64, as in an export."""
    return {
        "id": message.id,
        "body": body_value(message.body),
        "attributes": {
            name: base64.b64encode(value).decode() if isinstance(value := attribute.value, bytes) else value
            for name, attribute in message.attributes.items()
        },
        "system": dict(message.system),
        "error": error,
        "key": source_key(message.body),
        "sent": message.sent_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "receive_count": message.receive_count,
    }


def _wrong(text: str, error: Any) -> UsageError:
    """One line with the column, instead of the several lines that jmespath prints."""
    position = error.lex_position
    if isinstance(error, exceptions.LexerError):
        reason = error.message
    elif isinstance(error, exceptions.IncompleteExpressionError):
        reason, position = "incomplete expression", len(text)
    else:
        reason = error.msg
    return UsageError(
        f"--filter: {reason} at column {position + 1} of {text!r}",
        hint="Use a JMESPath expression, like: contains(error, 'NoSuchKey') && body.detail.object.size > `1000`",
    )


def _check(text: str, node: Any) -> None:
    """Unknown functions and fields would otherwise fail at the first message, or silently match no message."""
    nodes = list(_nodes(node))
    for call in (node for node in nodes if node["type"] == "function_expression"):
        known = Functions.FUNCTION_TABLE.get(call["value"])
        if known is None:
            raise UsageError(f"--filter: JMESPath has no function {call['value']}()")
        signature, count = known["signature"], len(call["children"])
        is_variadic = bool(signature) and bool(signature[-1].get("variadic"))
        if count < len(signature) or (count > len(signature) and not is_variadic):
            raise UsageError(f"--filter: {call['value']}() takes {len(signature)} arguments, found {count}")
    names = [node["value"] for node in _nodes(node, at_root=True) if node["type"] == "field"]
    for name in names:
        if name not in (*FIELDS, _NULL):  # error != "NoSuchKey", in the wrong quotes, would be true of all
            raise UsageError(
                f"--filter: a message has no field {name!r}",
                hint=f"Fields: {', '.join(FIELDS)}. Put text in single quotes: error != 'x'.",
            )
    if not names and not any(node["type"] in ("current", "value_projection") for node in nodes):
        raise UsageError(f"--filter: {text!r} uses no field of a message", hint=f"Fields: {', '.join(FIELDS)}.")


def _nodes(node: Any, *, at_root: bool = False) -> Iterator[Any]:
    """The parts of a parsed expression; `at_root` without those below another part, like `error` in `body.error`."""
    yield node
    children = node["children"]
    if at_root and node["type"] in _CHAINS:
        children = children[:1]
    elif at_root and node["type"] == "expref":
        children = []
    for child in children:
        if isinstance(child, dict) and "type" in child:
            yield from _nodes(child, at_root=at_root)
