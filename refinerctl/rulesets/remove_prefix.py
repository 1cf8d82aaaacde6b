"""A ruleset less in an environment's values, unless its queues still hold something."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from refinerctl.aws.messages import QueueDepth
from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError
from refinerctl.parallel import concurrently
from refinerctl.rulesets.file_edit import FileEdit
from refinerctl.rulesets.model import Ruleset
from refinerctl.rulesets.values_file import ValuesFile
from refinerctl.stacks.names import RulesetNames


class Depths(Protocol):
    """SQS, as far as counting goes."""

    def depth(self, name: str) -> QueueDepth:
        """Raises NotFoundError without the queue."""


@dataclass(frozen=True)
class Removal:
    """A ruleset, what it is made of, and how its file is to change."""

    ruleset: Ruleset
    names: RulesetNames
    edit: FileEdit


def plan_removal(name_or_prefix: str, file: ValuesFile) -> Removal:
    """What to write; nothing is written yet. Raises NotFoundError without such a ruleset."""
    values = file.read()
    ruleset = values.find(name_or_prefix)
    if ruleset is None:
        raise NotFoundError(
            f"{file.path} has no ruleset of name or prefix {name_or_prefix!r}",
            hint=f"It has: {', '.join(f'{known.name} ({known.prefix})' for known in values.rulesets.values())}.",
        )
    return Removal(ruleset, values.names(ruleset), file.remove(ruleset.name))


def check_empty(removal: Removal, queues: Depths) -> None:
    """Raises RefusedError if a queue of the ruleset holds messages; one that is not there holds none.

    Raises RefinerctlError if that cannot be known.
    """
    try:
        depths = concurrently([partial(_depth, queues, name) for name in _queues(removal.names)], 3)
    except RefinerctlError as error:
        raise RefinerctlError(
            f"whether the queues of {removal.ruleset.name} are empty is not known: {error.message}",
            hint="--force goes ahead without knowing.",
        ) from error
    if held := [_counts(depth) for depth in depths if depth and _count(depth)]:
        raise RefusedError(
            f"ruleset {removal.ruleset.name} still has messages: {', '.join(held)}",
            hint="Let them be processed, or redrive or purge them first; --force gives them up.",
        )


def _queues(names: RulesetNames) -> tuple[str, str, str]:
    return names.queue, names.dlq, names.delivery_dlq


def _depth(queues: Depths, name: str) -> QueueDepth | None:
    try:
        return queues.depth(name)
    except NotFoundError:
        return None


def _count(depth: QueueDepth) -> int:
    return depth.visible + depth.in_flight + depth.delayed


def _counts(depth: QueueDepth) -> str:
    counts = {"visible": depth.visible, "in flight": depth.in_flight, "delayed": depth.delayed}
    return f"{depth.name} ({', '.join(f'{count} {what}' for what, count in counts.items() if count)})"
