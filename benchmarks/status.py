"""`python -m benchmarks.status`: `benchmarks.command` with all that status looks at.

The ledger is at the same distance. All that CloudWatch keeps of a busy hour is there, and about as many completions as
status looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.command import BUCKET, RULESETS, measure
from refinerctl.aws.session import AwsSession

COMPLETIONS = 2900


def fill(session: AwsSession) -> None:
    sqs, functions, s3 = session.client("sqs"), session.client("lambda"), session.client("s3")
    code: Any = {"ImageUri": "team/refiner:v1"}
    for number in range(RULESETS):
        base = f"dibbs-ecr-R{number}"
        for name in (base, f"{base}-dlq", f"{base}-delivery-dlq"):
            sqs.create_queue(QueueName=name)
        functions.create_function(
            FunctionName=base, Role="arn:aws:iam::000000000000:role/r", PackageType="Image", Code=code
        )
    for bucket in (BUCKET, "state"):
        s3.create_bucket(Bucket=bucket)
    for number in range(COMPLETIONS):
        s3.put_object(Bucket=BUCKET, Key=f"RefinerComplete/{number}.json", Body=b"[]")
    fill_metrics(session.client("cloudwatch"))


def fill_metrics(cloudwatch: Any) -> None:
    """A value in each minute of the last hour."""
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    times = [minute - timedelta(minutes=ago) for ago in range(61)]
    for namespace, dimension, of, metric in observed():
        about = {"MetricName": metric, "Dimensions": [{"Name": dimension, "Value": of}], "Value": 1.5}
        cloudwatch.put_metric_data(Namespace=namespace, MetricData=[{**about, "Timestamp": at} for at in times])


def observed() -> Iterator[tuple[str, str, str, str]]:
    for number in range(RULESETS):
        base = f"dibbs-ecr-R{number}"
        for queue in (base, f"{base}-dlq", f"{base}-delivery-dlq"):
            yield "AWS/SQS", "QueueName", queue, "ApproximateAgeOfOldestMessage"
        yield "AWS/SQS", "QueueName", base, "NumberOfMessagesDeleted"
        for metric in ("Invocations", "Errors", "Throttles", "Duration", "ConcurrentExecutions"):
            yield "AWS/Lambda", "FunctionName", base, metric


if __name__ == "__main__":
    measure("status", fill)
