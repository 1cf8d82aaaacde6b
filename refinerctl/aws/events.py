"""EventBridge: event buses, their rules and the rules' targets; schedules of its Scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refinerctl.aws.errors import about
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.session import AwsSession

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import TargetOutputTypeDef

DEFAULT_BUS = "default"
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html: rules of one bus; can be raised.
RULES_PER_BUS = 300

# https://docs.aws.amazon.com/scheduler/latest/APIReference/API_UpdateSchedule.html, without State
_SCHEDULE_FIELDS = {
    "ActionAfterCompletion",
    "Description",
    "EndDate",
    "FlexibleTimeWindow",
    "GroupName",
    "KmsKeyArn",
    "Name",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "StartDate",
    "Target",
}


@dataclass(frozen=True)
class BusSettings:
    """An event bus."""

    name: str
    arn: str
    kms_key: str | None = None
    policy: Policy = ()


@dataclass(frozen=True)
class RuleSettings:
    """A rule; `pattern` is JSON, as AWS has it."""

    name: str
    arn: str
    pattern: str
    is_enabled: bool = True


@dataclass(frozen=True)
class RuleTarget:
    """A target of a rule. `changes_event`: the target gets other content than the event."""

    id: str
    arn: str
    role_arn: str | None = None
    dlq_arn: str | None = None
    changes_event: bool = False


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


class EventBuses:
    """The event buses and schedules of one account and region. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def bus(self, name: str) -> BusSettings:
        """Raises NotFoundError without such a bus."""
        with about(f"event bus {name}"):
            found = self._client().describe_event_bus(Name=name)
        policy = parse_policy(found.get("Policy"))
        return BusSettings(found["Name"], found["Arn"], found.get("KmsKeyIdentifier") or None, policy)

    def rules(self, bus: str) -> tuple[RuleSettings, ...]:
        """All rules of a bus. Raises NotFoundError without the bus."""
        with about(f"event bus {bus}"):
            return tuple(
                RuleSettings(item["Name"], item["Arn"], item.get("EventPattern", ""), item["State"] != "DISABLED")
                for page in self._client().get_paginator("list_rules").paginate(EventBusName=bus)
                for item in page["Rules"]
            )

    def targets(self, bus: str, rule: str) -> tuple[RuleTarget, ...]:
        """The targets of a rule. Raises NotFoundError without the rule."""
        with about(f"rule {rule} of event bus {bus}"):
            pages = self._client().get_paginator("list_targets_by_rule").paginate(EventBusName=bus, Rule=rule)
            return tuple(_target(item) for page in pages for item in page["Targets"])

    def senders(self, bus: str, target: str) -> frozenset[str]:
        """The names of the rules of a bus that send to `target`, an ARN. Raises NotFoundError without the bus."""
        names: set[str] = set()
        following: dict[str, str] = {}
        with about(f"event bus {bus}"):
            while True:
                page = self._client().list_rule_names_by_target(TargetArn=target, EventBusName=bus, **following)  # type: ignore[arg-type]
                names.update(page["RuleNames"])
                if not page.get("NextToken"):
                    return frozenset(names)
                following = {"NextToken": page["NextToken"]}

    def schedule(self, group: str, name: str) -> ScheduleSettings:
        """Raises NotFoundError without the schedule."""
        with about(f"schedule {group}/{name}"):
            found = self._session.client("scheduler").get_schedule(GroupName=group, Name=name)
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

    def enable_schedule(self, group: str, name: str, is_enabled: bool) -> None:
        """Enable or disable a schedule; all else stays. Raises NotFoundError without the schedule."""
        client = self._session.client("scheduler")
        with about(f"schedule {group}/{name}"):
            found = client.get_schedule(GroupName=group, Name=name)
            # An update replaces the schedule as a whole.
            kept = {key: value for key, value in found.items() if key in _SCHEDULE_FIELDS and value is not None}
            client.update_schedule(**kept, State="ENABLED" if is_enabled else "DISABLED")

    def _client(self) -> EventBridgeClient:
        return self._session.client("events")


def _target(item: TargetOutputTypeDef) -> RuleTarget:
    return RuleTarget(
        item["Id"],
        item["Arn"],
        role_arn=item.get("RoleArn") or None,
        dlq_arn=item.get("DeadLetterConfig", {}).get("Arn") or None,
        changes_event=bool(item.get("Input") or item.get("InputTransformer") or item.get("InputPath", "$") != "$"),
    )
