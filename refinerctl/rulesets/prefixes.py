"""`refinerctl prefixes`: rulesets as the environment's values have them, beside what AWS has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import NotFoundError, RefinerctlError, UsageError
from refinerctl.images import ImageReference
from refinerctl.ledger.entries import Release, deployed
from refinerctl.options import examples, global_options
from refinerctl.parallel import concurrently
from refinerctl.rulesets.model import Ruleset, RulesetValues
from refinerctl.stacks.base import Stage
from refinerctl.stacks.refiner import ruleset_stage
from refinerctl.tables import table

if TYPE_CHECKING:
    from refinerctl.aws.events import EventBuses, RuleSettings
    from refinerctl.aws.lambda_ import FunctionConfiguration, Functions
    from refinerctl.aws.sqs import Queues

THREADS = 32


@dataclass(frozen=True)
class RulesetState:
    """A ruleset as configured and as deployed; `deployed` None means unknown.

    `differs` are sentences. `image_uri` is the configured one, if it is configured; `release` is the one that the
    function's image is recorded with. `depths` are those of the stage's queues, by name, without queues that do not
    exist.
    """

    stage: Stage
    image_uri: str | None
    is_configured: bool
    deployed: bool | None = None
    differs: tuple[str, ...] = ()
    deployed_image: str | None = None
    release: str | None = None
    depths: Mapping[str, QueueState] | None = None


@dataclass(frozen=True)
class Deployed:
    """What is deployed: `rules` of the event bus, and the clients that read the rest."""

    buses: EventBuses
    queues: Queues
    functions: Functions
    release: Release | None = None


@click.command(epilog=examples("refinerctl prefixes", "refinerctl prefixes --env production --output json"))
@global_options
@click.pass_context
def prefixes(ctx: click.Context) -> None:
    """List the rulesets as configured and as deployed, and how these differ."""
    app = app_context(ctx)
    values = RulesetValues.of(app.values)
    app.render.detail(f"environment {app.settings.env}, event bus {values.bus_name}")
    if app.is_down:
        app.render.warning(f"environment {app.settings.env} is down: only the configured rulesets are shown")
        found = configured(values)
    else:
        found = compare(values, Deployed(app.event_buses, app.queues, app.functions, _release(app)))
    if app.render.is_json:
        app.render.json({"rulesets": [state_json(item) for item in found]})
        return
    header = ["NAME", "PREFIX", "DEPLOYED", "IMAGE", "RELEASE", "QUEUE", "DLQ"]
    for line in table(header, [_row(item) for item in found]):
        app.render.line(line)
    for item in found:
        for difference in item.differs:
            app.render.note(f"{item.stage.name}: {difference}")


def _release(app: AppContext) -> Release | None:
    """Without the ledger the rest is still worth showing."""
    try:
        return deployed(app.ledger.read())
    except RefinerctlError as error:
        app.render.warning(f"the deployed release is unknown: {error.message}")
        return None


def configured(values: RulesetValues) -> tuple[RulesetState, ...]:
    """The rulesets of the values, by name; what is deployed stays unknown."""
    return tuple(
        RulesetState(_stage(values, ruleset), ruleset.image_uri, is_configured=True)
        for _, ruleset in sorted(values.rulesets.items())
    )


def compare(values: RulesetValues, aws: Deployed) -> tuple[RulesetState, ...]:
    """All rulesets, configured or deployed, by name. Everything is read at the same time.

    The rules of the event bus whose names begin with the stack's `name_prefix` tell what is deployed.
    """
    rules = _rules(aws.buses, values.bus_name)
    stages = {name: _stage(values, ruleset) for name, ruleset in values.rulesets.items()}
    stages |= dict(_unconfigured(rules, stages, values))
    states = [partial(_state, stage, values, rules, aws) for _, stage in sorted(stages.items())]
    return tuple(concurrently(states, THREADS))


def _stage(values: RulesetValues, ruleset: Ruleset) -> Stage:
    base = f"{values.name_prefix}-{ruleset.name}"
    return ruleset_stage(ruleset.name, ruleset.prefix, base, values.bus_name, has_function=bool(ruleset.image_uri))


def _rules(buses: EventBuses, bus: str) -> dict[str, RuleSettings]:
    try:
        return {rule.name: rule for rule in buses.rules(bus)}
    except NotFoundError:
        return {}


def _unconfigured(
    rules: dict[str, RuleSettings], known: Mapping[str, Stage], values: RulesetValues
) -> Iterator[tuple[str, Stage]]:
    start = f"{values.name_prefix}-"
    for rule in rules.values():
        name = rule.name.removeprefix(start)
        if rule.name.startswith(start) and name not in known:
            prefix = " ".join(_prefixes(rule))
            yield name, ruleset_stage(name, prefix, rule.name, values.bus_name, has_function=True)


def _state(stage: Stage, values: RulesetValues, rules: Mapping[str, RuleSettings], aws: Deployed) -> RulesetState:
    ruleset = values.rulesets.get(stage.name)
    depths = {queue.name: depth for queue in stage.queues if (depth := _depth(aws.queues, queue.name)) is not None}
    function = _function(aws.functions, stage)
    rule = rules.get(stage.source.name) if stage.source else None
    differs: tuple[str, ...]
    if ruleset is None:
        differs = ("deployed, but not configured",)
        if function is None:
            stage = ruleset_stage(stage.name, stage.prefix or "", rule.name if rule else "", values.bus_name)
    elif rule is None:
        differs = (f"rule {values.name_prefix}-{ruleset.name} does not exist",) if depths else ("not deployed",)
    else:
        differs = (
            *_missing(stage, depths, function),
            *_differences(ruleset, rule, function, values, aws.release),
        )
    image = function.image_uri if function else None
    return RulesetState(
        stage,
        ruleset.image_uri if ruleset else image,
        is_configured=ruleset is not None,
        deployed=rule is not None,
        differs=differs,
        deployed_image=image,
        release=_release_of(stage.name, image, aws.release),
        depths=depths,
    )


def _depth(queues: Queues, name: str) -> QueueState | None:
    try:
        return queues.state(name)
    except NotFoundError:
        return None


def _function(functions: Functions, stage: Stage) -> FunctionConfiguration | None:
    """Also of a completion ruleset: a function that it should not have is a difference."""
    try:
        return functions.get(stage.queue.name) if stage.queue else None
    except NotFoundError:
        return None


def _missing(stage: Stage, depths: Mapping[str, QueueState], function: FunctionConfiguration | None) -> Iterator[str]:
    for queue in stage.queues:
        if queue.name not in depths:
            yield f"queue {queue.name} does not exist"
    if stage.consumer and function is None:
        yield f"function {stage.consumer.name} does not exist"


def _differences(
    ruleset: Ruleset,
    rule: RuleSettings,
    function: FunctionConfiguration | None,
    values: RulesetValues,
    release: Release | None,
) -> Iterator[str]:
    if (prefixes := _prefixes(rule)) != (ruleset.prefix,):
        yield f"prefix: {ruleset.prefix} configured, {' '.join(prefixes) or 'another pattern'} deployed"
    if not rule.is_enabled:
        yield f"rule {rule.name} is disabled"
    if function is None:
        return
    if ruleset.image_uri is None:
        yield f"function {function.name} is deployed, but not configured"
        return
    recorded = release.images.get(ruleset.name) if release else None
    if _is_other_image(ruleset.image_uri, function.image_uri):
        yield f"image: {ruleset.image_uri} configured, {function.image_uri} deployed"
    elif recorded is not None and _is_other_image(recorded, function.image_uri):
        yield f"image: {recorded} recorded, {function.image_uri} deployed"
    for what, wanted, present in (
        ("memory_mb", ruleset.memory_mb, function.memory_mb),
        ("timeout_s", ruleset.timeout_s, function.timeout_s),
    ):
        if wanted != present:
            yield f"{what}: {wanted} configured, {present} deployed"
    # Names only: values may be secrets.
    environment = {**values.function_environment, **ruleset.environment}
    if others := [name for name, value in environment.items() if function.environment.get(name) != value]:
        yield f"environment: {', '.join(sorted(others))}"


def _prefixes(rule: RuleSettings) -> tuple[str, ...]:
    """The key prefixes of a ruleset's rule; none if its pattern is not like the stack's."""
    try:
        keys = json.loads(rule.pattern)["detail"]["object"]["key"]
        return tuple(str(key["prefix"]) for key in keys)
    except (ValueError, KeyError, TypeError):
        return ()


def _is_other_image(wanted: str, present: str) -> bool:
    """Whether two URIs certainly name different images: a tag may be that of the deployed digest."""
    try:
        one, other = ImageReference.parse(wanted), ImageReference.parse(present)
    except UsageError:
        return wanted != present
    pairs = [(one.registry, other.registry), (one.digest, other.digest), (one.tag, other.tag)]
    return one.repository != other.repository or any(a and b and a != b for a, b in pairs)


def _release_of(name: str, image: str | None, release: Release | None) -> str | None:
    recorded = release.images.get(name) if release else None
    if release is None or image is None or recorded is None or _is_other_image(recorded, image):
        return None
    return release.tag


def _row(item: RulesetState) -> list[str]:
    stage, depths = item.stage, item.depths or {}
    dead = [depths[queue.name].total for queue in stage.queues if queue != stage.queue and queue.name in depths]
    queue = depths.get(stage.queue.name) if stage.queue else None
    return [
        stage.name,
        stage.prefix or "",
        {True: "differs" if item.differs else "yes", False: "no", None: "unknown"}[item.deployed],
        item.image_uri or "",
        item.release or "",
        str(queue.total) if queue else "",
        str(sum(dead)) if dead else "",
    ]


def state_json(item: RulesetState) -> dict[str, Any]:
    """A ruleset in the contract's form."""
    stage = item.stage
    queue, dlq, delivery_dlq = (queue.name for queue in stage.queues)
    return {
        "name": stage.name,
        "prefix": stage.prefix,
        "image_uri": item.image_uri,
        "queue": queue,
        "dlq": dlq,
        "delivery_dlq": delivery_dlq,
        "function": stage.consumer.name if stage.consumer else None,
        "configured": item.is_configured,
        "deployed": item.deployed,
        "differs": list(item.differs),
        "deployed_image_uri": item.deployed_image,
        "release": item.release,
        "depth": _depth_json(item, queue),
        "dlq_depth": _depth_json(item, dlq),
        "delivery_dlq_depth": _depth_json(item, delivery_dlq),
    }


def _depth_json(item: RulesetState, queue: str) -> dict[str, int] | None:
    depth = (item.depths or {}).get(queue)
    return {"visible": depth.visible, "in_flight": depth.in_flight, "delayed": depth.delayed} if depth else None
