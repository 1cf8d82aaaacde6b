"""CloudWatch Logs: the settings of a log group."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.aws.errors import explain
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError


@dataclass(frozen=True)
class LogGroupSettings:
    """A log group; without `retention_days` its lines never expire."""

    name: str
    retention_days: int | None = None
    kms_key: str | None = None


class LogSettings:
    """The log groups of one account and region. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def get(self, group: str) -> LogGroupSettings:
        """Raises NotFoundError without the group."""
        pages = self._session.client("logs").get_paginator("describe_log_groups")
        try:
            for page in pages.paginate(logGroupNamePrefix=group):
                for item in page["logGroups"]:
                    if item.get("logGroupName") == group:
                        return LogGroupSettings(group, item.get("retentionInDays"), item.get("kmsKeyId") or None)
        except Exception as error:
            raise explain(error, f"log group {group}") or error from error
        raise NotFoundError(f"log group {group} does not exist")
