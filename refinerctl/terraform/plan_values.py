"""The values of a resource that differ in a plan, each with its path, and without those that are sensitive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Terraform knows what variables and providers mark as sensitive; a function's environment may hold other secrets.
_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|(?<![a-z])pass(?![a-z])|pwd|private|credential|(api|access|signing)[_-]?key|webhook",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"://[^/\s@]+@")
# Keys whose value is the name of another value, as in {"name": "DB_PASSWORD", "value": …}.
_LABELS = ("name", "Name", "key", "Key")
# Keys that identify the elements of a list of objects, in any order.
_NAMES = ("name", "Name", "Sid", "sid", "id")


@dataclass(frozen=True)
class ValueChange:
    """A value of a resource before and after; None: no value. `path` leads to it through blocks, lists and JSON.

    `is_sensitive`: both are left out. `is_unknown`: the new value is known only after the apply.
    """

    path: str
    before: Any = None
    after: Any = None
    is_sensitive: bool = False
    is_unknown: bool = False


@dataclass(frozen=True)
class _Masks:
    """Terraform's marks of a value: True for all of it, or the marks of its parts."""

    before: Any = False
    after: Any = False
    unknown: Any = False

    def part(self, key: str | int) -> _Masks:
        return _Masks(*(_part(mask, key) for mask in (self.before, self.after, self.unknown)))

    @property
    def is_sensitive(self) -> bool:
        """Whether a part of the value is."""
        return has_true(self.before) or has_true(self.after)


def value_changes(change: Mapping[str, Any], attributes: Sequence[str]) -> tuple[ValueChange, ...]:
    """The values that differ in these attributes. `change` is Terraform's JSON."""
    before, after = change.get("before") or {}, change.get("after") or {}
    masks = _Masks(
        change.get("before_sensitive") or False,
        change.get("after_sensitive") or False,
        change.get("after_unknown") or False,
    )
    return tuple(
        found
        for name in attributes
        for found in _differences(name, before.get(name), after.get(name), masks.part(name))
    )


def _differences(path: str, before: Any, after: Any, masks: _Masks) -> Iterator[ValueChange]:
    before, after = _parsed(before), _parsed(after)
    if masks.unknown is True:
        is_secret = masks.is_sensitive or _is_secret(path, before) or _names_secret(before)
        yield ValueChange(path, None if is_secret else before, is_sensitive=is_secret, is_unknown=True)
        return
    if normal(before) == normal(after) and not has_true(masks.unknown):
        return
    if True in (masks.before, masks.after) or _is_secret(path, before, after):
        yield ValueChange(path, is_sensitive=True)
    elif parts := _parts(before, after):
        for key, old, new in parts:
            name = f"[{key}]" if isinstance(key, int) else f".{key}" if key else ""
            mask = masks.part(0) if key == "" else masks.part(key)
            yield from _differences(f"{path}{name}", old, new, mask)
    elif masks.is_sensitive or _names_secret(before, after):
        yield ValueChange(path, is_sensitive=True)
    else:
        yield ValueChange(path, before, after, is_unknown=has_true(masks.unknown))


def _parts(before: Any, after: Any) -> list[tuple[str | int, Any, Any]]:
    """The parts that can be compared one by one, each with its key; none if the values have to be shown whole."""
    if _are(dict, before, after):
        old, new = before or {}, after or {}
        return [(key, old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]
    if not _are(list, before, after) or not all(isinstance(item, dict) for item in (*(before or ()), *(after or ()))):
        return []
    old_items, new_items = before or [], after or []
    if len(old_items) <= 1 and len(new_items) <= 1:  # a block
        return [("", next(iter(old_items), {}), next(iter(new_items), {}))]
    if len(old_items) == len(new_items):
        return [(number, *pair) for number, pair in enumerate(zip(old_items, new_items, strict=True))]
    return []


def _are(kind: type, *values: Any) -> bool:
    """Whether all values are of this kind or None, and at least one is not empty."""
    return any(values) and all(value is None or isinstance(value, kind) for value in values)


def _parsed(value: Any) -> Any:
    """The value of a text with JSON, in which lists of named objects are maps by name; any other value itself."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return _by_name(json.loads(value))
        except (ValueError, RecursionError):
            return value
    return value


def _by_name(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _by_name(item) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    items = [_by_name(item) for item in value]
    for name in _NAMES:
        keys = [item.get(name) for item in items if isinstance(item, dict)]
        if items and len(set(filter(None, map(str, keys)))) == len(items) and None not in keys:
            return {str(item[name]): {key: part for key, part in item.items() if key != name} for item in items}
    return items


def _is_secret(path: str, *values: Any) -> bool:
    """Whether a value is named like a secret, or holds a login."""
    labels = [str(value.get(label, "")) for value in values if isinstance(value, dict) for label in _LABELS]
    return any(map(_SECRET_NAME.search, (path, *labels))) or any(_LOGIN.search(str(value)) for value in values)


def _names_secret(*values: Any) -> bool:
    """Whether a part of values that are shown whole is named like a secret."""
    return any(isinstance(value, dict | list) and _SECRET_NAME.search(str(value)) for value in values)


def _part(mask: Any, key: str | int) -> Any:
    if isinstance(mask, dict):
        return mask.get(key, False)
    if isinstance(mask, list):
        return mask[key] if isinstance(key, int) and key < len(mask) else False
    return mask is True


def has_true(mask: Any) -> bool:
    """Whether a part is True: blocks and lists are there although nothing in them is."""
    if isinstance(mask, dict | list):
        return any(has_true(part) for part in (mask.values() if isinstance(mask, dict) else mask))
    return bool(mask)


def normal(value: Any) -> Any:
    """One form for values that mean the same: providers read nothing back in several forms, and reorder policies."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return normal(json.loads(value))
        except (ValueError, RecursionError):
            return value
    if isinstance(value, dict):
        return {key: plain for key, item in value.items() if (plain := normal(item)) is not None} or None
    if isinstance(value, list):
        return [normal(item) for item in value] or None
    return None if value is False or value == "" else value
