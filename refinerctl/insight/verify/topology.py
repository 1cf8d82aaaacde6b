"""The pipeline as a whole: prefixes, loops, limits, and whether it is the one that Terraform made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import permutations

from refinerctl.aws.events import BusSettings, RuleSettings
from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.sqs import QueueSettings
from refinerctl.insight.verify.framework import CannotTellError, Check, failed, known, passed, warned
from refinerctl.insight.verify.samples import takes_any
from refinerctl.insight.verify.types import Finding, RulesetSnapshot, Snapshot
from refinerctl.rulesets.model import RULES_PER_BUS

NEAR = 0.8
# A new account starts with as little as 10: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LOW_CONCURRENCY = 50


def _loops(snapshot: Snapshot) -> Finding:
    with_function = [ruleset for ruleset in snapshot.rulesets if ruleset.names.function]
    unknown = []
    # Most write to the same place: once for each is enough.
    for results, writer in {_results(snapshot, ruleset): ruleset for ruleset in reversed(with_function)}.items():
        for reader in with_function:
            rule = reader.rule
            if not isinstance(rule, RuleSettings) or not rule.is_enabled:
                continue
            fed = takes_any(snapshot, rule.pattern, results)
            if fed:
                return failed(
                    f"what {writer.names.name} writes below {' or '.join(results)} starts {reader.names.name} again"
                )
            if fed is None:
                unknown.append(rule.name)
    if unknown:
        return warned(f"the patterns of {', '.join(sorted(set(unknown)))} cannot be evaluated here")
    return passed("no function is started by what a function writes")


def _results(snapshot: Snapshot, ruleset: RulesetSnapshot) -> tuple[str, ...]:
    """Where the function writes, by its own configuration."""
    names, function = snapshot.names, ruleset.function
    environment = function.environment if isinstance(function, FunctionConfiguration) else {}
    given = (
        environment.get("REFINER_OUTPUT_PREFIX") or names.output_prefix,
        environment.get("REFINER_COMPLETE_PREFIX") or names.complete_prefix,
    )
    return tuple(prefix.removeprefix("/") for prefix in given)


def _overlap(snapshot: Snapshot) -> Finding:
    names = [ruleset.names for ruleset in snapshot.rulesets]
    for inner, outer in permutations(names, 2):
        if inner.prefix.startswith(outer.prefix):
            return failed(f"{inner.prefix} of {inner.name} lies in {outer.prefix} of {outer.name}")
    return passed(f"{len(names)} prefixes, none in another")


def _quota_rules(snapshot: Snapshot) -> Finding:
    counts = {bus: len(known(rules)) for bus, rules in snapshot.rules.items()}
    listed = ", ".join(f"bus {bus} has {count} of {RULES_PER_BUS} rules" for bus, count in sorted(counts.items()))
    seen = f"{listed}, if the quota is the one that an account starts with"
    if any(count >= NEAR * RULES_PER_BUS for count in counts.values()):
        return warned(seen)
    return passed(seen)


def _quota_concurrency(snapshot: Snapshot) -> Finding:
    concurrency = known(snapshot.concurrency)
    seen = f"{concurrency.unreserved} of the account's {concurrency.limit} concurrent executions are unreserved"
    wanted = sum(
        mapping.max_concurrency or 0
        for ruleset in snapshot.rulesets
        if isinstance(ruleset.mappings, tuple)
        and isinstance(ruleset.function, FunctionConfiguration)
        and ruleset.function.reserved_concurrency is None
        for mapping in ruleset.mappings
    )
    if wanted > concurrency.unreserved:
        return warned(f"{seen}; the functions may want {wanted}")
    if concurrency.unreserved < LOW_CONCURRENCY:
        return warned(seen)
    return passed(seen)


def _outputs(snapshot: Snapshot) -> Finding:
    if not snapshot.names.arns:
        raise CannotTellError(f"the names come from {snapshot.names.source}")
    differences = list(_differences(snapshot.names.arns, _pipeline_arns(snapshot)))
    for ruleset in snapshot.rulesets:
        differences += _differences(ruleset.names.arns, _ruleset_arns(ruleset), f"{ruleset.names.name}: ")
    if differences:
        return failed("; ".join(differences))
    return passed("what Terraform has recorded is what is there")


def _differences(recorded: Mapping[str, str], found: Mapping[str, tuple[str, ...]], of: str = "") -> Iterator[str]:
    """What is not there at all is another check's to say."""
    for name, arns in found.items():
        if name in recorded and arns and recorded[name] not in arns:
            yield f"{of}{name} is {' or '.join(arns)}, recorded is {recorded[name]}"


def _pipeline_arns(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    return {
        "bus_arn": _arn(snapshot.bus),
        "forward_rule_arn": _arn(snapshot.forward_rule),
        "forward_dlq_arn": _arn(snapshot.forward_dlq),
    }


def _ruleset_arns(ruleset: RulesetSnapshot) -> dict[str, tuple[str, ...]]:
    function, mappings = ruleset.function, ruleset.mappings
    return {
        "rule_arn": _arn(ruleset.rule),
        "queue_arn": _arn(ruleset.queue),
        "dlq_arn": _arn(ruleset.dlq),
        "delivery_dlq_arn": _arn(ruleset.delivery_dlq),
        "function_arn": _arn(function),
        "role_arn": (function.role_arn,) if isinstance(function, FunctionConfiguration) else (),
        "event_source_mapping_id": tuple(item.uuid for item in mappings) if isinstance(mappings, tuple) else (),
    }


def _arn(answer: object) -> tuple[str, ...]:
    return (
        (answer.arn,) if isinstance(answer, BusSettings | RuleSettings | QueueSettings | FunctionConfiguration) else ()
    )


CHECKS = (
    Check(
        "loops",
        "A function that is started by its own outputs never stops, and is paid for each time.",
        "Give the ruleset a prefix apart from the outputs and completions, and deploy.",
        of_pipeline=_loops,
    ),
    Check(
        "prefix-overlap",
        "An input below both is processed twice.",
        "Give one of the rulesets another prefix, and deploy.",
        of_pipeline=_overlap,
    ),
    Check(
        "quota-rules",
        "A bus that is full takes no further ruleset.",
        "Ask for a higher quota in Service Quotas: EventBridge, rules per event bus.",
        of_pipeline=_quota_rules,
    ),
    Check(
        "quota-concurrency",
        "Functions that find no free execution are throttled: inputs wait, and may die.",
        "Ask for a higher quota in Service Quotas: Lambda, concurrent executions; or lower max_concurrency.",
        of_pipeline=_quota_concurrency,
    ),
    Check(
        "outputs-match",
        "Commands that read Terraform's outputs would work on something else than what runs.",
        "`refinerctl drift` shows more; `refinerctl deploy` makes what is missing and records it.",
        of_pipeline=_outputs,
    ),
)
