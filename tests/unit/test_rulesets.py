"""What a new ruleset has to keep to; that the stack says the same is tested in integration."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.rulesets.model import (
    Ruleset,
    StackValues,
    check_fits,
    check_form,
    check_registry,
    default_name,
    differences,
    queue_for,
)

DEFAULTS: dict[str, Any] = {
    "rulesets": {"In": {"prefix": "/In/", "image_uri": "repo"}, "Done": {"prefix": "Done/", "image_uri": None}},
    "name_prefix": "np",
    "output_prefix": "/Out/",
    "complete_prefix": "/Done/",
    "bus_name": "bus",
    "function_environment": {},
}
VALUES = StackValues.of({}, DEFAULTS)
NEW = Ruleset("New", "New/", "repo:v1")


def test_values_win_over_defaults_but_null_does_not() -> None:
    values = StackValues.of({"bus_name": "other", "name_prefix": None}, DEFAULTS)
    assert (values.bus_name, values.name_prefix, values.output_prefix) == ("other", "np", "Out/")
    assert values.rulesets["In"] == Ruleset("In", "In/", "repo")
    assert values.names(values.rulesets["In"]).dlq == "np-In-dlq"
    assert not values.names(values.rulesets["Done"]).has_function


@pytest.mark.parametrize("rulesets", [{"A": {}}, {"A": None}, ["A"], {"A": {"prefix": "a/"}, "B": 1}])
def test_rulesets_that_are_none(rulesets: Any) -> None:
    with pytest.raises(RefinerctlError, match="rulesets cannot be read"):
        StackValues.of({"rulesets": rulesets}, DEFAULTS)


def test_a_stack_without_rulesets() -> None:
    with pytest.raises(UsageError, match="has no rulesets"):
        StackValues.of({}, {"name_prefix": "np"})


def test_the_stacks_defaults_are_ours(root: Path) -> None:
    text = (root / "terraform" / "stacks" / "refiner" / "variables.tf").read_text(encoding="utf-8")
    of_stack = dict(re.findall(r'^ {4}(\w+) += optional\(\w+, "?(\w+)"?\)$', text, re.MULTILINE))
    ours = {item.name: str(item.default) for item in fields(Ruleset) if isinstance(item.default, int | str)}
    assert of_stack == ours


@pytest.mark.parametrize(
    ("name_or_prefix", "found"),
    [("In", "In"), ("/In/", "In"), ("Done/", "Done"), ("in", None), ("I", None)],
)
def test_a_ruleset_is_found_by_name_or_prefix(name_or_prefix: str, found: str | None) -> None:
    ruleset = VALUES.find(name_or_prefix)
    assert (ruleset.name if ruleset else None) == found


@pytest.mark.parametrize(
    ("prefix", "name"), [("team/MyNew/", "team-MyNew"), ("a b/ü/c/", "a-b-c"), ("x.y/", "x-y"), ("-/a/", "a")]
)
def test_a_name_after_the_prefix(prefix: str, name: str) -> None:
    assert default_name(prefix) == name


def test_a_prefix_that_makes_no_name() -> None:
    with pytest.raises(UsageError, match="makes no name"):
        default_name("ü/")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prefix": "e\u0301/"}, "normal form C"),
        ({"prefix": "€" * 400 + "/"}, "has 1202 bytes; S3 takes 1024"),
        ({"prefix": "x" * 512 + "/"}, "has 513 characters"),
        ({"prefix": "a\n/"}, "is not a prefix"),
        ({"prefix": "\udc80/"}, "not UTF-8"),
        ({"name": "n" * 62}, "65 characters; AWS takes 64"),
        ({"image_uri": "a:v1@sha256:" + "0" * 64}, "a tag and a digest"),
        ({"image_uri": "Repo"}, "is not an image reference"),
        ({"environment": {"9A": ""}}, "not a variable's name"),
        ({"environment": {"AWS_SESSION_TOKEN": ""}}, "set by Lambda itself"),
        ({"environment": {"REFINER_INPUT_PREFIX": ""}}, "follows from the prefixes"),
    ],
)
def test_forms_that_nobody_takes(change: dict[str, Any], said: str) -> None:
    check_form(NEW, "np")
    with pytest.raises(UsageError, match=said):
        check_form(replace(NEW, **change), "np")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "IN"}, r"ruleset In \(In/\) has that name"),
        ({"prefix": "In/"}, "ruleset In has prefix In/ already"),
        ({"prefix": "In/sub/"}, "overlaps In/ of ruleset In"),
        ({"name": "Forward"}, "own queues have names like Forward"),
        ({"name": "x-Delivery"}, "own queues have names like x-Delivery"),
        ({"prefix": "Out/"}, r"outputs \(Out/\) would be inputs of New \(Out/\): a loop"),
        ({"prefix": "Out/sub/"}, "a loop"),
        ({"environment": {"A1": "x" * 4000}}, r"take 4\d\d\d bytes; Lambda allows 4096"),
    ],
)
def test_what_does_not_go_together(change: dict[str, Any], said: str) -> None:
    check_fits(NEW, VALUES)
    with pytest.raises(RefusedError, match=said):
        check_fits(replace(NEW, **change), VALUES)


def test_a_completion_ruleset_may_take_results() -> None:
    check_fits(Ruleset("Audit", "Out/"), VALUES)


def test_a_loop_that_is_there_already_is_told() -> None:
    values = StackValues.of({"output_prefix": "In/"}, DEFAULTS)
    with pytest.raises(RefusedError, match=r"outputs \(In/\) would be inputs of In"):
        check_fits(NEW, values)


def test_the_buss_quota() -> None:
    check_fits(NEW, VALUES, rule_quota=3)
    with pytest.raises(RefusedError, match="event bus bus would have 3 rules; its quota is 2"):
        check_fits(NEW, VALUES, rule_quota=2)


def test_a_bucket_policy_has_room_for_so_many_roles() -> None:
    many = {f"R{number:02}": {"prefix": f"Prefix{number:02}/", "image_uri": "repo"} for number in range(45)}
    full = {"rulesets": many, "bucket_name": "b" * 30}
    with pytest.raises(RefusedError, match=r"policy of bucket bb+ would have 2\d{4} characters; S3 takes 20480"):
        check_fits(NEW, StackValues.of(full, DEFAULTS))
    check_fits(replace(NEW, image_uri=None), StackValues.of(full, DEFAULTS))
    check_fits(NEW, StackValues.of({**full, "create_bucket": False}, DEFAULTS))


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(RefusedError, match="has that name already; ruleset Done has prefix Done/"):
        check_fits(Ruleset("In", "Done/"), VALUES)


class TestRegistry:
    URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/repo:v1"

    @pytest.mark.parametrize("uri", ["repo", "a/b:v1", URI])
    def test_where_lambda_takes_images_from(self, uri: str) -> None:
        check_registry(uri, "eu-west-1")
        check_registry(uri, None)

    @pytest.mark.parametrize(
        ("uri", "said"),
        [(URI, "is in eu-west-1, and the functions are in"), ("ghcr.io/a", "is not an ECR")],
    )
    def test_where_not(self, uri: str, said: str) -> None:
        with pytest.raises(RefusedError, match=said):
            check_registry(uri, "us-east-1")


def test_only_what_is_wanted_is_compared() -> None:
    there = replace(NEW, memory_mb=2048)
    assert differences({"image_uri": "repo:v1"}, there) == ()
    assert differences({"image_uri": "repo:v2", "memory_mb": 2048}, there) == ("image_uri is 'repo:v1', not 'repo:v2'",)


@pytest.mark.parametrize(
    ("prefix", "queue"), [("team/In/", "np-Odd"), ("team/In/sub/", "np-Odd"), ("team/", None), ("Other/", "np-Other")]
)
def test_the_queue_that_gets_a_prefix(prefix: str, queue: str | None) -> None:
    rulesets = {"Odd": {"prefix": "/team/In/"}, "Other": {"prefix": "Other/"}}
    assert queue_for(prefix, {"rulesets": rulesets}, "np") == queue


@pytest.mark.parametrize("rulesets", [None, [], {"A": {}}, {"A": {"prefix": 1}}, 7])
def test_no_queue_where_nothing_can_be_read(rulesets: Any) -> None:
    assert queue_for("A/", {"rulesets": rulesets}, "np") is None
