"""`refinerctl status` of 50 rulesets, 50 ms from AWS: seconds from the command's start to its end.

`python -m benchmarks.status`. An AWS emulator on 127.0.0.1, every request through a forwarder that adds the round trip;
the ledger is at the same distance. All that CloudWatch keeps of a busy hour is there, and about as many completions as
status looks at. Prints seconds; asserts nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.forwarder import forwarder
from refinerctl.clients.aws.session import AwsSession
from refinerctl.local.emulator import start_emulator
from refinerctl.local.instance import Instance

RULESETS = 50
ROUND_TRIP_S = 0.05
RUNS = 5
REGION = "us-east-1"
BUCKET = "data-repository"
COMPLETIONS = 2900

SETTINGS = f"""
environment = "bench"
[environments.bench]
region = "{REGION}"
"""


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


def write_project(folder: Path) -> None:
    """What an operator has: settings, and values of 50 rulesets."""
    environment = folder / "terraform" / "environments" / "bench"
    module = folder / "terraform" / "stacks" / "refiner"
    for path in (environment, module):
        path.mkdir(parents=True)
    (folder / "refinerctl.toml").write_text(SETTINGS)
    rulesets = "\n".join(f'  R{n} = {{ prefix = "R{n}/", image_uri = "team/refiner" }}' for n in range(RULESETS))
    (environment / "refiner.tfvars").write_text(f"rulesets = {{\n{rulesets}\n}}\n")
    (environment / "backend.hcl").write_text(f'bucket = "state"\nregion = "{REGION}"\n')
    (module / "main.tf").write_text('terraform {\n  backend "s3" {\n    key = "refiner/terraform.tfstate"\n  }\n}\n')


def run(folder: Path, endpoint: str) -> float:
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "refinerctl", "status", "--endpoint-url", endpoint, "-q", "--output", "json"]
    began = time.monotonic()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        instance = Instance(Path(name) / "instance")
        instance.prepare()
        emulator = start_emulator(instance, None, REGION)
        try:
            fill(AwsSession(REGION, profile=None, endpoint_url=emulator.endpoint_url, embedded=True))
            folder = Path(name) / "project"
            write_project(folder)
            with forwarder(f"127.0.0.1:{emulator.port}", ROUND_TRIP_S) as near:
                seconds = sorted(run(folder, f"http://{near}") for _ in range(RUNS))
        finally:
            emulator.stop()
    middle = seconds[len(seconds) // 2]
    print(f"{RULESETS} rulesets, round trip {ROUND_TRIP_S * 1000:.0f} ms: {middle:.2f} s", end=" ")
    print(f"({seconds[0]:.2f} to {seconds[-1]:.2f} of {RUNS} runs, the command's start included)")


if __name__ == "__main__":
    main()
