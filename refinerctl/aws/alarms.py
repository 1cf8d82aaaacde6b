"""CloudWatch alarms, and whether anybody is subscribed to the SNS topics that they notify."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession
from refinerctl.stacks.base import Pipeline

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.literals import StateValueType
    from mypy_boto3_cloudwatch.type_defs import DescribeAlarmsInputPaginateTypeDef, MetricAlarmTypeDef

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
ALARMS_PER_CALL = 100


@dataclass(frozen=True)
class Alarm:
    """An alarm: in `state` OK, ALARM or INSUFFICIENT_DATA since a time (UTC; None if unknown).

    `resources` are the values of its metric's dimensions, such as the name of a queue. `actions` are the ARNs of what
    it notifies or starts when it goes into state ALARM; none if they are disabled.
    """

    name: str
    state: str
    metric: str
    resources: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    since: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class Topic:
    """An SNS topic with the number of its confirmed and of its pending subscriptions."""

    name: str
    confirmed: int
    pending: int = 0


class Alarms:
    """The alarms of one account and region. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def find(self, prefix: str, state: StateValueType | None = None) -> tuple[Alarm, ...]:
        """The alarms on a metric whose names start with `prefix`, in `state` if it is given, by name."""
        wanted: DescribeAlarmsInputPaginateTypeDef = {
            "AlarmTypes": ["MetricAlarm"],
            "PaginationConfig": {"PageSize": ALARMS_PER_CALL},
        }
        if prefix:
            wanted["AlarmNamePrefix"] = prefix
        if state:
            wanted["StateValue"] = state
        with about("the alarms"):
            pages = self._session.client("cloudwatch").get_paginator("describe_alarms").paginate(**wanted)
            alarms = [_alarm(item) for page in pages for item in page["MetricAlarms"]]
        return tuple(sorted(alarms, key=lambda alarm: alarm.name))

    def topic(self, arn: str) -> Topic:
        """Raises NotFoundError without the topic."""
        *_, region, _account, name = arn.split(":")
        with about(f"topic {name}"):
            attributes = self._session.in_region(region).client("sns").get_topic_attributes(TopicArn=arn)["Attributes"]
        confirmed, pending = (int(attributes.get(f"Subscriptions{kind}") or 0) for kind in ("Confirmed", "Pending"))
        return Topic(name, confirmed, pending)


def alarms_of(pipeline: Pipeline, alarms: tuple[Alarm, ...]) -> tuple[Alarm, ...]:
    """Those on the pipeline's components; the names of others may have the same prefix."""
    names = {item.name for item in pipeline.components}
    return tuple(alarm for alarm in alarms if not names.isdisjoint(alarm.resources))


def is_topic(arn: str) -> bool:
    return arn.split(":")[2:3] == ["sns"]


def _alarm(item: MetricAlarmTypeDef) -> Alarm:
    since = item.get("StateTransitionedTimestamp") or item.get("StateUpdatedTimestamp")
    return Alarm(
        item["AlarmName"],
        item.get("StateValue", "INSUFFICIENT_DATA"),
        item.get("MetricName", ""),
        tuple(dimension["Value"] for dimension in item.get("Dimensions", [])),
        tuple(item.get("AlarmActions", [])) if item.get("ActionsEnabled", True) else (),
        since.astimezone(UTC) if since else None,
        item.get("StateReason", ""),
    )
