"""EventBridge's event patterns: does a pattern match an event?

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html and, for what that leaves
open, https://github.com/aws/event-ruler. Answers are True, False, or None if a pattern has something that is not
evaluated here. A pattern is compiled to alternatives, one for each combination of `$or`; an event is a list of
values, each with its path: `{"a": {"b": 1}}` and `{"a.b": 1}` are the same to EventBridge.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import itertools
import json
import operator as op
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

Verdict = bool | None
_Test = Callable[[Any], Verdict]

MAX_COMBINATIONS = 1000
# AWS documents numbers up to this, and six decimal places.
_LARGEST = Decimal("5e9")
_SMALLEST_EXPONENT = -6

_SIGNS = {"=": op.eq, "<": op.lt, "<=": op.le, ">": op.gt, ">=": op.ge}
_WILDCARD_TOKEN = re.compile(r"\\[*\\]|\*|[^*\\]+|\\", re.DOTALL)
_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_IPV6 = re.compile(r"(?=.*:)[0-9a-fA-F:]+")
_OR = "$or"
# `$or` is a field's name, not an operator, if one of these is a field's name within it.
_NOT_IN_OR = re.compile(
    r"exactly|(not-)?equals-ignore-case|prefix|suffix|anything-but|exists|(not-)?wildcard|numeric|cidr|=|[<>]=?|regex|"
    r"date-(on-or-)?(after|before)|in-date-range|ip-address-(not-)?in-range"
)


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
    """Whether the event pattern, as JSON, matches the event. One that AWS rejects matches no event, nor does an empty
    one: the rule has a schedule.
    """
    compiled = _compiled(pattern)
    if isinstance(compiled, str):
        return False
    fields = _fields(event)
    if not any(_matches(item, fields, unknown=True) for item in compiled):
        return False
    return any(_matches(item, fields, unknown=False) for item in compiled) or None


def rejection(pattern: str) -> str | None:
    """Why AWS rejects the event pattern, as a clause; None if it does not, as far as is known here."""
    compiled = _compiled(pattern)
    return compiled if isinstance(compiled, str) else None


@dataclass(frozen=True)
class _Matcher:
    """An element of a field's list: its verdict on a value, and on an event without that field."""

    on_value: _Test
    on_absence: Verdict = False


_UNKNOWN = _Matcher(lambda _: None, None)
_EXISTS = {True: _Matcher(lambda _: True), False: _Matcher(lambda _: False, True)}

_Alternative = dict[str, list[_Matcher]]  # by path
_Place = frozenset[tuple[int, int]]  # the arrays that a value is within, with the index in each
_Values = list[tuple[Any, _Place]]


class _RejectedError(Exception):
    """AWS does not accept the pattern."""


def _reject(reason: str, *_: object) -> NoReturn:
    raise _RejectedError(reason)


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> list[_Alternative] | str:
    """The alternatives, or why AWS rejects the pattern. Objects are tuples of pairs, as a name may occur twice."""
    try:
        invalid = functools.partial(_reject, "it is not JSON")
        fields = json.loads(pattern, object_pairs_hook=tuple, parse_float=Decimal, parse_constant=invalid)
        try:
            return _with_fields([{}], "", fields)
        except _RejectedError as error:
            # Where `$or` is no operator, it is a field's name.
            with contextlib.suppress(_RejectedError):
                return _with_fields([{}], "", fields, or_is_operator=False)
            raise error from None
    except _RejectedError as error:
        return str(error)
    except ValueError:
        return "it is not JSON"
    except RecursionError:
        return [{"": [_UNKNOWN]}]


def _with_fields(
    found: list[_Alternative], path: str, fields: Any, *, or_is_operator: bool = True, in_or: bool = False
) -> list[_Alternative]:
    """The alternatives in `found`, with what an object of the pattern asks for. `path` ends in a dot, or is empty."""
    if not isinstance(fields, tuple):
        _reject("it is not an object")
    if not fields:
        _reject("it has an object without fields")
    for name, wanted in fields:
        key = f"{path}{name}"
        if name == _OR and or_is_operator:
            found = _with_or(found, path, wanted)
        elif in_or and _NOT_IN_OR.fullmatch(name):
            _reject(f"{name} is within $or")
        elif isinstance(wanted, tuple):
            found = _with_fields(found, f"{key}.", wanted, or_is_operator=or_is_operator, in_or=in_or)
        elif isinstance(wanted, list):
            if not wanted:
                _reject(f"the array of {key} is empty")
            if name == _OR and any(dict(item).keys() - _OPERATORS for item in wanted if isinstance(item, tuple)):
                _reject("$or has objects of fields")
            matchers = [_matcher(item) for item in wanted]
            # The same path again: AWS does not document which of them counts.
            found = [{**item, key: [_UNKNOWN] if key in item else matchers} for item in found]
        else:
            _reject(f"{key} is neither an object nor an array")
    return found


