"""Rules, event source mappings and schedules of a stage that are disabled or do not exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from refinerctl.stacks.base import EventRule, Queue, Schedule, Stage

if TYPE_CHECKING:
    from refinerctl.aws.events import RuleSettings
    from refinerctl.aws.lambda_ import FunctionConfiguration, SourceMapping
    from refinerctl.parallel import Answer

MAPPINGS = "event source mappings"
_STOPPED = ("Disabled", "Disabling")


def rules_of(bus: str) -> tuple[str, str]:
    """The key of the answer with the rules of a bus."""
    return "rules", bus


def is_mapped(stage: Stage) -> bool:
    """Whether an event source mapping connects its queue and its function."""
    return stage.function is not None and stage.queue is not None and stage.queue.broker is None


def stopped(stage: Stage, shared_rules: Sequence[EventRule], answers: Mapping[object, Answer[Any]]) -> Iterator[str]:
    """What stops the data of a deployed stage. Skips components that could not be read."""
    source = stage.source
    for rule in (*shared_rules, source) if isinstance(source, EventRule) else ():
        answer = answers[rules_of(rule.bus)]
        if answer.value is not None:
            yield from _about_rule(rule, answer.value)
        elif answer.error and answer.not_found:
            yield answer.error.message
    if isinstance(source, Schedule) and (schedule := answers[source].value) and not schedule.is_enabled:
        yield f"schedule {source.name} is disabled"
    function = answers[stage.function].value if stage.function else None
    if function is not None:
        yield from _about_function(function)
    mappings = answers[MAPPINGS].value if is_mapped(stage) else None
    if function is not None and mappings is not None and stage.queue:
        yield from _about_mapping(stage.queue, function.name, mappings)


def _about_rule(rule: EventRule, rules: Sequence[RuleSettings]) -> Iterator[str]:
    found = next((item for item in rules if item.name == rule.name), None)
    if found is None:
        yield f"rule {rule.name} does not exist"
    elif not found.is_enabled:
        yield f"rule {rule.name} is disabled"


def _about_function(found: FunctionConfiguration) -> Iterator[str]:
    if "Failed" in (found.state, found.update):
        yield f"function {found.name} is in state Failed{f': {found.reason}' if found.reason else ''}"


def _about_mapping(queue: Queue, function: str, mappings: Sequence[SourceMapping]) -> Iterator[str]:
    found = [item for item in mappings if item.function == function and _name(item.queue_arn) == queue.name]
    if not found:
        yield f"no event source mapping from queue {queue.name} to its function exists"
    elif all(item.state in _STOPPED for item in found):
        yield "the event source mapping of its function is disabled"


def _name(arn: str) -> str:
    return arn.rpartition(":")[2]
