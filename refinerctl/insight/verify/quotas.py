"""Checks of the account's quotas."""

from __future__ import annotations

from refinerctl.aws.events import RULES_PER_BUS
from refinerctl.insight.verify.checks import Finding, Section, known, passed, warned
from refinerctl.insight.verify.snapshot import CONCURRENCY, FUNCTION, MAPPINGS, RULES, Snapshot
from refinerctl.stacks.base import EventBus, Function

NEAR = 0.8
# A new account starts with as few as 10: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LOW_CONCURRENCY = 50

SECTION = Section("Quotas")


@SECTION.check(
    "quota-rules",
    why="A full event bus takes no further rule.",
    fix="Request a higher quota in Service Quotas: EventBridge, rules per event bus.",
    details=f"Warns at {NEAR:.0%} of {RULES_PER_BUS}, the default quota; a higher one of yours is not known.",
)
def _rules(snapshot: Snapshot) -> Finding | None:
    buses = list(snapshot.pipeline.by_kind(EventBus))
    counts = {bus.name: len(known(snapshot.get(RULES, bus.name))) for bus in buses}
    if not counts:
        return None
    listed = ", ".join(f"bus {bus} has {count} of {RULES_PER_BUS} rules" for bus, count in sorted(counts.items()))
    seen = f"{listed}, by the default quota"
    return warned(seen) if any(count >= NEAR * RULES_PER_BUS for count in counts.values()) else passed(seen)


@SECTION.check(
    "quota-concurrency",
    why="Functions without a free execution are throttled: inputs wait, and may move to the DLQ.",
    fix="Request a higher quota in Service Quotas: Lambda, concurrent executions; or lower max_concurrency.",
    details=f"Warns if fewer than {LOW_CONCURRENCY} executions are unreserved, or fewer than all max_concurrency.",
)
def _concurrency(snapshot: Snapshot) -> Finding | None:
    functions = list(snapshot.pipeline.by_kind(Function))
    if not functions:
        return None
    concurrency = known(snapshot.get(CONCURRENCY))
    seen = f"{concurrency.unreserved} of the account's {concurrency.limit} concurrent executions are unreserved"
    wanted = sum(_max_concurrency(snapshot, function) for function in functions)
    if wanted > concurrency.unreserved:
        return warned(f"{seen}; the functions may want {wanted}")
    return warned(seen) if concurrency.unreserved < LOW_CONCURRENCY else passed(seen)


def _max_concurrency(snapshot: Snapshot, function: Function) -> int:
    """What it may take of the unreserved executions."""
    settings = snapshot.get(FUNCTION, function.name).value
    if settings is None or settings.reserved_concurrency is not None:
        return 0
    return sum(mapping.max_concurrency or 0 for mapping in snapshot.get(MAPPINGS, function.name).value or ())