def _with_or(found: list[_Alternative], path: str, branches: Any) -> list[_Alternative]:
    if not isinstance(branches, list) or len(branches) < 2:
        _reject("$or needs at least two objects")
    alternatives: list[_Alternative] = []
    for branch in branches:
        alternatives += _with_fields(found, path, branch, in_or=True)
        if len(alternatives) > MAX_COMBINATIONS:
            _reject(f"$or has more than {MAX_COMBINATIONS:,} combinations")
    return alternatives


def _fields(event: Mapping[str, Any]) -> Mapping[str, _Values]:
    """The event's values by path. Arrays leave no trace in the path, and empty ones no value."""
    found: dict[str, _Values] = defaultdict(list)
    arrays = itertools.count()

    def visit(path: str, value: Any, place: _Place) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                visit(f"{path}.{name}", item, place)
        elif isinstance(value, list):
            array = next(arrays)
            for index, item in enumerate(value):
                visit(path, item, place | {(array, index)} if isinstance(item, dict | list) else place)
        else:
            found[path].append((value, place))

    for name, item in event.items():
        visit(name, item, frozenset())
    return found


def _matches(alternative: _Alternative, fields: Mapping[str, _Values], *, unknown: bool) -> bool:
    """Whether each path has a matching value, and no two of them are in different elements of one array.

    Unknown verdicts count as `unknown`.
    """
    places: set[_Place] = {frozenset()}
    for path, matchers in alternative.items():
        values = fields.get(path, [])
        # Whether a field is absent from one element of an array is not documented.
        is_absent = not values or (None if all(place for _, place in values) else False)
        on_absence = any_of(all_of([matcher.on_absence, is_absent]) for matcher in matchers)
        reached = set(places) if (unknown if on_absence is None else on_absence) else set()
        for value, place in values:
            verdict = any_of(matcher.on_value(value) for matcher in matchers)
            if unknown if verdict is None else verdict:
                reached |= {place | other for other in places if _is_consistent(place | other)}
        places = reached
    return bool(places)


def _is_consistent(place: _Place) -> bool:
    return len({array for array, _ in place}) == len(place)


def _matcher(item: Any) -> _Matcher:
    if isinstance(item, list):
        _reject("it has an array within an array")
    if not isinstance(item, tuple):
        return _Matcher(_equals(item))
    if not item:
        _reject("it has an object without fields")
    if any(name not in _OPERATORS for name, _ in item):
        return _UNKNOWN
    if len(item) > 1:
        _reject(f"{item[0][0]} and {item[1][0]} are in one object")
    ((name, operand),) = item
    return _OPERATORS[name](operand)


def _equals(wanted: Any) -> _Test:
    address = _address(wanted)

    def test(value: Any) -> Verdict:
        return _same(wanted, value) or (address is not None and address == _address(value))

    return test


