"""Rulesets as the environment's values have them, beside what AWS has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from refinerctl.aws.messages import QueueDepth
from refinerctl.aws.resources import EventRule, Function
from refinerctl.errors import NotFoundError, UsageError
from refinerctl.images import ImageReference
from refinerctl.parallel import concurrently
from refinerctl.releases.release import Release
from refinerctl.rulesets.model import Ruleset, RulesetStatus, StackValues
from refinerctl.stacks.names import RulesetNames

_THREADS = 32


class Rules(Protocol):
    def rules(self, bus: str) -> tuple[EventRule, ...]:
        """Raises NotFoundError without the bus."""


class Depths(Protocol):
    def depth(self, name: str) -> QueueDepth:
        """Raises NotFoundError without the queue."""


class Functions(Protocol):
    def get(self, name: str) -> Function:
        """Raises NotFoundError without the function."""


@dataclass(frozen=True)
class Deployment:
    """Where to look for what is deployed. `release` reads the one in place; None where nothing is recorded."""

    rules: Rules
    queues: Depths
    functions: Functions
    release: Callable[[], Release | None]


@dataclass(frozen=True)
class _Parts:
    """What AWS has of a ruleset; None for what is not there."""

    queues: tuple[QueueDepth | None, QueueDepth | None, QueueDepth | None]
    function: Function | None


def configured(values: StackValues) -> tuple[RulesetStatus, ...]:
    """Only what the values say: what is deployed stays unknown."""
    return tuple(
        RulesetStatus(values.names(ruleset), ruleset.image_uri, is_configured=True)
        for _name, ruleset in sorted(values.rulesets.items())
    )


def prefixes(values: StackValues, deployment: Deployment) -> tuple[RulesetStatus, ...]:
    """All rulesets, configured or deployed, by name. Everything is looked up at the same time.

    What is deployed is told by the rules of the event bus, whose names begin with the stack's `name_prefix`.
    """
    known = {name: values.names(ruleset) for name, ruleset in values.rulesets.items()}
    looks: list[Callable[[], Any]] = [partial(_rules, deployment.rules, values.bus_name), deployment.release]
    looks += _looks(known.values(), deployment)
    found = concurrently(looks, _THREADS)
    rules: dict[str, EventRule] = found[0]
    release: Release | None = found[1]
    parts = dict(zip(known, _grouped(found[2:]), strict=True))
    strangers = dict(_strangers(rules, known, values))
    parts |= dict(zip(strangers, _grouped(concurrently(_looks(strangers.values(), deployment), _THREADS)), strict=True))
    return tuple(
        _status(names, values.rulesets.get(name), rules.get(names.base), parts[name], values, release)
        for name, names in sorted((known | strangers).items())
    )


def _rules(client: Rules, bus: str) -> dict[str, EventRule]:
    try:
        return {rule.name: rule for rule in client.rules(bus)}
    except NotFoundError:
        return {}


def _looks(rulesets: Any, deployment: Deployment) -> list[Callable[[], Any]]:
    """Four for each ruleset: its queues, its function."""
    looks: list[Callable[[], Any]] = []
    for names in rulesets:
        queues = (names.queue, names.dlq, names.delivery_dlq)
        looks.extend(partial(_if_there, partial(deployment.queues.depth, queue)) for queue in queues)
        looks.append(partial(_if_there, partial(deployment.functions.get, names.base)))
    return looks


def _grouped(answers: Sequence[Any]) -> Iterator[_Parts]:
    for at in range(0, len(answers), 4):
        queue, dlq, delivery_dlq, function = answers[at : at + 4]
        yield _Parts((queue, dlq, delivery_dlq), function)


def _if_there(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except NotFoundError:
        return None


def _strangers(
    rules: dict[str, EventRule], known: dict[str, RulesetNames], values: StackValues
) -> Iterator[tuple[str, RulesetNames]]:
    """Rulesets that are deployed and not configured."""
    start = f"{values.name_prefix}-"
    for rule in rules.values():
        name = rule.name.removeprefix(start)
        if rule.name.startswith(start) and name not in known:
            yield name, RulesetNames(name, " ".join(_prefixes(rule)), rule.name)


def _status(
    names: RulesetNames,
    ruleset: Ruleset | None,
    rule: EventRule | None,
    parts: _Parts,
    values: StackValues,
    release: Release | None,
) -> RulesetStatus:
    differs: tuple[str, ...]
    if ruleset is None:
        differs = ("it is deployed and not configured",)
        names = replace(names, has_function=parts.function is not None)
    elif rule is None:
        differs = (f"rule {names.base} is missing",) if any(parts.queues) else ("it is not deployed",)
    else:
        differs = (*_missing(names, parts), *_differences(ruleset, rule, parts.function, values, release))
    image = parts.function.image_uri if parts.function else None
    return RulesetStatus(
        names,
        ruleset.image_uri if ruleset else image,
        is_configured=ruleset is not None,
        deployed=rule is not None,
        differs=differs,
        deployed_image=image,
        release=_release_of(names.name, image, release),
        depth=parts.queues[0],
        dlq_depth=parts.queues[1],
        delivery_dlq_depth=parts.queues[2],
    )


def _missing(names: RulesetNames, parts: _Parts) -> Iterator[str]:
    for queue, depth in zip((names.queue, names.dlq, names.delivery_dlq), parts.queues, strict=True):
        if depth is None:
            yield f"queue {queue} is missing"
    if names.has_function and parts.function is None:
        yield f"function {names.base} is missing"


def _differences(
    ruleset: Ruleset, rule: EventRule, function: Function | None, values: StackValues, release: Release | None
) -> Iterator[str]:
    if (prefixes := _prefixes(rule)) != (ruleset.prefix,):
        yield f"prefix: {ruleset.prefix} configured, {' '.join(prefixes) or 'another pattern'} deployed"
    if not rule.is_enabled:
        yield f"rule {rule.name} is disabled"
    if function is None:
        return
    if ruleset.image_uri is None:
        yield f"function {function.name} is deployed and not configured"
        return
    recorded = release.images.get(ruleset.name) if release else None
    if _is_other_image(ruleset.image_uri, function.image_uri):
        yield f"image: {ruleset.image_uri} configured, {function.image_uri} deployed"
    elif recorded is not None and _is_other_image(recorded, function.image_uri):
        yield f"image: {recorded} recorded, {function.image_uri} deployed"
    for what, wanted, there in (
        ("memory_mb", ruleset.memory_mb, function.memory_mb),
        ("timeout_s", ruleset.timeout_s, function.timeout_s),
    ):
        if wanted != there:
            yield f"{what}: {wanted} configured, {there} deployed"
    # Names only: whatever is in them, it is not for a table.
    environment = {**values.function_environment, **ruleset.environment}
    others = [name for name, value in environment.items() if function.environment.get(name) != value]
    if others:
        yield f"environment: {', '.join(sorted(others))}"


def _prefixes(rule: EventRule) -> tuple[str, ...]:
    """The key prefixes of a ruleset's rule; none if its pattern is not like the stack's."""
    try:
        keys = json.loads(rule.pattern)["detail"]["object"]["key"]
        return tuple(str(key["prefix"]) for key in keys)
    except (ValueError, KeyError, TypeError):
        return ()


def _is_other_image(wanted: str, there: str) -> bool:
    """Whether two URIs surely name different images: a tag may well be the digest that is there."""
    try:
        one, other = ImageReference.parse(wanted), ImageReference.parse(there)
    except UsageError:
        return wanted != there
    pairs = [(one.registry, other.registry), (one.digest, other.digest), (one.tag, other.tag)]
    return one.repository != other.repository or any(a and b and a != b for a, b in pairs)


def _release_of(name: str, image: str | None, release: Release | None) -> str | None:
    recorded = release.images.get(name) if release else None
    if release is None or image is None or recorded is None or _is_other_image(recorded, image):
        return None
    return release.tag
