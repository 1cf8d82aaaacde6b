"""Changes that lose data although the resource stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refinerctl.terraform.losses import lost_in_place, tainted

DAY = 86400


def policy(dlq: str | None) -> dict[str, Any]:
    return {"redrive_policy": json.dumps({"deadLetterTargetArn": dlq, "maxReceiveCount": 5}) if dlq else ""}


def versioning(status: str) -> dict[str, Any]:
    return {"versioning_configuration": [{"status": status, "mfa_delete": ""}]}


def lifecycle(days: int | None, status: str = "Enabled") -> dict[str, Any]:
    expiration = [{"days": days}] if days else []
    return {"rule": [{"id": "old", "status": status, "expiration": expiration, "noncurrent_version_expiration": []}]}


def ecr(days: int) -> dict[str, Any]:
    choice = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days}
    rule = {"rulePriority": 1, "selection": choice, "action": {"type": "expire"}}
    return {"policy": json.dumps({"rules": [rule]})}


@pytest.mark.parametrize(
    ("kind", "before", "after", "lost"),
    [
        (
            "sqs_queue",
            {"message_retention_seconds": 4 * DAY},
            {"message_retention_seconds": 60},
            "message retention 4d → 1m",
        ),
        ("cloudwatch_log_group", {"retention_in_days": 30}, {"retention_in_days": 7}, "log retention 30d → 7d"),
        ("cloudwatch_log_group", {"retention_in_days": 0}, {"retention_in_days": 7}, "log retention unlimited → 7d"),
        ("ecr_lifecycle_policy", ecr(30), ecr(1), "expiration of images by rule 1 30d → 1d"),
        ("s3_bucket_versioning", versioning("Enabled"), versioning("Suspended"), "versioning off"),
        ("s3_bucket_versioning", versioning("Enabled"), None, "versioning off"),
        ("sqs_queue", policy("arn:dlq"), policy(None), "DLQ detached"),
        ("sqs_queue_redrive_policy", policy("arn:dlq"), None, "DLQ detached"),
        (
            "cloudwatch_event_target",
            {"dead_letter_config": [{"arn": "arn:dlq"}]},
            {"dead_letter_config": []},
            "DLQ detached",
        ),
        (
            "scheduler_schedule",
            {"target": [{"dead_letter_config": [{"arn": "arn:dlq"}]}]},
            {"target": [{"dead_letter_config": []}]},
            "DLQ detached",
        ),
        (
            "lambda_function",
            {"dead_letter_config": [{"target_arn": "arn:dlq"}]},
            {"dead_letter_config": []},
            "DLQ detached",
        ),
        (
            "s3_bucket_lifecycle_configuration",
            lifecycle(None),
            lifecycle(30),
            "expiration by rule old unlimited → 30d",
        ),
        ("s3_bucket_lifecycle_configuration", lifecycle(30), lifecycle(7), "expiration by rule old 30d → 7d"),
    ],
)
def test_change_in_place_loses_data(kind: str, before: Any, after: Any, lost: str) -> None:
    assert lost_in_place(f"aws_{kind}", {"before": before, "after": after}) == (lost,)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("sqs_queue", {"message_retention_seconds": 60}, {"message_retention_seconds": 4 * DAY}),
        ("cloudwatch_log_group", {"retention_in_days": 7}, {"retention_in_days": 0}),
        ("cloudwatch_log_group", {"retention_in_days": 7}, {"retention_in_days": 7}),
        ("s3_bucket_versioning", versioning("Suspended"), versioning("Enabled")),
        ("sqs_queue", policy("arn:dlq"), policy("arn:other-dlq")),
        ("cloudwatch_event_target", {"dead_letter_config": [{"arn": "arn:dlq"}]}, None),  # sends nothing any more
        ("cloudwatch_event_target", {"target": "not a list", "dead_letter_config": []}, {"target": "other"}),
        ("s3_bucket_lifecycle_configuration", lifecycle(7), lifecycle(30)),
        ("s3_bucket_lifecycle_configuration", lifecycle(None), lifecycle(30, "Disabled")),
        ("sqs_queue", None, {"message_retention_seconds": 60}),  # it is created
    ],
)
def test_other_changes_lose_nothing(kind: str, before: Any, after: Any) -> None:
    assert lost_in_place(f"aws_{kind}", {"before": before, "after": after}) == ()


def test_value_known_after_the_apply_counts_as_unchanged() -> None:
    change = {"before": policy("arn:dlq"), "after": {}, "after_unknown": {"redrive_policy": True}}
    assert lost_in_place("aws_sqs_queue", change) == ()


def test_only_the_unknown_parts_of_a_block_count_as_unchanged() -> None:
    """Terraform names every block of a resource of which anything is unknown."""
    schedule = {"target": [{"arn": "arn:queue", "dead_letter_config": [{"arn": "arn:dlq"}]}]}
    known = {"before": schedule, "after": {"target": [{"arn": "arn:queue", "dead_letter_config": []}]}}
    blocks = {"description": True, "target": [{"dead_letter_config": []}]}
    assert lost_in_place("aws_scheduler_schedule", known | {"after_unknown": blocks}) == ("DLQ detached",)

    unknown = {"before": schedule, "after": {"target": [{"arn": "arn:queue", "dead_letter_config": [{}]}]}}
    blocks = {"target": [{"dead_letter_config": [{"arn": True}]}]}
    assert lost_in_place("aws_scheduler_schedule", unknown | {"after_unknown": blocks}) == ()


def test_tainted_resources_are_those_with_data_in_all_modules() -> None:
    def resource(address: str, kind: str, *, is_tainted: bool) -> dict[str, Any]:
        return {"address": address, "type": kind} | ({"tainted": True} if is_tainted else {})

    child = {"resources": [resource('module.m["A"].aws_sqs_queue.dlq', "aws_sqs_queue", is_tainted=True)]}
    resources = [
        resource("aws_sqs_queue.done", "aws_sqs_queue", is_tainted=False),
        resource("aws_lambda_function.f", "aws_lambda_function", is_tainted=True),
    ]
    assert list(tainted({"resources": resources, "child_modules": [child]})) == ['module.m["A"].aws_sqs_queue.dlq']
    assert list(tainted({})) == []
