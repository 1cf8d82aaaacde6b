"""Secrets of AWS Secrets Manager."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# A function without a route to Secrets Manager says so before its time is over; with the SDK's defaults it does not.
_CONFIG = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})


class Secret:
    """A secret whose value is a JSON object of texts. It is read once, and again after `forget`."""

    def __init__(self, arn: str, client: SecretsManagerClient | None = None) -> None:
        self.arn = arn
        self._client = client
        self._values: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        """Return one of the texts. Errors name the secret and never contain its value."""
        if self._values is None:
            self._values = self._read()
        if name not in self._values:
            raise ValueError(f"secret {self.arn} has no field {name}")
        return self._values[name]

    def forget(self) -> None:
        """Read the value again on next use, for instance after a login was refused: it may have been rotated."""
        self._values = None

    def _read(self) -> dict[str, str]:
        self._client = self._client or boto3.client("secretsmanager", config=_CONFIG)
        text = self._client.get_secret_value(SecretId=self.arn)["SecretString"]
        try:
            values = dict(json.loads(text))
        except (ValueError, TypeError):  # the message would contain the value
            raise ValueError(f"secret {self.arn} is not a JSON object") from None
        return {name: value for name, value in values.items() if isinstance(value, str)}
