"""What a change of a resource loses: the data in it, or data that it would have kept."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from typing import Any

from refinerctl.console import seconds

# Types whose destruction loses data that cannot be restored.
HOLDS_DATA = frozenset(
    {
        "aws_cloudwatch_log_group",
        "aws_db_instance",
        "aws_dynamodb_table",
        "aws_ebs_volume",
        "aws_ecr_repository",
        "aws_efs_file_system",
        "aws_elasticache_cluster",
        "aws_elasticache_replication_group",
        "aws_elasticache_serverless_cache",
        "aws_kms_key",
        "aws_memorydb_cluster",
        "aws_mq_broker",
        "aws_rds_cluster",
        "aws_s3_bucket",
        "aws_s3_object",
        "aws_secretsmanager_secret",
        "aws_sqs_queue",
    }
)

_DAY = 86400


def tainted(module: Mapping[str, Any]) -> Iterator[str]:
    """The addresses of resources that hold data and that Terraform will replace, because their creation did not finish.

    `module` is the root module of a state as Terraform's JSON.
    """
    for resource in module.get("resources", ()):
        if resource.get("tainted") and resource["type"] in HOLDS_DATA:
            yield resource["address"]
    for child in module.get("child_modules", ()):
        yield from tainted(child)


def lost_in_place(kind: str, change: Mapping[str, Any]) -> tuple[str, ...]:
    """What is lost although the resource stays: "message retention 4d → 1m".

    `change` is Terraform's JSON.
    """
    before = change.get("before") or {}
    if not before:
        return ()
    return tuple(_lost(kind, before, foreseen(change), is_destroyed=not change.get("after")))


def foreseen(change: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes after the change. A value that is known only after the apply counts as unchanged."""
    after, before = change.get("after") or {}, change.get("before") or {}
    found: dict[str, Any] = _foreseen(after, change.get("after_unknown") or {}, before)
    return found


def _foreseen(after: Any, unknown: Any, before: Any) -> Any:
    """`unknown` has the structure of `after`, with True for each value that is unknown."""
    if isinstance(unknown, dict):
        after, before = after or {}, before if isinstance(before, dict) else {}
        parts = {name: _foreseen(after.get(name), part, before.get(name)) for name, part in unknown.items()}
        return {**after, **parts}
    if isinstance(unknown, list):
        rows = zip_longest(after or (), unknown, before if isinstance(before, list) else ())
        return [_foreseen(*row) for row in islice(rows, len(unknown))]
    return before if unknown else after


def _lost(kind: str, before: Mapping[str, Any], after: Mapping[str, Any], *, is_destroyed: bool) -> Iterator[str]:
    if kind == "aws_s3_bucket_versioning" and _is_versioned(before) and not _is_versioned(after):
        yield "versioning off"
    # A rule, function or schedule that is destroyed sends nothing to its DLQ any more.
    if (kind == "aws_sqs_queue_redrive_policy" or not is_destroyed) and _dlq(before) and not _dlq(after):
        yield "DLQ detached"
    if is_destroyed:
        return
    old, new = _kept_seconds(kind, before), _kept_seconds(kind, after)
    for what, length in new.items():
        if length < (kept := old.get(what, math.inf)):
            yield f"{what} {'unlimited' if math.isinf(kept) else seconds(kept)} → {seconds(length)}"


def _is_versioned(values: Mapping[str, Any]) -> bool:
    return any(part.get("status") == "Enabled" for part in values.get("versioning_configuration") or ())


def _dlq(values: Mapping[str, Any]) -> str | None:
    """The DLQ of a queue, a rule's target, a function or a schedule."""
    if policy := values.get("redrive_policy"):
        try:
            return str(json.loads(policy)["deadLetterTargetArn"])
        except (ValueError, KeyError, TypeError):
            return None
    for part in values.get("dead_letter_config") or ():
        return str(part.get("arn") or part.get("target_arn") or "") or None
    target = values.get("target")  # of a schedule; of a rule it is in the resource itself
    return _dlq(target[0]) if isinstance(target, list) and target and isinstance(target[0], dict) else None


def _ecr_rules(policy: Any) -> list[dict[str, Any]]:
    """https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html"""
    try:
        rules: list[dict[str, Any]] = json.loads(policy)["rules"]
    except (ValueError, KeyError, TypeError):
        return []
    return rules


def _kept_seconds(kind: str, values: Mapping[str, Any]) -> dict[str, float]:
    """How long a resource keeps what, in seconds. What is not in it is kept without limit."""
    found = {}
    if kind == "aws_sqs_queue":
        found["message retention"] = values.get("message_retention_seconds")
    if kind == "aws_cloudwatch_log_group":
        found["log retention"] = (values.get("retention_in_days") or 0) * _DAY  # 0: for ever
    if kind == "aws_ecr_lifecycle_policy":
        for rule in _ecr_rules(values.get("policy")):
            choice = rule.get("selection") or {}
            if choice.get("countType") == "sinceImagePushed":
                found[f"expiration of images by rule {rule.get('rulePriority')}"] = float(choice["countNumber"]) * _DAY
    if kind == "aws_s3_bucket_lifecycle_configuration":
        for rule in values.get("rule") or ():
            if rule.get("status") == "Enabled":
                for what, field, days in (
                    ("expiration", "expiration", "days"),
                    ("expiration of old versions", "noncurrent_version_expiration", "noncurrent_days"),
                ):
                    length = next((part.get(days) for part in rule.get(field) or ()), None)
                    found[f"{what} by rule {rule.get('id')}"] = (length or 0) * _DAY
    return {what: float(length) for what, length in found.items() if length}
