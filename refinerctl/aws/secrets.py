"""Secrets Manager: secrets whose value is a JSON object of texts."""

from __future__ import annotations

import json

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession
from refinerctl.errors import RefinerctlError

MISSING_HINT = "Check --env and --region, or deploy the stack first."


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
