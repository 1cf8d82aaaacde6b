"""`refinerctl verify` of 50 rulesets, 50 ms from AWS: seconds from the command's start to its end.

`python -m benchmarks.verify`. As `benchmarks.status` does it, with everything that verify looks at; the names come from
the environment's values. Prints seconds; asserts nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.forwarder import forwarder
from benchmarks.status import BUCKET, REGION, ROUND_TRIP_S, RULESETS, RUNS, write_project
from refinerctl.clients.aws.session import AwsSession
from refinerctl.local.emulator import start_emulator
from refinerctl.local.instance import Instance

BUS = f"{BUCKET}-bus"


def fill(session: AwsSession) -> None:
    sqs, functions, s3 = session.client("sqs"), session.client("lambda"), session.client("s3")
    events, roles = session.client("events"), session.client("iam")
    for bucket in (BUCKET, "state"):
        s3.create_bucket(Bucket=bucket)
    events.create_event_bus(Name=BUS)
    code: Any = {"ImageUri": "team/refiner:v1"}
    policy = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sqs:ReceiveMessage", "Resource": "*"}]}
    )
    managed = roles.create_policy(PolicyName="managed", PolicyDocument=policy)["Policy"]["Arn"]
    for number in range(RULESETS):
        base = f"dibbs-ecr-R{number}"
        for name in (base, f"{base}-dlq", f"{base}-delivery-dlq"):
            sqs.create_queue(QueueName=name)
        role = roles.create_role(RoleName=base, AssumeRolePolicyDocument=policy)["Role"]["Arn"]
        roles.put_role_policy(RoleName=base, PolicyName="own", PolicyDocument=policy)
        roles.attach_role_policy(RoleName=base, PolicyArn=managed)
        functions.create_function(FunctionName=base, Role=role, PackageType="Image", Code=code)
        pattern = json.dumps({"source": ["aws.s3"], "detail": {"object": {"key": [{"prefix": f"R{number}/"}]}}})
        events.put_rule(Name=base, EventBusName=BUS, EventPattern=pattern)


def run(folder: Path, endpoint: str) -> float:
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "refinerctl", "verify", "--endpoint-url", endpoint, "-q", "--output", "json"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True)
    elapsed_s = time.monotonic() - began
    if done.returncode not in (0, 5):
        raise SystemExit(done.stderr.decode())
    return elapsed_s


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
