"""Secrets Manager: whether a secret can be used. Its value is not read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession

CURRENT = "AWSCURRENT"


@dataclass(frozen=True)
class SecretState:
    """A secret; `deleted_at`: it is scheduled for deletion. `changed_at`: when its value last changed (UTC)."""

    name: str
    arn: str
    has_current_version: bool
    deleted_at: datetime | None = None
    changed_at: datetime | None = None


def secret_state(session: AwsSession, name: str) -> SecretState:
    """Raises NotFoundError without the secret."""
    with about(f"secret {name}"):
        found = session.client("secretsmanager").describe_secret(SecretId=name)
    stages = (found.get("VersionIdsToStages") or {}).values()
    deleted, changed = found.get("DeletedDate"), found.get("LastChangedDate")
    return SecretState(
        found["Name"],
        found["ARN"],
        any(CURRENT in names for names in stages),
        deleted.astimezone(UTC) if deleted else None,
        changed.astimezone(UTC) if changed else None,
    )
