"""What a new ruleset must satisfy; that Terraform refuses the same is tested in integration."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.rulesets.model import (
    Ruleset,
    RulesetValues,
    check_conflicts,
    check_form,
    check_registry,
    default_name,
)

DEFAULTS: dict[str, Any] = {
    "rulesets": {"In": {"prefix": "/In/", "image_uri": "repo"}, "Done": {"prefix": "Done/", "image_uri": None}},
    "name_prefix": "np",
    "output_prefix": "/Out/",
    "complete_prefix": "/Done/",
    "bus_name": "bus",
    "function_environment": {},
}
VALUES = RulesetValues.of(DEFAULTS)
NEW = Ruleset("New", "New/", "repo:v1")
URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/repo:v1"


def test_values_are_read_without_leading_slashes() -> None:
    assert (VALUES.name_prefix, VALUES.output_prefix) == ("np", "Out/")
    assert VALUES.rulesets["In"] == Ruleset("In", "In/", "repo")


@pytest.mark.parametrize("rulesets", [{"A": {}}, {"A": None}, ["A"], {"A": {"prefix": "a/"}, "B": 1}])
def test_invalid_rulesets_are_an_error(rulesets: Any) -> None:
    with pytest.raises(RefinerctlError, match="rulesets cannot be read"):
        RulesetValues.of({**DEFAULTS, "rulesets": rulesets})


def test_a_stack_without_rulesets_is_an_error() -> None:
    with pytest.raises(UsageError, match="has no rulesets"):
        RulesetValues.of({"name_prefix": "np"})


def test_defaults_equal_those_of_the_stack(root: Path) -> None:
    text = (root / "terraform" / "stacks" / "refiner" / "variables.tf").read_text(encoding="utf-8")
    rulesets = text.partition('variable "rulesets"')[2].partition("\nvariable ")[0]
    of_stack = dict(re.findall(r'^ {4}(\w+) += optional\(\w+, "?(\w+)"?\)$', rulesets, re.MULTILINE))
    ours = {item.name: str(item.default) for item in fields(Ruleset) if isinstance(item.default, int | str)}
    assert of_stack == ours


@pytest.mark.parametrize(
    ("prefix", "name"), [("team/MyNew/", "team-MyNew"), ("a b/ü/c/", "a-b-c"), ("x.y/", "x-y"), ("-/a/", "a")]
)
def test_default_name_follows_the_prefix(prefix: str, name: str) -> None:
    assert default_name(prefix) == name


def test_prefix_without_letters_needs_a_name() -> None:
    with pytest.raises(UsageError, match="cannot derive a ruleset name"):
        default_name("ü/")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prefix": "e\u0301/"}, "normal form C"),
        ({"prefix": "€" * 400 + "/"}, "has 1202 bytes"),
        ({"prefix": "\udc80/"}, "not UTF-8"),
        ({"name": "n" * 62}, "65 characters; AWS accepts 64"),
    ],
)
def test_invalid_form_is_refused(change: dict[str, Any], said: str) -> None:
    check_form(NEW, "np")
    with pytest.raises(UsageError, match=said):
        check_form(replace(NEW, **change), "np")


def test_completion_ruleset_may_read_results() -> None:
    check_conflicts(Ruleset("Audit", "Out/"), VALUES)


def test_all_conflicts_are_reported_at_once_also_those_of_other_rulesets() -> None:
    values = RulesetValues.of({**DEFAULTS, "output_prefix": "In/"})
    said = "already has that name; ruleset Done already has prefix Done/; .*outputs .In/. would be inputs of In"
    with pytest.raises(RefusedError, match=said):
        check_conflicts(Ruleset("In", "Done/"), values)


def in_environment(name: str, **environment: str) -> Ruleset:
    return Ruleset(
        name, f"{name}/", "repo", environment={f"REFINER_{key}": value for key, value in environment.items()}
    )


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (in_environment("New", OUTPUT_PREFIX="/In/x/"), r"outputs .In/x/. would be inputs of In .In/.: a loop"),
        (in_environment("New", COMPLETE_PREFIX="New/x/"), r"completions .New/x/. would be inputs of New"),
        (in_environment("New", COMPLETE_PREFIX="Done/In/"), r"same keys as those of ruleset In .Done/In/….completion"),
        (in_environment("New", COMPLETE_PREFIX="Done/In/x/"), "same keys as those of ruleset In"),
        (in_environment("New", COMPLETE_PREFIX="Done/", COMPLETE_SUFFIX="n"), "same keys as those of ruleset In"),
    ],
)
def test_what_the_environment_of_a_function_says_may_conflict(new: Ruleset, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        check_conflicts(new, VALUES)


def test_a_completion_prefix_of_its_own_is_no_conflict() -> None:
    check_conflicts(in_environment("New", COMPLETE_PREFIX="Other/", COMPLETE_SUFFIX=".json"), VALUES)
    check_conflicts(in_environment("New"), VALUES)


@pytest.mark.parametrize(("uri", "region"), [("repo", "eu-west-1"), (URI, "eu-west-1"), (URI, None)])
def test_ecr_of_the_same_region_is_accepted(uri: str, region: str | None) -> None:
    check_registry(uri, region)
