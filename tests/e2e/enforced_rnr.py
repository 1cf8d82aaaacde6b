"""Runs the code of stack rnr's images with a role, on moto in this process, which enforces its policies.

moto enforces resources of S3 and SQS only, and no conditions: `requests` of a run are for a simulator, which does.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from moto.core import set_initial_no_auth_action_count

from refinerctl.terraform.runner import Terraform
from tests.e2e.enforced import BUCKET, DENIED, REGION, put_statements, role_session
from tests.e2e.project import ROOT

OUTPUT_BUCKET = "routed"
TASK = f"arn:aws:ecs:{REGION}:123456789012:task/rnr-test/1"
BY_RESOURCE = ("s3", "sqs")
# Operations whose permission has another name.
ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
# Runs after the mocks of the stack's own test.
RUN = f"""
run "roles" {{
  variables {{
    input_bucket_name  = "{BUCKET}"
    output_bucket_name = "{OUTPUT_BUCKET}"
    producer           = {{ feed_url = "https://feed.example/products" }}
    worker             = {{ processor_command = "cp" }}
  }}

  override_resource {{
    target = module.broker.aws_secretsmanager_secret.this
    values = {{ arn = "arn:aws:secretsmanager:{REGION}:123456789012:secret:broker" }}
  }}

  override_resource {{
    target = module.cache.aws_secretsmanager_secret.this
    values = {{ arn = "arn:aws:secretsmanager:{REGION}:123456789012:secret:cache" }}
  }}
}}
"""

Statement = dict[str, Any]


@dataclass(frozen=True)
class Role:
    """What Terraform makes of it: each action and resource in a statement of its own, and the image's variables."""

    statements: list[Statement]
    variables: dict[str, str]

    def without(self, permission: str) -> Role:
        """The role without one of its permissions."""
        return Role([item for item in self.statements if permission_of(item) != permission], self.variables)

    @property
    def permissions(self) -> list[str]:
        return [permission_of(item) for item in self.statements if item["Effect"] == "Allow"]


def permission_of(statement: Statement) -> str:
    """An action and a resource as text."""
    return f"{statement['Action']} {statement['Resource'].split(':', 5)[-1]}"


def roles_of_terraform(folder: Path) -> dict[str, Role]:
    """The roles of functions and tasks by their name without prefix, of the root module with mocked AWS."""
    shutil.copytree(ROOT / "terraform", folder / "terraform")
    module = folder / "terraform" / "stacks" / "rnr"
    shared = folder / "terraform" / "mocks" / "account.tfmock.hcl"
    shared.write_text(shared.read_text().replace("eu-west-1", REGION))
    mocks = (module / "tftest" / "rnr.tftest.hcl").read_text().partition('\nrun "')[0]
    (module / "tftest" / "roles.tftest.hcl").write_text(mocks.replace("eu-west-1", REGION) + RUN)
    terraform = Terraform(
        module=module,
        data_dir=folder / "data",
        work_folder=folder / "work",
        log=folder / "terraform.log",
        environment={"AWS_EC2_METADATA_DISABLED": "true"},
        embedded=True,
    )
    terraform.init("-backend=false", "-test-directory=tftest")
    done = terraform.run("test", "-json", "-verbose", "-test-directory=tftest", "-filter=tftest/roles.tftest.hcl")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    states = [event["test_state"] for event in events if event["type"] == "test_state"]
    assert len(states) == 1, done.stdout[-3000:]
    modules = {child["address"]: _resources(child) for child in states[0]["root_module"]["child_modules"]}
    return {name: _role(modules[f"module.{name}"]) for name in ("producer", "autoscaler", "postprocess", "worker")}


def _resources(module: dict[str, Any]) -> dict[str, Any]:
    return {f"{item['type']}.{item['name']}": item["values"] for item in module["resources"]}


def _role(resources: dict[str, Any]) -> Role:
    policy = resources.get("aws_iam_role_policy.function") or resources["aws_iam_role_policy.task"]
    function = resources.get("aws_lambda_function.this")
    if function:
        variables = function["environment"][0]["variables"]
    else:
        (container,) = json.loads(resources["aws_ecs_task_definition.this"]["container_definitions"])
        variables = {item["name"]: item["value"] for item in container["environment"]}
    statements = [
        {**item, "Action": action, "Resource": resource}
        for item in json.loads(policy["policy"])["Statement"]
        for action in item["Action"]
        for resource in item["Resource"]
    ]
    return Role(statements, variables)


