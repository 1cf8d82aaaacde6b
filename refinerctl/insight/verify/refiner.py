"""The checks that only stack refiner has; its `Stack.checks` names this module.

They are here and not in stacks/, as stacks/ imports no room: forwarding between event buses, prefixes, recorded ARNs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations

from refinerctl.aws.event_pattern import all_of, pattern_matches
from refinerctl.console import counted
from refinerctl.insight.findings import Finding, failed, passed, skipped, warned
from refinerctl.insight.verify.checks import Section, judged, known
from refinerctl.insight.verify.delivery import (
    OTHER_BUCKET,
    dlq_may_receive,
    enabled,
    has_dlq,
    pattern_rejected,
    rule_context,
    sends_once,
    target_of,
)
from refinerctl.insight.verify.permissions import EVENTS, check_role
from refinerctl.insight.verify.samples import event, matches_all, matches_any
from refinerctl.insight.verify.snapshot import FUNCTION, MAPPINGS, ROLE, Snapshot, name_of
from refinerctl.stacks.base import CompletionPlace, Component, EventBus, EventRule, Function, Stage

SECTION = Section("Stack refiner")
_OWN_PREFIXES = ("REFINER_INPUT_PREFIX", "REFINER_OUTPUT_PREFIX", "REFINER_COMPLETE_PREFIX")
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


SECTION.check(
    "forward-rule",
    EventRule,
    EventBus,
    why="S3 sends its events to the default event bus only; this rule forwards them to the pipeline's event bus.",
    fix="`aws events enable-rule --name RULE`, or `refinerctl deploy`.",
)(enabled)


@SECTION.check(
    "forward-pattern",
    EventRule,
    EventBus,
    why="An event that the rule does not match reaches no ruleset.",
    details="Evaluated like `rule-pattern`, below each ruleset's prefix. Warns about events of other buckets.",
)
def _forward_pattern(snapshot: Snapshot, rule: EventRule, _bus: EventBus) -> Finding:
    pattern = known(snapshot.rule(rule)).pattern
    if rejected := pattern_rejected(rule, pattern):
        return rejected
    verdict = all_of(matches_all(snapshot, pattern, prefix) for prefix in snapshot.prefixes or [""])
    if verdict and pattern_matches(pattern, event(snapshot, "x", bucket=OTHER_BUCKET)):
        return warned(f"rule {rule.name} also forwards events of other buckets: {pattern}")
    objects = f"objects that are created in bucket {snapshot.bucket}"
    return judged(
        verdict,
        f"rule {rule.name} matches all {objects}",
        f"rule {rule.name} does not match all {objects}: {pattern}",
        f"refinerctl cannot evaluate the pattern of rule {rule.name}: {pattern}",
    )


SECTION.check(
    "forward-target",
    EventRule,
    EventBus,
    why="Each event must reach the pipeline's event bus once.",
    details="Like `rule-target`.",
)(sends_once)


@SECTION.check(
    "forward-role",
    EventRule,
    EventBus,
    why="EventBridge needs the role to put events on another event bus; without it no input is processed.",
    details="Evaluates the role's trust policy, its policies and boundary, and the event bus's policy.",
)
def _forward_role(snapshot: Snapshot, rule: EventRule, bus: EventBus) -> Finding:
    settings, target_bus = known(snapshot.rule(rule)), known(snapshot.settings(bus))
    role_arn = target_of(snapshot, rule, bus).role_arn
    if role_arn is None:
        return failed(f"the target of rule {rule.name} has no role")
    calls = [("events:PutEvents", target_bus.arn)]
    role = snapshot.get(ROLE, name_of(role_arn))
    return check_role(role, EVENTS, rule_context(snapshot, settings), calls, [target_bus.policy])


SECTION.check("forward-dlq", EventRule, EventBus, why="An event that cannot be forwarded would be lost.")(has_dlq)
SECTION.check(
    "forward-dlq-policy",
    EventRule,
    EventBus,
    why="A DLQ that the rule may not send to receives nothing: the event is lost.",
)(dlq_may_receive)


@SECTION.check(
    "loops",
    why="A function that its own outputs start never stops, and each invocation is billed.",
    fix="Give the ruleset a prefix that does not overlap with the outputs and completions, and deploy.",
    details="Evaluates the rules' deployed patterns on keys below the prefixes that the functions write to.",
)
def _loops(snapshot: Snapshot) -> Finding:
    with_function = [stage for stage in snapshot.pipeline.stages if stage.consumer is not None]
    unknown = set()
    # Most functions write to the same prefixes: check each combination once.
    for prefixes, writer in {_writes(snapshot, stage): stage for stage in reversed(with_function)}.items():
        for reader in with_function:
            rule = snapshot.rule(reader.source).value if isinstance(reader.source, EventRule) else None
            if rule is None or not rule.is_enabled:
                continue
            started = matches_any(snapshot, rule.pattern, prefixes)
            if started:
                return failed(f"what {writer.name} writes below {' or '.join(prefixes)} starts {reader.name} again")
            if started is None:
                unknown.add(rule.name)
    if unknown:
        return warned(f"refinerctl cannot evaluate the patterns of {', '.join(sorted(unknown))}")
    return passed("no function is started by what a function writes")


def _writes(snapshot: Snapshot, stage: Stage) -> tuple[str, ...]:
    """Where the stage's function writes: by its environment variables, else by the stack's values."""
    function = stage.consumer and snapshot.get(FUNCTION, stage.consumer.name).value
    environment = function.environment if function else {}
    given = (environment.get(f"REFINER_{name}_PREFIX") for name in ("OUTPUT", "COMPLETE"))
    return tuple(own.removeprefix("/") if own else other for own, other in zip(given, stage.writes, strict=True))


@SECTION.check(
    "prefix-overlap",
    why="An input below both prefixes is processed twice.",
    fix="Give one of the rulesets another prefix, and deploy.",
)
def _prefix_overlap(snapshot: Snapshot) -> Finding:
    prefixes = [(stage.name, stage.prefix) for stage in snapshot.pipeline.stages if stage.prefix is not None]
    for (inner_name, inner), (outer_name, outer) in permutations(prefixes, 2):
        if inner.startswith(outer):
            return failed(f"prefix {inner} of {inner_name} is below {outer} of {outer_name}")
    return passed(f"{len(prefixes)} prefixes, none is below another")


@SECTION.check(
    "completion-overlap",
    why="If two inputs have the same completion key, the later completion replaces the earlier one.",
    fix="Give each ruleset its own REFINER_COMPLETE_PREFIX in its `environment`, and deploy.",
    details="Compares the prefix and suffix of completions in the functions' environment variables, as this "
    "repository's image uses them.",
)
def _completion_overlap(snapshot: Snapshot) -> Finding:
    places = [
        (stage.name, _completions(snapshot, stage, stage.completions))
        for stage in snapshot.pipeline.stages
        if stage.completions is not None
    ]
    for (one_name, one), (other_name, other) in combinations(places, 2):
        if one.overlaps(other):
            return failed(f"completions of {one_name} and {other_name} can have the same key: {one} and {other}")
    return passed(f"{counted(len(places), 'function')}, whose completions have different keys")


def _completions(snapshot: Snapshot, stage: Stage, place: CompletionPlace) -> CompletionPlace:
    """By the environment variables of the stage's function, else by the stack's values."""
    function = stage.consumer and snapshot.get(FUNCTION, stage.consumer.name).value
    if not function or "REFINER_COMPLETE_PREFIX" not in function.environment:
        return place
    suffix = function.environment.get("REFINER_COMPLETE_SUFFIX") or ".json"  # the image's default
    return CompletionPlace(_writes(snapshot, stage)[1], suffix)


@SECTION.check(
    "function-environment",
    Function,
    why="The role of a function denies access to a prefix or bucket that is only in its environment variables.",
    fix="Correct `environment` or `read_access` of the ruleset, and deploy.",
    details="Fails if a `REFINER_*` prefix is not the ruleset's. Warns if another variable, whose name ends in "
    "`_PREFIX` or contains `BUCKET`, has a prefix or a bucket that the role may not read.",
)
def _function_environment(snapshot: Snapshot, function: Function) -> Finding | None:
    stage, given = snapshot.stage_of(function), known(snapshot.get(FUNCTION, function.name)).environment
    if stage.prefix is None:
        return None
    declared = dict(zip(_OWN_PREFIXES, (stage.prefix, *stage.writes), strict=True))
    for name, prefix in declared.items():
        if given.get(name, prefix).removeprefix("/") != prefix:
            return failed(f"{name} of {function.name} is {given[name]}, but its ruleset has {prefix}")
    places = [*((snapshot.bucket, prefix) for prefix in declared.values()), *stage.read_places]
    unread = [
        f"{name} is {value}"
        for name, value in sorted(given.items())
        if name not in declared and not _may_be_read(name, value, places)
    ]
    if unread:
        return warned(f"the role of {function.name} may not read what its environment names: {', '.join(unread)}")
    return passed(f"the prefixes and buckets in the environment of {function.name} match its ruleset")


def _may_be_read(name: str, value: str, places: Sequence[tuple[str | None, str]]) -> bool:
    """Also what names neither a prefix nor a bucket."""
    if name.endswith("_PREFIX") and value.endswith("/") and "://" not in value:
        return any(value.removeprefix("/").startswith(prefix) for _, prefix in places)
    if "BUCKET" in name and _BUCKET_NAME.fullmatch(value):
        return any(value == bucket for bucket, _ in places)
    return True


@SECTION.check(
    "outputs-match",
    why="Commands that read Terraform's outputs would work on other resources than those that run.",
    fix="`refinerctl drift` shows more; `refinerctl deploy` creates what is missing and records it.",
    details="Compares the ARNs and ids of what exists; skipped if the names come from the environment's values.",
)
def _outputs_match(snapshot: Snapshot) -> Finding:
    pipeline = snapshot.pipeline
    if not pipeline.recorded:
        return skipped(f"the names come from {pipeline.told_by}")
    forward, bus = next(
        (source, target)
        for source, target in pipeline.edges
        if isinstance(source, EventRule) and isinstance(target, EventBus)
    )
    shared: dict[str, Component | None] = {"bus_arn": bus, "forward_rule_arn": forward, "forward_dlq_arn": forward.dlq}
    differences = list(_differences(pipeline.recorded, {name: snapshot.arn(item) for name, item in shared.items()}))
    for stage in pipeline.stages:
        differences += _differences(stage.recorded, _stage_arns(snapshot, stage), f"{stage.name}: ")
    if differences:
        return failed("; ".join(differences))
    return passed("what exists is what Terraform recorded")


def _differences(recorded: Mapping[str, str], found: Mapping[str, str | None], of: str = "") -> Iterator[str]:
    """What does not exist at all is reported by other checks."""
    for name, arn in found.items():
        if arn and arn != recorded.get(name, arn):
            yield f"{of}{name} is {arn}, but {recorded[name]} is recorded"


def _stage_arns(snapshot: Snapshot, stage: Stage) -> dict[str, str | None]:
    name = stage.consumer.name if stage.consumer else ""
    function = snapshot.get(FUNCTION, name).value
    mappings = [item.uuid for item in snapshot.get(MAPPINGS, name).value or ()]
    recorded = stage.recorded.get("event_source_mapping_id")
    return {
        "rule_arn": snapshot.arn(stage.source),
        "queue_arn": snapshot.arn(stage.queue),
        "dlq_arn": snapshot.arn(stage.queue and stage.queue.dlq),
        "delivery_dlq_arn": snapshot.arn(stage.delivery_dlq),
        "function_arn": snapshot.arn(stage.consumer),
        "role_arn": function.role_arn if function else None,
        "event_source_mapping_id": recorded if recorded in mappings else next(iter(mappings), None),
    }
