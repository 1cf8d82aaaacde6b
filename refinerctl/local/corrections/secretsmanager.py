"""Secrets Manager: a new version has all stages of the request."""

from __future__ import annotations

from typing import Any

from refinerctl.local.corrections.server import AwsAnswer, AwsRequest, CorrectingServer, Forward


def correct_stages(corrections: CorrectingServer) -> None:
    """Register the correction of PutSecretValue."""
    corrections.correct("secretsmanager", "PutSecretValue", _put)


def _put(request: AwsRequest, forward: Forward) -> AwsAnswer:
    """The emulator ignores other stages beside AWSCURRENT, and deletes versions without a stage."""

    def call(operation: str, **parameters: str) -> AwsAnswer:
        target = {"x-amz-target": f"secretsmanager.{operation}"}
        return forward(request.with_json({"SecretId": request.json["SecretId"], **parameters}, **target))

    answer = forward(request)
    if not answer.ok:
        return answer
    document = answer.json
    version, has = document["VersionId"], document["VersionStages"]
    for stage in [stage for stage in request.json.get("VersionStages", ()) if stage not in has]:
        holder = _holder(call("DescribeSecret").json, stage)
        removed = {"RemoveFromVersionId": holder} if holder else {}
        moved = call("UpdateSecretVersionStage", VersionStage=stage, MoveToVersionId=version, **removed)
        if not moved.ok:
            return moved
        has.append(stage)
    return answer.with_json(document)


def _holder(secret: dict[str, Any], stage: str) -> str | None:
    """The version that has a stage now."""
    versions: dict[str, list[str]] = secret.get("VersionIdsToStages", {})
    return next((version for version, stages in versions.items() if stage in stages), None)
