"""EventBridge's event patterns: does a pattern match an event?

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html and, for what that leaves
open, https://github.com/aws/event-ruler. Answers are True, False, or None if a pattern has an operator that is not
evaluated here.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import itertools
import json
import operator as op
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

Verdict = bool | None

_COMPARISONS = {"=": op.eq, "<": op.lt, "<=": op.le, ">": op.gt, ">=": op.ge}
_WILDCARD_TOKEN = re.compile(r"\\[*\\]|\*|[^*\\]|\\", re.DOTALL)
_LITERAL = re.compile(r"[*?\[]")  # special to fnmatch


def any_of(verdicts: Iterable[Verdict]) -> Verdict:
    """True if one is True, else None if one is None, else False."""
    found = False
    for verdict in verdicts:
        if verdict:
            return True
        found = found or verdict is None
    return None if found else False


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """False if one is False, else None if one is None, else True."""
    return negated(any_of(map(negated, verdicts)))


def negated(verdict: Verdict) -> Verdict:
    return None if verdict is None else not verdict


def pattern_matches(pattern: str, event: Mapping[str, Any]) -> Verdict:
    """Whether the event pattern, as JSON, matches the event."""
    try:
        document = json.loads(pattern)
    except (ValueError, RecursionError):
        return None
    return matches(document, event)


def matches(pattern: object, event: object) -> Verdict:
    """The same for a parsed pattern, or a part of one: all of its fields have to match."""
    if not isinstance(pattern, dict) or not pattern:
        return None
    if isinstance(event, list):  # of objects: one of them has to match as a whole
        return any_of(matches(pattern, item) for item in event if isinstance(item, dict))
    fields = event if isinstance(event, dict) else {}
    return all_of(_field(name, wanted, fields) for name, wanted in pattern.items())


def _field(name: str, wanted: object, fields: Mapping[str, Any]) -> Verdict:
    if name == "$or":
        branches = wanted if isinstance(wanted, list) and len(wanted) > 1 else [None]
        return any_of(matches(branch, fields) for branch in branches)
    if isinstance(wanted, dict):
        return matches(wanted, fields.get(name, {}))
    if not isinstance(wanted, list) or not wanted:
        return None
    values = _leaves(fields, name)
    return any_of(_value(matcher, values) for matcher in wanted)


def _leaves(fields: Mapping[str, Any], name: str) -> list[Any]:
    """The values of a field; none if it is absent or an object: patterns look at leaves only."""
    value = fields.get(name, [])
    values = value if isinstance(value, list) else [value]
    return [item for item in values if not isinstance(item, dict | list)]


def _value(matcher: object, values: list[Any]) -> Verdict:
    """Whether one of the values matches one element of a pattern's list."""
    if not isinstance(matcher, dict):
        return None if isinstance(matcher, list) else any(_same(matcher, value) for value in values)
    if len(matcher) != 1:
        return None
    ((operator, operand),) = matcher.items()
    if operator == "exists":
        return bool(values) is operand if isinstance(operand, bool) else None
    if not values:  # nothing matches, but an unknown operator gives no answer
        return None if _operator(operator, operand, "") is None else False
    return any_of(_operator(operator, operand, value) for value in values)


def _same(wanted: object, value: object) -> bool:
    """JSON's equality: true is not 1, and 1 is 1.0."""
    if isinstance(wanted, bool) or isinstance(value, bool) or wanted is None or value is None:
        return wanted is value
    return wanted == value


def _operator(operator: str, operand: object, value: object) -> Verdict:
    if operator == "anything-but":
        return _anything_but(operand, value)
    if operator == "numeric":
        return _numeric(operand, value)
    if operator == "cidr":
        return _cidr(operand, value)
    return _text(operator, operand, value)


def _anything_but(operand: object, value: object) -> Verdict:
    if isinstance(operand, dict):
        if len(operand) != 1:
            return None
        ((operator, inner),) = operand.items()
        options = inner if isinstance(inner, list) else [inner]
        return negated(any_of(_text(operator, option, value) for option in options)) if options else None
    options = operand if isinstance(operand, list) else [operand]
    if not options or any(isinstance(option, dict | list) for option in options):
        return None
    return not any(_same(option, value) for option in options)


def _text(operator: str, operand: object, value: object) -> Verdict:
    text = value if isinstance(value, str) else None
    if operator in ("prefix", "suffix") and isinstance(operand, dict):
        inner = operand.get("equals-ignore-case") if len(operand) == 1 else None
        return _text(operator, inner.casefold(), text and text.casefold()) if isinstance(inner, str) else None
    if not isinstance(operand, str):
        return None
    match operator:
        case "prefix":
            return text is not None and text.startswith(operand)
        case "suffix":
            return text is not None and text.endswith(operand)
        case "equals-ignore-case":
            return text is not None and text.casefold() == operand.casefold()
        case "wildcard":
            return _wildcard(operand, text)
    return None


def _wildcard(pattern: str, text: str | None) -> Verdict:
    r"""`*` is any number of characters; `\*` and `\\` are those characters themselves."""
    parts = _WILDCARD_TOKEN.findall(pattern)
    if "\\" in parts or ("*", "*") in itertools.pairwise(parts):
        return None  # EventBridge rejects both
    translated = "".join(part if part == "*" else _LITERAL.sub(r"[\g<0>]", part[-1]) for part in parts)
    return text is not None and fnmatch.fnmatchcase(text, translated)


def _numeric(operand: object, value: object) -> Verdict:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        return None
    pairs = list(zip(operand[::2], operand[1::2], strict=True))
    if not all(isinstance(sign, str) and sign in _COMPARISONS and _is_number(bound) for sign, bound in pairs):
        return None
    return _is_number(value) and all(_COMPARISONS[sign](value, bound) for sign, bound in pairs)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cidr(operand: object, value: object) -> Verdict:
    try:
        network = ipaddress.ip_network(str(operand), strict=False)
    except ValueError:
        return None
    try:
        return isinstance(value, str) and ipaddress.ip_address(value) in network
    except ValueError:
        return False
