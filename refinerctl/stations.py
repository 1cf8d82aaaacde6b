"""The rulesets of the environment, for commands that look at all of them. Part of the composition root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refinerctl.errors import UsageError
from refinerctl.stacks.names import RulesetNames, ruleset_names

if TYPE_CHECKING:
    from refinerctl.app import AppContext


def environment_rulesets(app: AppContext) -> tuple[RulesetNames, ...]:
    """From the environment's values; outside of a project from the prefixes in the settings. Asks nobody."""
    from refinerctl.terraform.hcl import load_values, variable_defaults

    folder = app.settings.project / "terraform"
    module = folder / "stacks" / app.settings.stack
    defaults = variable_defaults(module) if module.is_dir() else {}
    values = load_values(folder / "environments" / app.settings.env / f"{app.settings.stack}.tfvars", missing_ok=True)
    return ruleset_names(values, defaults, app.old_pipeline)


def chosen_rulesets(app: AppContext, names: tuple[str, ...]) -> tuple[RulesetNames, ...]:
    """Those that are named, or all. Raises UsageError for a name that none has."""
    found = {ruleset.name: ruleset for ruleset in environment_rulesets(app)}
    if unknown := [name for name in names if name not in found]:
        raise UsageError(f"there is no ruleset {unknown[0]!r}", hint=f"There are: {', '.join(found)}.")
    return tuple(found[name] for name in names) if names else tuple(found.values())
