"""Terraform's JSON of a plan, read as changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.terraform.plan_json import (
    Action,
    Change,
    ImageChange,
    check_images,
    read_changes,
    read_drift,
    read_event_buckets,
    read_images,
    read_outputs,
)
from refinerctl.terraform.plan_values import ValueChange

QUEUE = 'module.rulesets["In"].aws_sqs_queue.this'
FUNCTION = 'module.rulesets["In"].aws_lambda_function.this[0]'
DIGEST = "sha256:" + "a" * 64


def entry(address: str, *actions: str, before: Any = None, after: Any = None, **more: Any) -> dict[str, Any]:
    kind = next(part for part in address.split(".") if part.startswith("aws_"))
    change = {"actions": list(actions), "before": before, "after": after, "after_unknown": {}} | more
    return {"address": address, "mode": "managed", "type": kind, "change": change}


def configuration(module: str, resource: str, *attributes: str) -> dict[str, Any]:
    resources = [{"address": resource, "expressions": {key: {} for key in attributes}}]
    return {"root_module": {"module_calls": {module: {"module": {"resources": resources}}}}}


class TestChanges:
    @pytest.mark.parametrize(
        ("actions", "action"),
        [
            (["create"], Action.CREATE),
            (["update"], Action.UPDATE),
            (["delete"], Action.DESTROY),
            (["delete", "create"], Action.REPLACE),
            (["create", "delete"], Action.REPLACE),
            (["create", "forget"], Action.REPLACE),
            (["forget", "create"], Action.REPLACE),
            (["forget"], Action.FORGET),
        ],
    )
    def test_every_action_is_known(self, actions: list[str], action: Action) -> None:
        (change,) = read_changes({"resource_changes": [entry(QUEUE, *actions, before={}, after={})]})
        assert (change.address, change.type, change.action) == (QUEUE, "aws_sqs_queue", action)

    def test_unchanged_resources_and_data_sources_are_left_out(self) -> None:
        entries = [entry(QUEUE, "no-op"), entry(QUEUE, "read"), entry(QUEUE, "create") | {"mode": "data"}]
        assert read_changes({"resource_changes": entries}) == ()

    def test_unknown_action_is_an_error(self) -> None:
        with pytest.raises(RefinerctlError, match="plans transmogrify for"):
            read_changes({"resource_changes": [entry(QUEUE, "transmogrify")]})

    def test_attributes_are_named_and_sensitive_values_are_left_out(self) -> None:
        change = entry(
            FUNCTION,
            "update",
            before={"memory_size": 1, "environment": [{"variables": {"A": "hush"}}], "architectures": ["arm64"]},
            after={"memory_size": 2, "environment": [{"variables": {"A": "hush-hush"}}], "architectures": ["arm64"]},
            after_unknown={"last_modified": True, "environment": [{"variables": {}}], "architectures": [False]},
            before_sensitive={"environment": [{"variables": {"A": True}}]},
            after_sensitive={"environment": [{"variables": {"A": True}}]},
        )
        (found,) = read_changes({"resource_changes": [change]})
        assert found.attributes == ("environment", "memory_size")
        assert "hush" not in repr(found)
        assert found.values == (
            ValueChange("environment.variables.A", is_sensitive=True),
            ValueChange("memory_size", 1, 2),
        )

    def test_attribute_known_after_apply_is_named_if_it_is_the_only_one(self) -> None:
        before = {"policy": "a", "part": [{"a": 1}]}
        unknown = {"policy": True, "part": [{}]}
        change = entry(QUEUE, "update", before=before, after={"part": [{"a": 1}]}, after_unknown=unknown)
        assert read_changes({"resource_changes": [change]})[0].attributes == ("policy",)

    def test_replacement_names_the_attributes_that_force_it(self) -> None:
        change = entry(
            QUEUE,
            "delete",
            "create",
            before={"name": "a", "arn": "x"},
            after={"name": "b"},
            replace_paths=[["name"], ["tags", "x"]],
        )
        assert read_changes({"resource_changes": [change]})[0].attributes == ("name", "tags")

    def test_outputs_that_change(self) -> None:
        outputs = {"a": {"actions": ["no-op"]}, "b": {"actions": ["update"]}, "c": {"actions": ["create"]}}
        assert read_outputs({"output_changes": outputs}) == ("b", "c")
        assert read_outputs({}) == ()

    def test_change_has_the_name_of_the_existing_resource(self) -> None:
        changes = [
            entry("aws_ecr_repository.a", "delete", before={"name": "a"}),
            entry("aws_s3_bucket.b", "delete", "create", before={"bucket": "b"}),
            entry("aws_s3_bucket_policy.c", "delete", before={"bucket": "c"}),
            entry("aws_sqs_queue.d", "create", after={"name": "d"}),
        ]
        assert [change.name for change in read_changes({"resource_changes": changes})] == ["a", "b", "", ""]

    @pytest.mark.parametrize("action", Action)
    def test_only_destroyed_or_replaced_resources_lose_data(self, action: Action) -> None:
        change = Change("aws_s3_bucket.this", "aws_s3_bucket", action)
        assert change.loses_data == (action in (Action.DESTROY, Action.REPLACE))
        assert not Change("aws_lambda_function.this", "aws_lambda_function", action).loses_data

    @pytest.mark.parametrize(
        ("address", "module", "stage"),
        [
            ('module.rulesets["A-1"].aws_sqs_queue.this', 'module.rulesets["A-1"]', "A-1"),
            ('module.producers["a.b"].module.more["B"].aws_x.y', 'module.producers["a.b"]', "a.b"),
            ('module.event_bus.module.rulesets["A"].aws_x.y', None, None),
            ("module.event_bus.aws_x.y", None, None),
            ('aws_x.y["A"]', None, None),
        ],
    )
    def test_stage_is_the_outermost_modules_key(self, address: str, module: str | None, stage: str | None) -> None:
        change = Change(address, "aws_x", Action.CREATE)
        assert (change.module, change.stage) == (module, stage)


class TestImages:
    def test_image_before_and_after_by_stage(self) -> None:
        change = entry(FUNCTION, "update", before={"image_uri": "r:old"}, after={"image_uri": f"r@{DIGEST}"})
        assert read_images({"resource_changes": [change]}) == (ImageChange("In", "r:old", f"r@{DIGEST}"),)

    def test_images_of_created_and_destroyed_functions(self) -> None:
        created = entry(FUNCTION, "create", after={"image_uri": "r:new"})
        destroyed = entry(FUNCTION.replace("In", "Out"), "delete", before={"image_uri": "r:old"})
        assert read_images({"resource_changes": [destroyed, created]}) == (
            ImageChange("In", None, "r:new"),
            ImageChange("Out", "r:old", None),
        )

    @pytest.mark.parametrize(
        ("address", "fields"),
        [
            ('module.stages["work"].aws_lambda_function.this', {}),
            ("module.work.aws_lambda_function.this", {}),
            ("aws_lambda_function.work", {"name": "work"}),
            ('aws_lambda_function.this["work"]', {"name": "this", "index": "work"}),
        ],
    )
    def test_stage_is_an_instance_a_module_or_a_resource(self, address: str, fields: dict[str, str]) -> None:
        change = entry(address, "no-op", before={"image_uri": "r:1"}, after={}) | fields
        assert read_images({"resource_changes": [change]}) == (ImageChange("work", "r:1", None),)

    def test_image_of_a_service_is_that_of_its_first_container(self) -> None:
        before, after = (
            {"container_definitions": json.dumps([{"name": "work", "image": f"r:{tag}"}, {"image": "log:1"}])}
            for tag in ("old", "new")
        )
        change = entry("module.worker.aws_ecs_task_definition.this", "delete", "create", before=before, after=after)
        assert read_images({"resource_changes": [change]}) == (ImageChange("worker", "r:old", "r:new"),)

    @pytest.mark.parametrize(
        ("outputs", "image"),
        [
            ({"worker": {"after": {"image_uri": "r:new"}}}, "r:new"),
            ({"worker": {"after": None, "after_unknown": True}}, None),
            ({}, None),
        ],
    )
    def test_image_in_an_unknown_task_definition_is_that_of_the_output(
        self, outputs: dict[str, Any], image: str | None
    ) -> None:
        change = entry("module.worker.aws_ecs_task_definition.this", "create", after={"family": "worker"})
        change["change"]["after_unknown"] = {"container_definitions": True}
        document = {"resource_changes": [change], "output_changes": outputs}
        assert read_images(document) == (ImageChange("worker", None, image),)

    def test_pinned_digest_is_accepted(self) -> None:
        planned = (ImageChange("In", None, f"123.dkr.ecr.us-east-1.amazonaws.com/r@{DIGEST}"),)
        check_images(planned, {"In": f"r@{DIGEST}"})

    @pytest.mark.parametrize("after", [None, "r:v1", "r@sha256:" + "b" * 64, f"r:{DIGEST[7:]}"])
    def test_other_image_than_the_pinned_one_is_an_error(self, after: str | None) -> None:
        for planned in ((ImageChange("In", None, after),), ()):
            with pytest.raises(RefinerctlError, match="for In, not r@sha256:aaa"):
                check_images(planned, {"In": f"r@{DIGEST}"})


class TestDrift:
    def drift(self, before: dict[str, Any], after: dict[str, Any], *configured: str, **more: Any) -> Any:
        document = {
            "resource_drift": [entry(QUEUE, "update", before=before, after=after)],
            "configuration": configuration("rulesets", "aws_sqs_queue.this", *configured),
        }
        return [change.attributes for change in read_drift(document | more)]

    def test_attribute_of_the_configuration_counts(self) -> None:
        assert self.drift({"policy": "a", "name": "n"}, {"policy": "b", "name": "n"}, "policy", "name") == [("policy",)]

    def test_attribute_set_by_aws_or_another_resource_does_not_count(self) -> None:
        assert (
            self.drift({"last_modified": "1", "versioning": []}, {"last_modified": "2", "versioning": [1]}, "name")
            == []
        )

    def test_attribute_that_the_plan_would_restore_counts(self) -> None:
        before, after = {"reserved": -1, "arn": "a"}, {"reserved": 5, "arn": "b"}
        back = [entry(QUEUE, "update", before=after, after={"reserved": -1, "arn": "b"})]
        assert self.drift(before, after, "name", resource_changes=back) == [("reserved",)]

    def test_attribute_whose_changes_the_configuration_ignores_does_not_count(self) -> None:
        before, after = {"desired_count": 0}, {"desired_count": 4}
        same = [entry(QUEUE, "no-op", before=after, after=after)]
        assert self.drift(before, after, "desired_count", resource_changes=same) == []

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (None, {}),
            (None, []),
            (None, ""),
            (None, False),
            ([{"key": None}], [{"key": False}]),
            ('{"a": 1, "b": [2]}', '{"b":[2],"a":1}'),
        ],
    )
    def test_same_value_in_another_form_is_no_drift(self, before: Any, after: Any) -> None:
        assert self.drift({"policy": before}, {"policy": after}, "policy") == []
        assert self.drift({"policy": after}, {"policy": before}, "policy") == []

    @pytest.mark.parametrize(("before", "after"), [(None, 0), (False, True), ("a", ""), ([1], []), ([1, 2], [2, 1])])
    def test_other_value_is_drift(self, before: Any, after: Any) -> None:
        assert self.drift({"policy": before}, {"policy": after}, "policy") == [("policy",)]

    def test_removed_resource_counts(self) -> None:
        gone = {"resource_drift": [entry(QUEUE, "delete", before={"name": "n"})]}
        assert read_drift(gone) == (Change(QUEUE, "aws_sqs_queue", Action.DESTROY, name="n"),)

    def test_instance_key_may_hold_brackets_and_dots(self) -> None:
        address = 'module.rulesets["a.b[0]\\"]"].aws_sqs_queue.this[3]'
        document = {
            "resource_drift": [
                entry(address, "update", before={"name": 1}, after={"name": 2}) | {"type": "aws_sqs_queue"}
            ],
            "configuration": configuration("rulesets", "aws_sqs_queue.this", "name"),
        }
        assert [change.attributes for change in read_drift(document)] == [("name",)]


def containers(image: str, **more: Any) -> dict[str, str]:
    return {"container_definitions": json.dumps([{"name": "work", "image": image, **more}])}


TASK = "module.worker.aws_ecs_task_definition.this"
SERVICE = "module.worker.aws_ecs_service.this"
NEW_REVISION = entry(SERVICE, "update", before={"task_definition": "t:1"}, after={"task_definition": "t:2"})


class TestImageOnly:
    """Whether nothing but the image differs."""

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            ({"image_uri": "r:1"}, {"image_uri": "r:2"}, True),
            ({"image_uri": "r:1", "memory_size": 1}, {"image_uri": "r:2", "memory_size": 2}, False),
            ({"memory_size": 1}, {"memory_size": 2}, False),
        ],
    )
    def test_of_a_function(self, before: Any, after: Any, expected: bool) -> None:
        changed = entry(FUNCTION, "update", before=before, after=after)
        assert [change.image_only for change in read_changes({"resource_changes": [changed]})] == [expected]

    @pytest.mark.parametrize(
        ("after", "expected"),
        [(containers("r:2"), True), (containers("r:2", cpu=1), False), ({**containers("r:2"), "cpu": "9"}, False)],
    )
    def test_of_a_task_definition_and_the_service_that_follows_it(self, after: Any, expected: bool) -> None:
        task = entry(TASK, "delete", "create", before=containers("r:1"), after=after)
        changes = read_changes({"resource_changes": [task, NEW_REVISION]})
        assert [change.image_only for change in changes] == [expected, expected]

    def test_service_with_another_task_definition_than_planned_may_differ_in_anything(self) -> None:
        assert [change.image_only for change in read_changes({"resource_changes": [NEW_REVISION]})] == [False]

    def test_of_a_function_that_was_updated_by_other_means(self) -> None:
        """The provider reads back more than the image; only what the configuration sets counts."""
        before, after = {"image_uri": "r:1", "last_modified": "1"}, {"image_uri": "r:2", "last_modified": "2"}
        document = {
            "resource_drift": [entry(FUNCTION, "update", before=before, after=after)],
            "configuration": configuration("rulesets", "aws_lambda_function.this", "image_uri"),
        }
        assert [(change.attributes, change.image_only) for change in read_drift(document)] == [(("image_uri",), True)]


ON, OFF = {"bucket": "data-repository", "eventbridge": True}, {"bucket": "data-repository", "eventbridge": False}


@pytest.mark.parametrize(
    ("actions", "before", "after", "expected"),
    [
        (["create"], None, ON, ("data-repository",)),
        (["update"], OFF, ON, ("data-repository",)),
        (["delete", "create"], ON, ON, ("data-repository",)),
        (["update"], ON, {**ON, "queue": []}, ()),
        (["no-op"], ON, ON, ()),
        (["create"], None, OFF, ()),
        (["delete"], ON, None, ()),
    ],
)
def test_buckets_that_begin_to_send_events(actions: list[str], before: Any, after: Any, expected: tuple[str]) -> None:
    address = "module.data_repository.aws_s3_bucket_notification.this[0]"
    others = [entry(QUEUE, "create", after={}), entry(address, "read", after=ON) | {"mode": "data"}]
    changed = entry(address, *actions, before=before, after=after)
    assert read_event_buckets({"resource_changes": [*others, changed]}) == expected
