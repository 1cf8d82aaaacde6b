"""The stacks that refinerctl knows: those of this folder, and those of installed packages.

A package adds one by an entry point of group `refinerctl.stacks` that names its `Stack`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from refinerctl.errors import UsageError, known_names
from refinerctl.stacks.base import Stack

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

BUILT_IN = ("refiner", "rnr", "registry", "access")
GROUP = "refinerctl.stacks"


def find_stack(name: str) -> Stack:
    """The stack of this name. Raises UsageError for an unknown one."""
    if name in BUILT_IN:
        stack: Stack = importlib.import_module(f"{__name__}.{name}").STACK
        return stack
    for entry in _entry_points():
        if entry.name == name:
            return entry.load()  # type: ignore[no-any-return]
    raise UsageError(f"unknown stack {name!r}", hint=known_names(name, stack_names(), "Stacks"))


def stack_names() -> tuple[str, ...]:
    """The names of all stacks, for help and completion."""
    return (*BUILT_IN, *sorted(entry.name for entry in _entry_points()))


def _entry_points() -> tuple[EntryPoint, ...]:
    # It reads the metadata of all installed packages: only for a name that is not built in.
    from importlib.metadata import entry_points

    return tuple(entry_points(group=GROUP))
