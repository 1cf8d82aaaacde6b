"""A stack that refinerctl has never seen: its module, its root module and its image, and no change elsewhere.

A schedule sends a message to a queue with a DLQ, which a function in Python consumes. It has no data in S3.
"""

from __future__ import annotations

import json
import shutil
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import ROOT, Finished, Project, eventually

pytestmark = pytest.mark.e2e

STACK = """
from refinerctl.images import ImageReference, Platform
from refinerctl.stacks import base
from refinerctl.stacks.base import Function, Pipeline, Queue, Schedule, Stack, Stage


def _pipeline(settings, values):
    queue = Queue("tiny-work", dlq=Queue("tiny-work-dlq"))
    return Pipeline("tiny", (Stage("work", Schedule("tiny-tick"), queue, Function("tiny-work")),))


def _images(values):
    return (base.StageImage("work", ImageReference.parse(values["image_uri"]), Platform("linux", "amd64")),)


def _read_log_line(line):
    if line.get("message") != "work done":
        return None
    return base.RecordLine(base.RecordEvent.DONE, line["requestId"], line["messageId"])


STACK = Stack(
    "tiny",
    pipeline=_pipeline,
    pipeline_of_outputs=lambda outputs: _pipeline({}, outputs),
    images=_images,
    read_log_line=_read_log_line,
)
"""

ENTRY_POINT = {
    "METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
    "entry_points.txt": "[refinerctl.stacks]\ntiny = tiny:STACK\n",
}

HANDLER = """
import json


def handler(event, context):
    failures = []
    for record in event["Records"]:
        body = json.loads(record["body"])
        if body.get("poison"):
            print("poison received")
            failures.append({"itemIdentifier": record["messageId"]})
            continue
        line = {"message": "work done", "requestId": context.aws_request_id, "messageId": record["messageId"]}
        print(json.dumps({**line, "by": body["by"]}))
    return {"batchItemFailures": failures}
"""

DOCKERFILE = """
FROM public.ecr.aws/lambda/python:3.12
COPY app.py ./
CMD ["app.handler"]
"""

CONFIG = """
environment = "local"

[images.tiny]
repository = "tests/tiny"
context = "images/tiny"
stack = "tiny"

[environments.local]
embedded = true
"""

ROOT_MODULE = """
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.60, < 6.0"
    }
  }
  backend "s3" {
    key = "tiny/terraform.tfstate"
  }
}

provider "aws" {}

variable "image_uri" { type = string }
variable "timeout_s" { default = 3 }
variable "release_tag" { default = "local" }
variable "pinned_images" {
  type    = map(string)
  default = {}
}
variable "function_environment" {
  type    = map(string)
  default = {}
}

data "aws_caller_identity" "current" {}
data "aws_region" "current" {}

locals {
  arn_prefix = "arn:aws:sqs:${data.aws_region.current.id}:${data.aws_caller_identity.current.account_id}"
  registry   = "${data.aws_caller_identity.current.account_id}.dkr.ecr.${data.aws_region.current.id}.amazonaws.com"
}

resource "aws_sqs_queue" "work" {
  name                       = "tiny-work"
  visibility_timeout_seconds = 6 * var.timeout_s
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dlq.arn
    maxReceiveCount     = 1
  })
}

resource "aws_sqs_queue" "dlq" {
  name                      = "tiny-work-dlq"
  message_retention_seconds = 1209600
}

resource "aws_scheduler_schedule" "tick" {
  name                = "tiny-tick"
  schedule_expression = "rate(1 minutes)"
  flexible_time_window { mode = "OFF" }
  target {
    arn      = aws_sqs_queue.work.arn
    role_arn = aws_iam_role.scheduler.arn
    input    = jsonencode({ by = "schedule" })
  }
}

resource "aws_iam_role" "scheduler" {
  name = "tiny-tick"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "scheduler.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy" "scheduler" {
  role = aws_iam_role.scheduler.name
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sqs:SendMessage", Resource = "${local.arn_prefix}:tiny-work" }]
  })
}

resource "aws_iam_role" "work" {
  name = "tiny-work"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "lambda.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy" "work" {
  role = aws_iam_role.work.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
        Resource = "${local.arn_prefix}:tiny-work"
      },
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.work.arn}:*"
      },
    ]
  })
}

resource "aws_cloudwatch_log_group" "work" {
  name              = "/aws/lambda/tiny-work"
  retention_in_days = 7
}

resource "aws_lambda_function" "work" {
  function_name = "tiny-work"
  role          = aws_iam_role.work.arn
  package_type  = "Image"
  image_uri     = lookup(var.pinned_images, "work", "${local.registry}/${var.image_uri}:${var.release_tag}")
  timeout       = var.timeout_s
  environment { variables = var.function_environment }
}

resource "aws_lambda_event_source_mapping" "work" {
  event_source_arn        = aws_sqs_queue.work.arn
  function_name           = aws_lambda_function.work.arn
  function_response_types = ["ReportBatchItemFailures"]
}

output "function_name" { value = aws_lambda_function.work.function_name }
"""


