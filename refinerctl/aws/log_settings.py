"""CloudWatch Logs: how a group is set up."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.aws.session import AwsSession, explain
from refinerctl.errors import NotFoundError


@dataclass(frozen=True)
class LogGroupSettings:
    """`retention_days` None keeps lines for ever."""

    name: str
    retention_days: int | None = None
    kms_key: str | None = None


class LogSettings:
    """The settings of an account's and region's log groups. Safe to share between threads."""

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
        raise NotFoundError(f"there is no log group {group}")