def _same(wanted: Any, value: Any) -> bool:
    """JSON's equality: true is not 1, and 1 is 1.0."""
    if isinstance(wanted, bool) or isinstance(value, bool) or wanted is None or value is None:
        return wanted is value
    return _number(wanted) == _number(value) if _is_number(wanted) and _is_number(value) else bool(wanted == value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _number(value: Any) -> Decimal:
    """0.1 is 0.1, not the nearest binary fraction."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _is_documented(value: Any) -> bool:
    number = _number(value).normalize()
    return abs(number) <= _LARGEST and int(number.as_tuple().exponent) >= _SMALLEST_EXPONENT


def _address(value: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None for anything but a literal of an IP address, as EventBridge recognizes it."""
    try:
        if isinstance(value, str) and _IPV4.fullmatch(value):
            return ipaddress.IPv4Address(".".join(str(int(part)) for part in value.split(".")))
        if isinstance(value, str) and _IPV6.fullmatch(value):
            address = ipaddress.IPv6Address(value)
            return address.ipv4_mapped or address
    except ValueError:
        return None
    return None


def _exists(operand: Any) -> _Matcher:
    return _EXISTS[operand] if isinstance(operand, bool) else _reject("exists needs true or false")


def _cidr(operand: Any) -> _Matcher:
    text, _, bits = operand.partition("/") if isinstance(operand, str) else ("", "", "")
    address = _address(text)
    if address is None or not re.fullmatch(r"[0-9]{1,3}", bits) or int(bits) > address.max_prefixlen:
        _reject("cidr needs a CIDR block")
    if int(bits) == address.max_prefixlen:
        return _UNKNOWN  # event-ruler rejects it, AWS's documentation does not say so
    network = ipaddress.ip_network(f"{address}/{bits}", strict=False)
    return _Matcher(lambda value: (found := _address(value)) is not None and found in network)


def _numeric(operand: Any) -> _Matcher:
    parts = operand if isinstance(operand, list) and len(operand) % 2 == 0 else []
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    if not all(isinstance(sign, str) and sign in _SIGNS and _is_number(bound) for sign, bound in pairs):
        _reject("numeric needs a comparison and a number")
    if len(pairs) != 1 and (len(pairs) != 2 or pairs[0][0][0] != ">" or pairs[1][0][0] != "<"):
        _reject("numeric needs one comparison, or > and <")
    if len(pairs) == 2 and pairs[0][1] >= pairs[1][1]:
        _reject("numeric has an empty range")
    if not all(_is_documented(bound) for _, bound in pairs):
        return _UNKNOWN

    def test(value: Any) -> Verdict:
        if not _is_number(value):
            return False
        if not _is_documented(value):
            return None
        return all(_SIGNS[sign](_number(value), bound) for sign, bound in pairs)

    return _Matcher(test)


def _text(name: str, operand: Any) -> _Matcher:
    if isinstance(operand, tuple) and name in ("prefix", "suffix"):
        ((inner, operand),) = operand if len(operand) == 1 else _reject(f"{name} needs one operator")
        if inner != "equals-ignore-case":
            return _UNKNOWN
        name = f"{name} {inner}"
    if not isinstance(operand, str):
        _reject(f"{name} needs a string")
    if (name.startswith("prefix") and operand.endswith('"')) or (name.startswith("suffix") and operand.startswith('"')):
        return _UNKNOWN  # event-ruler compares texts with their quotes
    test = _text_test(name, operand)
    return _Matcher(lambda value: isinstance(value, str) and test(value))


def _text_test(name: str, operand: str) -> Callable[[str], Verdict]:
    if name == "prefix":
        return lambda text: text.startswith(operand)
    if name == "suffix":
        return lambda text: text.endswith(operand)
    if name == "wildcard":
        expression = _wildcard(operand)
    elif any(ord(char) > 0xFFFF for char in operand):
        return lambda _: None  # two characters to EventBridge, neither with a case
    else:
        either = "".join(f"(?:{re.escape(char.lower())}|{re.escape(char.upper())})" for char in operand)
        expression = {"prefix": f"{either}.*", "suffix": f".*{either}"}.get(name.split()[0], either)
    return lambda text: re.fullmatch(expression, text, re.DOTALL) is not None


def _wildcard(pattern: str) -> str:
    r"""The regular expression. `*` is any number of characters; `\*` and `\\` are those characters themselves."""
    tokens = _WILDCARD_TOKEN.findall(pattern)
    if "\\" in tokens or ("*", "*") in itertools.pairwise(tokens):
        _reject(r"wildcard has ** or a \ before another character")
    parts = [""]
    for item in tokens:
        if item == "*":
            parts.append("")
        else:
            parts[-1] += re.escape(item[-1] if item[0] == "\\" else item)
    if len(parts) == 1:
        return parts[0]
    first, *middle, last = parts
    # The earliest occurrence of each part is as good as any other: without going back, time is linear.
    return f"{first}{''.join(f'(?>.*?{part})' for part in middle)}.*{last}"


def _anything_but(operand: Any) -> _Matcher:
    if isinstance(operand, tuple):
        ((name, inner),) = operand if len(operand) == 1 else _reject("anything-but needs one operator")
        options = inner if isinstance(inner, list) else [inner]
        if name not in _NEGATABLE or not options:
            return _UNKNOWN
        if not all(isinstance(option, str) and (option or name not in ("prefix", "suffix")) for option in options):
            _reject(f"anything-but needs strings for {name}")
        matchers = [_text(name, option) for option in options]
        return _Matcher(lambda value: negated(any_of(matcher.on_value(value) for matcher in matchers)))
    options = operand if isinstance(operand, list) else [operand]
    if not options or not (all(isinstance(item, str) for item in options) or all(map(_is_number, options))):
        _reject("anything-but needs strings or numbers")
    if not all(isinstance(item, str) or _is_documented(item) for item in options):
        return _UNKNOWN
    return _Matcher(lambda value: not any(_same(option, value) for option in options))


_NEGATABLE = ("prefix", "suffix", "equals-ignore-case", "wildcard")
_OPERATORS: Mapping[str, Callable[[Any], _Matcher]] = {
    **{name: functools.partial(_text, name) for name in _NEGATABLE},
    "anything-but": _anything_but,
    "cidr": _cidr,
    "exists": _exists,
    "numeric": _numeric,
}