@dataclass
class Calls:
    """What a run asked AWS for: each request as a simulator takes it, the operations that moto denied."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    failure: str = ""


Run = Callable[[Role, Callable[[], None]], Calls]


@contextmanager
def account(role: Role, variables: Mapping[str, str]) -> Iterator[Run]:
    """An account in memory, and what runs code in it with the permissions of a role."""
    with role_session(_for_moto(role.statements)) as given, patch.dict(os.environ, {**role.variables, **variables}):
        boto3.setup_default_session(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            region_name=REGION,
        )
        calls = Calls()
        _record(boto3.DEFAULT_SESSION, calls)

        @set_initial_no_auth_action_count(0)
        def enforced(act: Callable[[], None]) -> None:
            try:
                act()
            except Exception as error:
                calls.failure = repr(error)

        def run(role: Role, act: Callable[[], None]) -> Calls:
            put_statements(_for_moto(role.statements))
            calls.requests, calls.denied, calls.failure = [], set(), ""
            enforced(act)
            return replace(calls)

        try:
            yield run
        finally:
            boto3.setup_default_session()


def _for_moto(statements: list[Statement]) -> list[Statement]:
    """moto asks for resource `*` of other services, meets no condition, and calls CloudWatch by its endpoint."""
    return [
        item
        if item["Action"].startswith(BY_RESOURCE)
        else {
            "Effect": "Allow",
            "Action": item["Action"].replace("cloudwatch:", "monitoring:"),
            "Resource": "*",
        }
        for item in statements
        if item["Effect"] == "Allow"
    ]


def _record(session: Any, calls: Calls) -> None:
    def request(params: dict[str, Any], model: Any, **_: Any) -> None:
        service, name = model.service_model.service_name, model.name
        resource, context = _target(service, name, params)
        action = f"{service}:{ACTIONS.get(name, name)}"
        calls.requests.append({"action": action, "resource": resource, "contextVariables": context})

    def answer(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        if parsed.get("Error", {}).get("Code") in DENIED:
            calls.denied.add(f"{model.service_model.service_name}:{model.name}")
        elif model.name == "ListTasks":
            parsed["taskArns"] = [TASK]  # moto's services have no tasks

    session.events.register("provide-client-params", request)
    session.events.register("after-call", answer)
    for name in ("GetTaskProtection", "UpdateTaskProtection"):
        session.events.register(f"before-call.ecs.{name}", _protection)
    session.events.register("before-call.s3.UploadPart", _fail_upload)


def _protection(**_: Any) -> tuple[AWSResponse, dict[str, Any]]:
    """An answer in place of moto, which has none."""
    return AWSResponse("", 200, HTTPHeaders(), None), {"protectedTasks": [{"protectionEnabled": False}], "failures": []}


def _fail_upload(params: dict[str, Any], **_: Any) -> None:
    """Interrupts uploads in parts, but those of `whole`."""
    if "whole" not in params["url"]:
        raise ConnectionError("on purpose")


def _target(service: str, name: str, params: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The resource and the context of a request."""
    if service == "s3":
        return "arn:aws:s3:::" + "/".join(params[part] for part in ("Bucket", "Key") if part in params), {}
    if service == "sqs":
        return _arn("sqs", params["QueueUrl"].rpartition("/")[2]), {}
    if service == "ssm":
        return _arn("ssm", f"parameter{params['Name']}"), {}
    if service == "secretsmanager":
        return params["SecretId"], {}
    if service == "cloudwatch":
        return "*", {"cloudwatch:namespace": params["Namespace"]}
    cluster = params["cluster"]
    if name == "ListTasks":
        return "*", {"ecs:cluster": _arn("ecs", f"cluster/{cluster}")}
    service_name = params.get("service") or params.get("services", [""])[0]
    return (_arn("ecs", f"service/{cluster}/{service_name}") if service_name else params["tasks"][0]), {}


def _arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:123456789012:{rest}"
