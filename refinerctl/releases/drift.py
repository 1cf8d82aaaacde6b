"""How reality, state and configuration differ."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.releases.model import Change, Plan


@dataclass(frozen=True)
class Drift:
    """`outside`: changed without Terraform; `configuration`: what a deployment of the same release would change."""

    env: str
    stack: str
    tag: str | None
    outside: tuple[Change, ...] = ()
    configuration: tuple[Change, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.outside or self.configuration or self.outputs)


def find_drift(plan: Plan) -> Drift:
    """From a plan that keeps the deployed images. What only reverts a change from outside is told once, as that."""
    reverted = {change.address for change in plan.drift}
    configuration = tuple(change for change in plan.changes if change.address not in reverted)
    return Drift(plan.env, plan.stack, plan.tag, plan.drift, configuration, plan.outputs if configuration else ())
