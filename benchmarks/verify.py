"""`python -m benchmarks.verify`: `benchmarks.command` with what verify looks at; names come from the stack's values."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.command import BUCKET, RULESETS, measure
from refinerctl.aws.session import AwsSession

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


if __name__ == "__main__":
    measure("verify", fill)
