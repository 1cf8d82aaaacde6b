"""Values that differ in a plan, and sensitive ones, which are left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refinerctl.terraform.plan_values import ValueChange, value_changes


def found(before: Any, after: Any, **more: Any) -> tuple[ValueChange, ...]:
    return value_changes({"before": {"a": before}, "after": {"a": after}, **more}, ["a"])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (900, 60, [("a", 900, 60)]),
        ({"x": 1, "y": 2}, {"x": 1, "z": 3}, [("a.y", 2, None), ("a.z", None, 3)]),
        ([{"x": 1}], [{"x": 2}], [("a.x", 1, 2)]),
        ([], [{"x": 2}], [("a.x", None, 2)]),
        ([{"x": 1}, {"x": 2}], [{"x": 1}, {"x": 3}], [("a[1].x", 2, 3)]),
        ([{"x": 1}, {"x": 2}], [{"x": 1}], [("a", [{"x": 1}, {"x": 2}], [{"x": 1}])]),
        (["x"], ["x", "y"], [("a", ["x"], ["x", "y"])]),
        (None, "new", [("a", None, "new")]),
        ("", None, []),
        ('{"b": [1, 2]}', '{"b": [1, 3]}', [("a.b", [1, 2], [1, 3])]),
        ("{no JSON", "{none", [("a", "{no JSON", "{none")]),
    ],
)
def test_values_have_the_path_of_what_differs(before: Any, after: Any, expected: list[tuple[str, Any, Any]]) -> None:
    assert found(before, after) == tuple(ValueChange(*item) for item in expected)


def test_objects_with_names_are_compared_by_them_in_json() -> None:
    def containers(*variables: tuple[str, str]) -> str:
        environment = [{"name": name, "value": value} for name, value in variables]
        return json.dumps([{"name": "worker", "environment": environment}])

    before, after = containers(("LEVEL", "info"), ("SIZE", "1")), containers(("SIZE", "1"), ("LEVEL", "debug"))
    assert found(before, after) == (ValueChange("a.worker.environment.LEVEL.value", "info", "debug"),)


class TestSensitive:
    @pytest.mark.parametrize("side", ["before_sensitive", "after_sensitive"])
    @pytest.mark.parametrize("mask", [True, {"a": True}, {"a": [{"x": True}]}])
    def test_values_that_terraform_marks_as_sensitive_are_left_out(self, side: str, mask: Any) -> None:
        (value,) = found([{"x": "hush"}], [{"x": "hush-hush"}], **{side: mask})
        assert value.path in ("a", "a.x")
        assert (value.before, value.after, value.is_sensitive) == (None, None, True)

    def test_a_sensitive_part_hides_a_value_that_is_shown_whole(self) -> None:
        mask = {"a": [{}, {"x": True}]}
        assert found([{"x": 1}, {"x": "hush"}], [{"x": 1}], before_sensitive=mask) == (
            ValueChange("a", is_sensitive=True),
        )

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ({"DB_PASSWORD": "hush"}, {"DB_PASSWORD": "hush-hush"}),
            ({"URL": "amqps://user:hush@host"}, {"URL": "amqps://host"}),
            ([{"key": "api_key", "v": "hush"}, {"v": 1}], []),
            ('[{"name": "x", "secrets": {"A": "hush"}}]', "[]"),
            ([{"name": "DB_PASSWORD", "value": "hush"}], [{"name": "DB_PASSWORD", "value": "hush-hush"}]),
            ({"DB_PASS": "hush"}, {"ACCESS_KEY": "hush"}),
        ],
    )
    def test_values_named_like_a_secret_or_with_a_login_are_left_out(self, before: Any, after: Any) -> None:
        values = found(before, after)
        assert values
        assert "hush" not in repr(values)

    @pytest.mark.parametrize(
        "before", [{"DB_PASSWORD": "hush"}, '[{"name": "w", "environment": [{"name": "TOKEN", "value": "hush"}]}]']
    )
    def test_a_secret_that_an_unknown_value_replaces_is_left_out(self, before: Any) -> None:
        assert found(before, None, after_unknown={"a": True}) == (ValueChange("a", is_sensitive=True, is_unknown=True),)

    def test_an_unknown_value_is_left_out_if_it_is_sensitive(self) -> None:
        more: dict[str, Any] = {"after_unknown": {"a": True}}
        assert found("old", None, **more) == (ValueChange("a", "old", is_unknown=True),)
        assert found("hush", None, before_sensitive={"a": True}, **more) == (
            ValueChange("a", is_sensitive=True, is_unknown=True),
        )
