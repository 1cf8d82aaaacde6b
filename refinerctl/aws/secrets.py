"""Secrets Manager: secrets whose value is a JSON object of texts, and whether they can be used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession
from refinerctl.errors import RefinerctlError

CURRENT = "AWSCURRENT"
MISSING_HINT = "Check --env and --region, or deploy the stack first."


@dataclass(frozen=True)
class SecretState:
    """A secret; `deleted_at`: it is scheduled for deletion. `changed_at`: when its value last changed (UTC)."""

    name: str
    arn: str
    has_current_version: bool
    deleted_at: datetime | None = None
    changed_at: datetime | None = None


class Secrets:
    """Secrets of one account and region. No error contains a value."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def texts(self, name: str, *fields: str) -> tuple[str, ...]:
        """The values of these fields. Raises NotFoundError without the secret, RefinerctlError without a field."""
        with about(f"secret {name}", MISSING_HINT):
            text = self._session.client("secretsmanager").get_secret_value(SecretId=name).get("SecretString", "")
        try:
            found = json.loads(text)
            values = tuple(found[item] for item in fields)
        except (ValueError, KeyError, TypeError):  # whose message may contain the value
            values = ()
        if len(values) != len(fields) or not all(isinstance(value, str) for value in values):
            raise RefinerctlError(f"secret {name} is not a JSON object with {' and '.join(fields)}") from None
        return values

    def state(self, name: str) -> SecretState:
        """The secret without its value. Raises NotFoundError without the secret."""
        with about(f"secret {name}", MISSING_HINT):
            found = self._session.client("secretsmanager").describe_secret(SecretId=name)
        stages = (found.get("VersionIdsToStages") or {}).values()
        deleted, changed = found.get("DeletedDate"), found.get("LastChangedDate")
        return SecretState(
            found["Name"],
            found["ARN"],
            any(CURRENT in names for names in stages),
            deleted.astimezone(UTC) if deleted else None,
            changed.astimezone(UTC) if changed else None,
        )
