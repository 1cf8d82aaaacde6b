"""Secrets Manager: secrets whose value is a JSON object of texts, and their versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import about, or_none
from refinerctl.aws.session import AwsSession
from refinerctl.errors import RefinerctlError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

MISSING_HINT = "Check --env and --region, or deploy the stack first."
# https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html: each is on one version at most.
CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"
# Terraform's: the first version, whose content is in the state.
INITIAL = "INITIAL"


@dataclass(frozen=True)
class SecretState:
    """A secret; `deleted_at`: it is scheduled for deletion. `changed_at`: when its value last changed (UTC).

    `stages` has the ID of the version that has each stage.
    """

    name: str
    arn: str
    has_current_version: bool
    deleted_at: datetime | None = None
    changed_at: datetime | None = None
    stages: Mapping[str, str] = field(default_factory=dict)


class Secrets:
    """Secrets of one account and region. No error contains a value."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def texts(self, name: str, *fields: str, version: str | None = None) -> tuple[str, ...]:
        """The values of these fields, of the current version or of another one by its ID.

        Raises NotFoundError without the secret or the version, RefinerctlError without a field.
        """
        found = self.content(name, version)
        values = tuple(found.get(item) for item in fields)
        if not all(isinstance(value, str) for value in values):
            raise RefinerctlError(f"secret {name} is not a JSON object with {' and '.join(fields)}")
        return tuple(map(str, values))

    def content(self, name: str, version: str | None = None) -> Mapping[str, Any]:
        """The JSON object of a version; one without fields if it is none. Raises NotFoundError without the version."""
        which = {"VersionId": version} if version else {}
        resource = f"version {version} of secret {name}" if version else f"secret {name}"
        with about(resource, MISSING_HINT):
            text = self._client().get_secret_value(SecretId=name, **which).get("SecretString", "")
        try:
            found = json.loads(text)
        except ValueError:  # whose message may contain the value
            found = None
        return found if isinstance(found, dict) else {}

    def state(self, name: str) -> SecretState:
        """The secret without its value. Raises NotFoundError without the secret."""
        with about(f"secret {name}", MISSING_HINT):
            found = self._client().describe_secret(SecretId=name)
        versions = found.get("VersionIdsToStages") or {}
        stages = {stage: version for version, names in versions.items() for stage in names}
        deleted, changed = found.get("DeletedDate"), found.get("LastChangedDate")
        return SecretState(
            found["Name"],
            found["ARN"],
            CURRENT in stages,
            deleted.astimezone(UTC) if deleted else None,
            changed.astimezone(UTC) if changed else None,
            stages,
        )

    def put_pending(self, name: str, version: str, content: Mapping[str, Any]) -> None:
        """Add a version with stage AWSPENDING. If there is one with this ID already, nothing is changed."""
        with about(f"secret {name}", MISSING_HINT):
            or_none(
                lambda: self._client().put_secret_value(
                    SecretId=name,
                    ClientRequestToken=version,
                    SecretString=json.dumps(content),
                    VersionStages=[PENDING],
                ),
                "ResourceExistsException",
            )

    def move_stage(self, name: str, stage: str, *, to: str | None = None, away_from: str | None = None) -> None:
        """Move a stage to a version, away from the one that must have it now; without `to` only remove it."""
        moved = {"MoveToVersionId": to, "RemoveFromVersionId": away_from}
        with about(f"secret {name}", MISSING_HINT):
            self._client().update_secret_version_stage(
                SecretId=name, VersionStage=stage, **{key: value for key, value in moved.items() if value}
            )

    def _client(self) -> SecretsManagerClient:
        return self._session.client("secretsmanager")