def make_tiny_project(base: Path) -> Project:
    """A project whose only stack is the third one, offered by a package on PYTHONPATH."""
    package = base / "package"
    project = Project(base / "project", {"PYTHONPATH": str(package)})
    stacks, environment = project.folder / "terraform/stacks/tiny", project.folder / "terraform/environments/local"
    image, metadata = project.folder / "images/tiny", package / "tiny-1.0.dist-info"
    for folder in (project.home, project.temporary, stacks, environment, image, metadata):
        folder.mkdir(parents=True)
    (package / "tiny.py").write_text(STACK)
    for name, text in ENTRY_POINT.items():
        (metadata / name).write_text(text)
    (stacks / "main.tf").write_text(ROOT_MODULE)
    shutil.copy(ROOT / "terraform/stacks/registry/.terraform.lock.hcl", stacks)
    shutil.copy(ROOT / "terraform/environments/local/backend.hcl", environment)
    (environment / "tiny.tfvars").write_text('image_uri = "tests/tiny"\n')
    (image / "app.py").write_text(HANDLER)
    (image / "Dockerfile").write_text(DOCKERFILE)
    (project.folder / "refinerctl.toml").write_text(CONFIG)
    return project


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = make_tiny_project(tmp_path_factory.mktemp("tiny"))
    started = project.run("local", "up", "--detach", "--stack", "tiny")
    assert started.code == 0, started.err
    yield project
    ended = project.run("local", "down")
    assert ended.code == 0, ended.err
    assert project.processes() == []


def run(project: Project, *arguments: str) -> Finished:
    return project.run(*arguments, "--stack", "tiny", "--output", "json")


def send(project: Project, **body: Any) -> None:
    sqs = project.client("sqs")
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="tiny-work")["QueueUrl"], MessageBody=json.dumps(body))


def test_local_up_applies_only_the_stack(tiny: Project) -> None:
    status = run(tiny, "local", "status").json()
    assert (status["state"], status["stacks"]) == ("up", ["tiny"])


def test_the_schedule_starts_the_function_through_the_queue(tiny: Project) -> None:
    following = tiny.start("local", "logs", "--follow")
    assert following.stdout is not None
    too_late = threading.Timer(150, following.terminate)
    too_late.start()
    try:
        assert any('"by": "schedule"' in line for line in following.stdout)
    finally:
        too_late.cancel()
        following.terminate()
        following.communicate()


def test_logs_prints_what_the_function_logged(tiny: Project) -> None:
    send(tiny, by="test_logs")

    def logged() -> bool:
        done = run(tiny, "logs", "--since", "10m")
        assert done.code == 0, done.err
        return "test_logs" in done.out

    assert eventually(logged, 30)


def test_status_shows_the_stage(tiny: Project) -> None:
    done = run(tiny, "status")
    assert done.code in (0, 1), done.err
    (stage,) = done.json()["stages"]
    assert stage["name"] == "work"
    assert stage["queue"]["name"] == "tiny-work"
    assert stage["dlq"]["name"] == "tiny-work-dlq"
    assert stage["function"]["name"] == "tiny-work"


def test_dlq_list_counts_the_messages_that_failed(tiny: Project) -> None:
    sqs = tiny.client("sqs")
    url = sqs.get_queue_url(QueueName="tiny-work-dlq")["QueueUrl"]

    def depth() -> int:
        counted = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(counted["Attributes"]["ApproximateNumberOfMessages"])

    send(tiny, poison=True)
    assert eventually(lambda: depth() == 1, 60)
    done = run(tiny, "dlq", "list")
    assert done.code == 0, done.err
    (queue,) = done.json()["queues"]
    assert (queue["name"], queue["depth"]) == ("tiny-work-dlq", 1)


def test_verify_finds_no_failure(tiny: Project) -> None:
    done = run(tiny, "verify")
    checks = done.json()["checks"]
    failed = [check for check in checks if check["status"] == "fail"]
    assert failed == [], json.dumps(failed, indent=2)
    assert any(check["status"] == "pass" for check in checks)


def test_verify_finds_a_schedule_that_is_disabled(tiny: Project) -> None:
    scheduler = tiny.client("scheduler")
    schedule = scheduler.get_schedule(Name="tiny-tick")
    wanted = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    given = {name: schedule[name] for name in wanted}
    scheduler.update_schedule(**given, State="DISABLED")
    try:
        failed = [check for check in run(tiny, "verify").json()["checks"] if check["status"] == "fail"]
    finally:
        scheduler.update_schedule(**given, State="ENABLED")
    assert any("tiny-tick" in check["seen"] for check in failed)


@pytest.mark.nightly
def test_deploy_applies_a_change_of_the_values(tiny: Project) -> None:
    values = tiny.folder / "terraform/environments/local/tiny.tfvars"
    values.write_text('image_uri = "tests/tiny"\ntimeout_s = 4\n')

    done = run(tiny, "deploy", "--yes")

    assert done.code == 0, done.err
    assert tiny.client("lambda").get_function_configuration(FunctionName="tiny-work")["Timeout"] == 4
    assert run(tiny, "drift").code == 0


@pytest.mark.parametrize(
    "arguments", [("upload", "refinerctl.toml"), ("poll",), ("trace", "x")], ids=lambda given: given[0]
)
def test_commands_for_inputs_say_that_it_has_none(tiny: Project, arguments: tuple[str, ...]) -> None:
    done = tiny.run(*arguments, "--stack", "tiny")
    assert done.code == 2, done.err
    assert "stack tiny has no inputs" in done.err


def test_demo_reports_a_stack_without_a_demo(tiny: Project) -> None:
    done = tiny.run("demo", "--stack", "tiny")
    assert done.code == 2, done.err
    assert "stack tiny has no demo" in done.err


def test_an_unknown_stack_is_refused_with_the_known_ones(tiny: Project) -> None:
    done = tiny.run("status", "--stack", "nothing")
    assert done.code == 2
    assert "refiner, rnr, registry, access, tiny" in textwrap.shorten(done.err, 1000)
