"""EventBridge: event buses, their rules and the rules' targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import TargetOutputTypeDef

DEFAULT_BUS = "default"
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html: rules of one bus; can be raised.
RULES_PER_BUS = 300


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


class EventBuses:
    """The event buses of one account and region. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def bus(self, name: str) -> BusSettings:
        """Raises NotFoundError without such a bus."""
        try:
            found = self._client().describe_event_bus(Name=name)
        except Exception as error:
            raise _explained(error, f"event bus {name}") from error
        policy = parse_policy(found.get("Policy"))
        return BusSettings(found["Name"], found["Arn"], found.get("KmsKeyIdentifier") or None, policy)

    def rules(self, bus: str) -> tuple[RuleSettings, ...]:
        """All rules of a bus. Raises NotFoundError without the bus."""
        try:
            pages = self._client().get_paginator("list_rules").paginate(EventBusName=bus)
            return tuple(
                RuleSettings(item["Name"], item["Arn"], item.get("EventPattern", ""), item["State"] != "DISABLED")
                for page in pages
                for item in page["Rules"]
            )
        except Exception as error:
            raise _explained(error, f"event bus {bus}") from error

    def targets(self, bus: str, rule: str) -> tuple[RuleTarget, ...]:
        """The targets of a rule. Raises NotFoundError without the rule."""
        try:
            pages = self._client().get_paginator("list_targets_by_rule").paginate(EventBusName=bus, Rule=rule)
            return tuple(_target(item) for page in pages for item in page["Targets"])
        except Exception as error:
            raise _explained(error, f"rule {rule} of event bus {bus}") from error

    def senders(self, bus: str, target: str) -> frozenset[str]:
        """The names of the rules of a bus that send to `target`, an ARN. Raises NotFoundError without the bus."""
        names: set[str] = set()
        following: dict[str, str] = {}
        try:
            while True:
                page = self._client().list_rule_names_by_target(TargetArn=target, EventBusName=bus, **following)  # type: ignore[arg-type]
                names.update(page["RuleNames"])
                if not page.get("NextToken"):
                    return frozenset(names)
                following = {"NextToken": page["NextToken"]}
        except Exception as error:
            raise _explained(error, f"event bus {bus}") from error

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


def _explained(error: Exception, resource: str) -> Exception:
    if error_code(error) == "ResourceNotFoundException":
        return NotFoundError(f"{resource} does not exist")
    return explain(error, resource) or error
