"""EventBridge Scheduler: schedules and what they start."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError


@dataclass(frozen=True)
class ScheduleSettings:
    """A schedule and its one target. `expression` is when it runs, as AWS writes it: `rate(5 minutes)`, `cron(…)`."""

    name: str
    arn: str
    expression: str
    is_enabled: bool
    target_arn: str
    role_arn: str | None = None
    dlq_arn: str | None = None


class Schedules:
    """The schedules of one account and region. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def get(self, group: str, name: str) -> ScheduleSettings:
        """Raises NotFoundError without the schedule."""
        try:
            found = self._session.client("scheduler").get_schedule(GroupName=group, Name=name)
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                raise NotFoundError(f"schedule {group}/{name} does not exist") from error
            raise explain(error, f"schedule {group}/{name}") or error from error
        target = found["Target"]
        return ScheduleSettings(
            found["Name"],
            found["Arn"],
            found.get("ScheduleExpression", ""),
            is_enabled=found.get("State", "ENABLED") == "ENABLED",
            target_arn=target["Arn"],
            role_arn=target.get("RoleArn") or None,
            dlq_arn=target.get("DeadLetterConfig", {}).get("Arn") or None,
        )
