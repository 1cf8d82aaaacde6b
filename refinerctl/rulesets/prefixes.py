"""`refinerctl prefixes`: rulesets as configured in the environment's values and as deployed in AWS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.sqs import QueueState
from refinerctl.console import Cell
from refinerctl.errors import NotFoundError, RefinerctlError, UsageError
from refinerctl.images import ImageReference
from refinerctl.ledger.entries import Release, deployed
from refinerctl.options import examples, global_options
from refinerctl.parallel import concurrently
from refinerctl.rulesets.edit import ruleset_values
from refinerctl.rulesets.model import Ruleset, RulesetValues
from refinerctl.stacks.base import Stage
from refinerctl.stacks.refiner import ruleset_stage

if TYPE_CHECKING:
    from refinerctl.aws.events import EventBuses, RuleSettings
    from refinerctl.aws.lambda_ import FunctionConfiguration, Functions
    from refinerctl.aws.sqs import Queues

THREADS = 32
COLUMNS = {"NAME": 0, "PREFIX": 1, "DEPLOYED": 0, "IMAGE": 5, "RELEASE": 3, "QUEUE": 4, "DLQ": 2}

Result = TypeVar("Result")


@click.command(epilog=examples("refinerctl prefixes", "refinerctl prefixes --env production --output json"))
@global_options
@click.pass_context
def prefixes(ctx: click.Context) -> None:
    """List the rulesets as configured and as deployed, and how these differ."""
    app = app_context(ctx)
    values = ruleset_values(app)
    app.render.detail(f"environment {app.settings.env}, event bus {values.bus_name}")
    if app.is_down:
        app.render.warning(f"environment {app.settings.env} is down: only the configured rulesets are shown")
        found = [_json(values.stage(ruleset), ruleset.image_uri) for _, ruleset in sorted(values.rulesets.items())]
    else:
        found = compare(values, app.event_buses, app.queues, app.functions, _release(app))
    if app.render.is_json:
        app.render.json({"rulesets": found})
        return
    app.render.table(COLUMNS, [_row(item) for item in found])
    for item in found:
        for difference in item["differs"]:
            app.render.note(f"{item['name']}: {difference}")


def _release(app: AppContext) -> Release | None:
    """The release of the ledger; a warning if it cannot be read."""
    try:
        return deployed(app.ledger.read())
    except RefinerctlError as error:
        app.render.warning(f"the deployed release is unknown: {error.message}")
        return None


def compare(
    values: RulesetValues, buses: EventBuses, queues: Queues, functions: Functions, release: Release | None
) -> list[dict[str, Any]]:
    """All rulesets in the contract's form, configured or deployed, by name. Everything is read at the same time.

    The rules of the event bus whose names begin with the stack's `name_prefix` tell what is deployed.
    """
    rules = {rule.name: rule for rule in _if_exists(partial(buses.rules, values.bus_name)) or ()}
    stages = {name: values.stage(ruleset) for name, ruleset in values.rulesets.items()}
    stages |= dict(_unconfigured(rules, stages, values))
    reads = [partial(_state, stage, values, rules, queues, functions, release) for _, stage in sorted(stages.items())]
    return concurrently(reads, THREADS)


def _if_exists(read: Callable[[], Result]) -> Result | None:
    try:
        return read()
    except NotFoundError:
        return None


def _unconfigured(
    rules: dict[str, RuleSettings], known: Mapping[str, Stage], values: RulesetValues
) -> Iterator[tuple[str, Stage]]:
    start = f"{values.name_prefix}-"
    for rule in rules.values():
        name = rule.name.removeprefix(start)
        if rule.name.startswith(start) and name not in known:
            prefix = " ".join(_prefixes(rule))
            yield name, ruleset_stage(name, prefix, rule.name, values.bus_name, has_function=True)


def _state(
    stage: Stage,
    values: RulesetValues,
    rules: Mapping[str, RuleSettings],
    queues: Queues,
    functions: Functions,
    release: Release | None,
) -> dict[str, Any]:
    ruleset = values.rulesets.get(stage.name)
    read = {queue.name: _if_exists(partial(queues.state, queue.name)) for queue in stage.queues}
    depths = {name: depth for name, depth in read.items() if depth is not None}
    # Also of a completion ruleset: a function that it should not have is a difference.
    function = _if_exists(partial(functions.get, stage.queue.name)) if stage.queue else None
    image = function.image_uri if function else None
    rule = rules.get(stage.source.name) if stage.source else None
    differs: Iterable[str]
    if ruleset is None:
        differs = ["deployed, but not configured"]
        stage = replace(stage, consumer=stage.consumer if function else None)
    elif rule is None:
        differs = [f"rule {values.name_prefix}-{ruleset.name} does not exist" if depths else "not deployed"]
    else:
        missing, others = _missing(stage, depths, function), _differences(ruleset, rule, function, values, release)
        differs = (*missing, *others)
    recorded = release.images.get(stage.name) if release else None
    is_recorded = bool(image and recorded and not _is_other_image(recorded, image))
    return _json(
        stage,
        ruleset.image_uri if ruleset else image,
        configured=ruleset is not None,
        deployed=rule is not None,
        differs=list(differs),
        deployed_image_uri=image,
        release=release.tag if release and is_recorded else None,
        depths=depths,
    )


def _json(
    stage: Stage, image_uri: str | None, depths: Mapping[str, QueueState] | None = None, **state: Any
) -> dict[str, Any]:
    """A ruleset in the contract's form; without `state` only what is configured."""
    queue, dlq, delivery_dlq = (queue.name for queue in stage.queues)
    counts = {
        name: {"visible": d.visible, "in_flight": d.in_flight, "delayed": d.delayed}
        for name, d in (depths or {}).items()
    }
    return {
        "name": stage.name,
        "prefix": stage.prefix,
        "image_uri": image_uri,
        "queue": queue,
        "dlq": dlq,
        "delivery_dlq": delivery_dlq,
        "function": stage.consumer.name if stage.consumer else None,
        "completions": stage.completions._asdict() if stage.completions else None,
        "configured": True,
        "deployed": None,
        "differs": [],
        "deployed_image_uri": None,
        "release": None,
        **state,
        "depth": counts.get(queue),
        "dlq_depth": counts.get(dlq),
        "delivery_dlq_depth": counts.get(delivery_dlq),
    }


def _row(item: dict[str, Any]) -> list[Cell | str]:
    dead = [sum(depth.values()) for depth in (item["dlq_depth"], item["delivery_dlq_depth"]) if depth]
    deployed = {True: "differs" if item["differs"] else "yes", False: "no", None: "unknown"}[item["deployed"]]
    depth = str(sum(item["depth"].values())) if item["depth"] else "unknown"
    release = item["release"] or ("unknown" if item["image_uri"] else "-")
    names = [item["name"], item["prefix"] or "unknown", (deployed, deployed in ("differs", "no"))]
    dead_cell = (str(sum(dead)), any(dead)) if dead else "unknown"
    return [*names, item["image_uri"] or "none", release, depth, dead_cell]


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
