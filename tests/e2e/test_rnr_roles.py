"""The roles of stack rnr are sufficient and minimal: the images' code runs with their policies as Terraform makes them.

moto enforces them in this process; what it does not look at (resources of other services than S3 and SQS, conditions)
is asked of an independent simulator.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from autoscaler.handler import Autoscaler
from autoscaler.management import ManagementApi
from autoscaler.service import EcsService
from postprocess.handler import settings_of
from postprocess.run import PostProcess
from producer.handler import Producer
from producer.tests.site import Site, serving
from refinerctl.local.rabbitmq import RabbitMQServer
from refinerctl.local.redis import RedisServer
from rnr_common.broker import Broker
from rnr_common.log import Logger
from rnr_common.message import WorkMessage
from rnr_common.trace_context import new_traceparent
from tests.e2e.enforced import BUCKET, REGION, owner
from tests.e2e.enforced_rnr import OUTPUT_BUCKET, TASK, Calls, Role, account, roles_of_terraform
from tests.policy_simulator import Simulate
from worker.consumer import Delivery, Outcome
from worker.job import Job
from worker.settings import Settings
from worker.storage import Storage, s3_client

pytestmark = pytest.mark.e2e

LARGE = 9 * 2**20  # uploaded in parts
QUEUE = "roles-work"
CONTEXT: Any = SimpleNamespace(aws_request_id="r", get_remaining_time_in_millis=lambda: 300_000)
NUMBERS = itertools.count(1)
QUIET = Logger(lambda _: None)

# Each permission, with the actions of the image that fail without it.
NEEDED: dict[str, dict[str, set[str]]] = {
    "producer": {
        "sqs:SendMessage rnr-test-producer-dlq": {"sqs:SendMessage"},
        "s3:ListBucket data-repository": {"s3:ListBucket"},
        "s3:GetObject data-repository/rnr/input/*": {"s3:GetObject"},
        "s3:PutObject data-repository/rnr/input/*": {"s3:PutObject"},
        "secretsmanager:GetSecretValue secret:broker": {"secretsmanager:GetSecretValue"},
        "secretsmanager:GetSecretValue secret:cache": {"secretsmanager:GetSecretValue"},
    },
    "autoscaler": {
        "sqs:SendMessage rnr-test-autoscaler-dlq": {"sqs:SendMessage"},
        "secretsmanager:GetSecretValue secret:broker": {"secretsmanager:GetSecretValue"},
        "ecs:DescribeServices service/rnr-test/rnr-test-worker": {"ecs:DescribeServices"},
        "ecs:UpdateService service/rnr-test/rnr-test-worker": {"ecs:UpdateService"},
        "ecs:GetTaskProtection task/rnr-test/*": {"ecs:GetTaskProtection"},
        "ecs:ListTasks *": {"ecs:ListTasks"},
        "cloudwatch:PutMetricData *": {"cloudwatch:PutMetricData"},
        "ssm:GetParameter parameter/rnr-test/autoscaler": {"ssm:GetParameter"},
        "ssm:PutParameter parameter/rnr-test/autoscaler": {"ssm:PutParameter"},
    },
    "postprocess": {
        "sqs:SendMessage rnr-test-postprocess-dlq": {"sqs:SendMessage"},
        "s3:ListBucket routed": {"s3:ListBucket"},
        "s3:GetObject routed/rnr/output/*": {"s3:GetObject"},
        "s3:GetObject routed/rnr/complete/*": {"s3:GetObject"},
        "s3:GetObject routed/rnr/merged/*": {"s3:GetObject"},
        "s3:PutObject routed/rnr/merged/*": {"s3:PutObject"},
        "s3:DeleteObject routed/rnr/merged/*": {"s3:DeleteObject"},
        "s3:AbortMultipartUpload routed/rnr/merged/*": {"s3:AbortMultipartUpload"},
    },
    "worker": {
        # Without it S3 answers 403 instead of 404 for a completion or an input that does not exist; no call of its own.
        "s3:ListBucket data-repository": set(),
        "s3:ListBucket routed": set(),
        "s3:GetObject data-repository/rnr/input/*": {"s3:GetObject"},
        "s3:GetObject routed/rnr/output/*": {"s3:GetObject"},
        "s3:GetObject routed/rnr/complete/*": {"s3:GetObject"},
        "s3:PutObject routed/rnr/output/*": {"s3:PutObject"},
        "s3:PutObject routed/rnr/complete/*": {"s3:PutObject"},
        "s3:AbortMultipartUpload routed/rnr/output/*": {"s3:AbortMultipartUpload"},
        "secretsmanager:GetSecretValue secret:broker": {"secretsmanager:GetSecretValue"},
        "ecs:GetTaskProtection task/rnr-test/*": {"ecs:GetTaskProtection"},
        "ecs:UpdateTaskProtection task/rnr-test/*": {"ecs:UpdateTaskProtection"},
    },
}
# Neighbours that no role may use.
OTHERS = [
    ("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{REGION}:123456789012:secret:other", {}),
    ("ssm:GetParameter", f"arn:aws:ssm:{REGION}:123456789012:parameter/other/autoscaler", {}),
    ("ecs:UpdateService", f"arn:aws:ecs:{REGION}:123456789012:service/rnr-test/other", {}),
    ("ecs:UpdateTaskProtection", f"arn:aws:ecs:{REGION}:123456789012:task/other/1", {}),
    ("ecs:ListTasks", "*", {"ecs:cluster": f"arn:aws:ecs:{REGION}:123456789012:cluster/other"}),
    ("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "other"}),
    ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/other/a", {}),
    ("s3:PutObject", f"arn:aws:s3:::{OUTPUT_BUCKET}/other/a", {}),
    ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/rnr/input/a", {}),
]


@dataclass
class Servers:
    """What the images use beside AWS."""

    rabbitmq: RabbitMQServer
    redis: RedisServer
    feed: Site

    @property
    def variables(self) -> dict[str, str]:
        """In place of those that Terraform makes of its mocks."""
        return {
            "RNR_QUEUE": QUEUE,
            "RNR_BROKER_URL": self.rabbitmq.endpoint,
            "RNR_BROKER_API_URL": self.rabbitmq.api_url,
            "RNR_CACHE_URL": self.redis.endpoint,
            "RNR_FEED_URL": self.feed.url,
            "RNR_MAX_COMPLETIONS": "1",
            "RNR_MIN_TASKS": "1",  # the service has none yet
        }


@pytest.fixture(scope="module")
def servers(rabbitmq: RabbitMQServer, redis: RedisServer) -> Iterator[Servers]:
    with serving() as site:
        site.add("product")
        yield Servers(rabbitmq, redis, site)


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Role]:
    return roles_of_terraform(tmp_path_factory.mktemp("roles"))


def create(servers: Servers, function: str) -> None:
    """What exists in the account, beside objects."""
    secrets, ecs = owner("secretsmanager"), owner("ecs")
    broker = {"username": servers.rabbitmq.username, "password": servers.rabbitmq.password}
    for name, values in {"broker": broker, "cache": {"token": servers.redis.password}}.items():
        secrets.create_secret(Name=name, SecretString=json.dumps(values))
    owner("s3").create_bucket(Bucket=OUTPUT_BUCKET)
    owner("sqs").create_queue(QueueName=f"rnr-test-{function}-dlq")
    ecs.create_cluster(clusterName="rnr-test")
    container: Any = {"name": "worker", "image": "worker", "memory": 128}
    ecs.register_task_definition(family="rnr-test-worker", containerDefinitions=[container])
    ecs.create_service(
        cluster="rnr-test", serviceName="rnr-test-worker", taskDefinition="rnr-test-worker", desiredCount=0
    )


def arrange(name: str) -> None:
    """What an image finds before each run: a small and a large input, or their results."""
    s3 = owner("s3")
    for bucket in (BUCKET, OUTPUT_BUCKET):
        for item in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            s3.delete_object(Bucket=bucket, Key=item["Key"])
    owner("ssm").put_parameter(Name="/rnr-test/autoscaler", Value="{}", Type="String", Overwrite=True)
    owner("ecs").update_service(cluster="rnr-test", service="rnr-test-worker", desiredCount=0)
    s3.put_object(Bucket=BUCKET, Key="rnr/input/small.csv", Body=b"x")
    if name == "worker":
        for large in ("whole", "large"):
            s3.put_object(Bucket=BUCKET, Key=f"rnr/input/{large}.csv", Body=bytes(LARGE))
    if name == "postprocess":
        # The older one is merged first.
        put_result("a", b"time,flow\nt,1\n")
        put_result("large", b"time,flow\n" + (b"t" * (LARGE // 100) + b",1\n") * 100)
        # Of a run that was killed; the run of the test is later.
        s3.put_object(Bucket=OUTPUT_BUCKET, Key=f"rnr/merged/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-0123abcd.csv", Body=b"")


def put_result(name: str, body: bytes) -> None:
    """Put an output and its completion, as a worker does."""
    key = f"rnr/output/{name}/flow.csv"
    etag = owner("s3").put_object(Bucket=OUTPUT_BUCKET, Key=key, Body=body)["ETag"].strip('"')
    completion = {"status": "completed", "outputs": [{"key": key, "etag": etag, "size": len(body)}]}
    owner("s3").put_object(Bucket=OUTPUT_BUCKET, Key=f"rnr/complete/{name}.json", Body=json.dumps(completion).encode())


def produce() -> None:
    Producer(os.environ)(None, CONTEXT)


def scale() -> None:
    ssm, cloudwatch, ecs = boto3.client("ssm"), boto3.client("cloudwatch"), boto3.client("ecs")
    service = EcsService(ecs, os.environ["RNR_CLUSTER"], os.environ["RNR_SERVICE"])
    Autoscaler(os.environ, ManagementApi(os.environ), service, ssm, cloudwatch).run(int(time.time()), QUIET)


def postprocess() -> None:
    """Remove the file of a run that was killed, merge a small output, begin with a large one."""
    now = lambda: datetime.now(UTC) + timedelta(hours=2)  # noqa: E731

    def run() -> None:
        PostProcess(boto3.client("s3"), settings_of(os.environ), QUIET, lambda: 300, now).run()

    run()
    with contextlib.suppress(ConnectionError):
        run()


def work() -> None:
    """Process a small input and two large ones in a protected task; the last upload is broken off."""
    Broker(os.environ).parameters("worker")  # reads the secret
    agent = boto3.client("ecs")
    agent.update_task_protection(cluster="rnr-test", tasks=[TASK], protectionEnabled=True)
    agent.get_task_protection(cluster="rnr-test", tasks=[TASK])
    settings = Settings.read(os.environ)
    job = Job(settings, Storage(s3_client(), settings, QUIET), QUIET)
    for name, outcome in (("small", Outcome.DONE), ("whole", Outcome.DONE), ("large", Outcome.RETRY)):
        message = WorkMessage(BUCKET, f"rnr/input/{name}.csv", None, "e", 1)
        channel: Any = None
        delivery = Delivery(channel, 1, message.properties(new_traceparent()), message.body())
        assert job(delivery, threading.Event()) is outcome


def send_failure(function: str) -> None:
    """As Lambda does with the role after the last attempt."""
    url = f"https://sqs.{REGION}.amazonaws.com/123456789012/rnr-test-{function}-dlq"
    boto3.client("sqs").send_message(QueueUrl=url, MessageBody="{}")


ACTS: dict[str, Callable[[], None]] = {
    "producer": produce,
    "autoscaler": scale,
    "postprocess": postprocess,
    "worker": work,
}


@pytest.mark.parametrize("name", ACTS)
def test_a_role_has_what_its_image_needs_and_nothing_else(
    servers: Servers, roles: dict[str, Role], simulate: Simulate, name: str
) -> None:
    role = roles[name]

    def is_allowed(request: dict[str, Any], of: Role = role) -> bool:
        return allowed(simulate, request, of)

    def act() -> None:
        if name != "worker":
            send_failure(name)
        ACTS[name]()

    with account(role, servers.variables) as run:
        create(servers, name)

        def once(role: Role) -> Calls:
            arrange(name)
            os.environ["RNR_NAME"] = f"roles-{next(NUMBERS)}"  # with claims of its own
            return run(role, act)

        full = once(role)
        assert (full.denied, full.failure) == (set(), "")
        # moto looks at resources of S3 only; the calls that it denies are named like the actions, or like HeadObject.
        s3 = [permission for permission, actions in NEEDED[name].items() if permission.startswith("s3:") and actions]
        assert [permission for permission in s3 if not once(role.without(permission)).denied] == []

    assert [request for request in full.requests if not is_allowed(request)] == []
    without = {permission: role.without(permission) for permission in role.permissions}
    assert {
        permission: {request["action"] for request in full.requests if not is_allowed(request, rest)}
        for permission, rest in without.items()
    } == NEEDED[name]
    others = [
        {"action": action, "resource": resource, "contextVariables": context} for action, resource, context in OTHERS
    ]
    assert [other for other in others if is_allowed(other)] == []


def allowed(simulate: Simulate, request: dict[str, Any], role: Role) -> bool:
    """What the simulator says of a request by this role."""
    verdict = simulate(
        {
            "request": {
                **request,
                "principal": "arn:aws:iam::123456789012:role/r",
                "resource": {"resource": request["resource"], "accountId": "123456789012"},
            },
            "identityPolicies": [{"name": "p", "policy": {"Version": "2012-10-17", "Statement": role.statements}}],
        }
    )
    assert isinstance(verdict, bool), verdict
    return verdict
