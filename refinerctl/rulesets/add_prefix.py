"""A ruleset more in an environment's values: checked as a whole before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from refinerctl.errors import RefusedError
from refinerctl.rulesets.file_edit import FileEdit
from refinerctl.rulesets.model import (
    RULES_PER_BUS,
    Ruleset,
    StackValues,
    check_fits,
    check_form,
    check_registry,
    default_name,
    differences,
)
from refinerctl.rulesets.values_file import ValuesFile


@dataclass(frozen=True)
class AdditionRequest:
    """A ruleset to add. `settings` are those that were given, by the stack's names; `image_uri` None for completions.

    `region` is the one that the functions are in, where the values do not say it. `any_registry`: it is no account, and
    takes images from wherever they are said to be.
    """

    prefix: str
    image_uri: str | None
    name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    region: str | None = None
    any_registry: bool = False
    rule_quota: int = RULES_PER_BUS


@dataclass(frozen=True)
class Addition:
    """A ruleset, and how its file is to change. Without `edit` it is there already."""

    ruleset: Ruleset
    values: StackValues
    edit: FileEdit | None
    notes: tuple[str, ...] = ()


def plan_addition(request: AdditionRequest, file: ValuesFile) -> Addition:
    """What to write; nothing is written yet.

    Raises UsageError for what no stack would take, RefusedError if the name or prefix is taken by something else, if
    prefixes overlap or make a loop, or if the image is where Lambda does not take it from.
    """
    values = file.read()
    wanted = {"image_uri": request.image_uri, **request.settings}
    ruleset = Ruleset(request.name or default_name(request.prefix), request.prefix, **wanted)
    if (there := _there(request, ruleset, values)) is not None:
        if differs := differences(wanted, there):
            raise RefusedError(
                f"ruleset {there.name} has prefix {there.prefix} already, with other settings: {'; '.join(differs)}",
                hint=f"Edit {file.path}, or take the ruleset out first: refinerctl remove-prefix {there.name}",
            )
        return Addition(there, values, None)
    check_form(ruleset, values.name_prefix)
    check_fits(ruleset, values, request.rule_quota)
    if ruleset.image_uri is not None and not request.any_registry:
        check_registry(ruleset.image_uri, values.region or request.region)
    entry = {"prefix": ruleset.prefix, **{name: value for name, value in wanted.items() if value is not None}}
    return Addition(ruleset, values, file.add(ruleset.name, entry), tuple(_notes(ruleset, values, request.rule_quota)))


def _there(request: AdditionRequest, ruleset: Ruleset, values: StackValues) -> Ruleset | None:
    """The ruleset of that very prefix, if it may have the name that it has."""
    same = next((other for other in values.rulesets.values() if other.prefix == ruleset.prefix), None)
    return same if same and request.name in (None, same.name) else None


_SECRET_WORDS = ("PASSWORD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE_KEY", "API_KEY")


def _notes(ruleset: Ruleset, values: StackValues, rule_quota: int) -> Iterator[str]:
    for name in ruleset.environment:
        if any(word in name.upper() for word in _SECRET_WORDS):
            yield f"{name} looks like a secret: whoever reads the repository or the function sees it"
    rules = len(values.rulesets) + 1
    if rules > 0.9 * rule_quota:
        yield f"event bus {values.bus_name} has {rules} rules then; its quota is {rule_quota}"
    if ruleset.image_uri is None and not values.complete_prefix.startswith(ruleset.prefix):
        yield f"nothing consumes the queue of {ruleset.name}: whoever comes downstream has to"
