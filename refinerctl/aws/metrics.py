"""CloudWatch metrics: many in few calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession
from refinerctl.parallel import concurrently

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
QUERIES_PER_CALL = 500
CALLS_AT_ONCE = 4

Name = TypeVar("Name")


@dataclass(frozen=True)
class Metric:
    """A metric of one resource, and the statistic of its values over each period.

    `of` is the value of `dimension`. `more` are its other dimensions: a metric is identified by all of them.
    """

    namespace: str
    name: str
    dimension: str
    of: str
    statistic: str
    period_s: int = 60
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DataPoint:
    """One value; `at` is the start of its period in UTC."""

    at: datetime
    value: float


class Metrics:
    """The metrics of one account and region."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def read(
        self, wanted: Mapping[Name, Metric], since: datetime, until: datetime
    ) -> dict[Name, tuple[DataPoint, ...]]:
        """The values of each metric from `since` to `until`, oldest first; none for a metric that does not exist."""
        names = list(wanted)
        starts = range(0, len(names), QUERIES_PER_CALL)
        batches = [[wanted[name] for name in names[start : start + QUERIES_PER_CALL]] for start in starts]
        answers = concurrently([partial(self._read, batch, since, until) for batch in batches], CALLS_AT_ONCE)
        return dict(zip(names, (points for answer in answers for points in answer), strict=True))

    def _read(self, metrics: Sequence[Metric], since: datetime, until: datetime) -> list[tuple[DataPoint, ...]]:
        found: list[list[DataPoint]] = [[] for _ in metrics]
        queries = [_query(number, metric) for number, metric in enumerate(metrics)]
        with about("the metrics"):
            pages = self._session.client("cloudwatch").get_paginator("get_metric_data")
            for page in pages.paginate(MetricDataQueries=queries, StartTime=since, EndTime=until):
                for result in page["MetricDataResults"]:
                    points = zip(result.get("Timestamps", []), result.get("Values", []), strict=False)
                    number = int(result.get("Id", "m0").removeprefix("m"))
                    found[number].extend(DataPoint(at.astimezone(UTC), value) for at, value in points)
        return [tuple(sorted(points, key=lambda point: point.at)) for points in found]


def _query(number: int, metric: Metric) -> MetricDataQueryTypeDef:
    return {
        "Id": f"m{number}",
        "MetricStat": {
            "Metric": {
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [
                    {"Name": name, "Value": value} for name, value in ((metric.dimension, metric.of), *metric.more)
                ],
            },
            "Period": metric.period_s,
            "Stat": metric.statistic,
        },
    }
