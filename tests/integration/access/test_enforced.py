"""moto enforces the roles of stack `access` on calls of each role's jobs; what it does not look at (conditions, and
resources of other services than S3 and SQS) test_roles.py asks a simulator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from moto.core.models import DEFAULT_ACCOUNT_ID

from tests.command import Command
from tests.integration.access.roles import ACCOUNT, Roles

REGION = "us-east-1"
CONFIG = """
environment = "account"
[environments.account]
region = "us-east-1"
[stacks.refiner]
bucket = "data-repository"
"""
VALUES = """
rulesets = {
  RefinerInput = {
    prefix    = "RefinerInput/"
    image_uri = "dibbs-ecr-refiner/lambda:v1"
  }
}
"""


@dataclass(frozen=True)
class Account:
    """An account in memory with the stack's bucket, queue and DLQ, and with the four roles."""

    monkeypatch: pytest.MonkeyPatch

    def become(self, role: str) -> Any:
        """Use a role's credentials, in the environment too; returns a session with them."""
        sts = boto3.client("sts", REGION)
        given = sts.assume_role(RoleArn=f"arn:aws:iam::{DEFAULT_ACCOUNT_ID}:role/{role}", RoleSessionName="job")
        keys = given["Credentials"]
        self.monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["AccessKeyId"])
        self.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["SecretAccessKey"])
        self.monkeypatch.setenv("AWS_SESSION_TOKEN", keys["SessionToken"])
        return boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], region_name=REGION)


@pytest.fixture
def account(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "owner")
    with mock_aws():
        iam, s3, sqs = boto3.client("iam", REGION), boto3.client("s3", REGION), boto3.client("sqs", REGION)
        for role, documents in roles.permissions.items():
            iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
            for number, document in enumerate(documents):
                iam.put_role_policy(RoleName=role, PolicyName=f"p{number}", PolicyDocument=_for_moto(document))
        for bucket in ("data-repository", "terraform-state", "others"):
            s3.create_bucket(Bucket=bucket)
        for queue in ("dibbs-ecr-RefinerInput", "dibbs-ecr-RefinerInput-dlq", "others"):
            sqs.create_queue(QueueName=queue)
        boto3.client("ecr", REGION).create_repository(repositoryName="rnr/worker")
        yield Account(monkeypatch)


def _for_moto(document: dict[str, Any]) -> str:
    """moto asks for resource `*` of other services, and of a queue that does not exist; it meets no condition.

    It has a permission of its own for HeadBucket.
    """
    statements = [
        {"Effect": "Allow", "Action": name, "Resource": item["Resource"] if _is_looked_at(name) else "*"}
        for item in document["Statement"]
        for action in item["Action"]
        for name in ((action, "s3:HeadBucket") if action == "s3:ListBucket" else (action,))
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}).replace(ACCOUNT, DEFAULT_ACCOUNT_ID)


def _is_looked_at(action: str) -> bool:
    return action.startswith(("s3:", "sqs:")) and action != "sqs:CreateQueue"


@set_initial_no_auth_action_count(0)
def refused(calls: dict[str, Callable[[], Any]]) -> set[str]:
    """Those of the calls that the account denies."""
    found = set()
    for name, call in calls.items():
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException", "403"}:
                found.add(name)
    return found


def test_sync_pushes_and_deletes_nothing(account: Account) -> None:
    session = account.become("sync")
    ecr, s3 = session.client("ecr"), session.client("s3")
    manifest = json.dumps({"schemaVersion": 2, "layers": [], "config": {"digest": f"sha256:{'0' * 64}", "size": 2}})
    image: dict[str, Any] = {"repositoryName": "rnr/worker", "imageManifest": manifest, "imageTag": "v1"}

    assert refused(
        {
            "log in": ecr.get_authorization_token,
            "push": lambda: ecr.put_image(**image),
            "look": lambda: ecr.describe_images(repositoryName="rnr/worker"),
            "delete": lambda: ecr.batch_delete_image(repositoryName="rnr/worker", imageIds=[{"imageTag": "v1"}]),
            "delete repository": lambda: ecr.delete_repository(repositoryName="rnr/worker", force=True),
            "create repository": lambda: ecr.create_repository(repositoryName="new"),
            "read the state": lambda: s3.list_objects_v2(Bucket="terraform-state"),
        }
    ) == {"delete", "delete repository", "create repository", "read the state"}


@pytest.mark.parametrize(("role", "writes"), [("plan", False), ("deploy", True)])
def test_plan_locks_the_state_and_deploy_writes_it(account: Account, role: str, writes: bool) -> None:
    session = account.become(role)
    s3, sqs, iam = (session.client(name) for name in ("s3", "sqs", "iam"))
    bucket, state = "terraform-state", "refiner/terraform.tfstate"

    def put(key: str) -> Any:
        return s3.put_object(Bucket=bucket, Key=key, Body=b"{}")

    denied = refused(
        {
            "lock": lambda: put(f"{state}.tflock"),
            "unlock": lambda: s3.delete_object(Bucket=bucket, Key=f"{state}.tflock"),
            "list": lambda: s3.list_objects_v2(Bucket=bucket),
            "read": lambda: s3.get_object(Bucket=bucket, Key=state),
            "look at the bucket": lambda: s3.head_bucket(Bucket="data-repository"),
            "look at roles": lambda: iam.get_role(RoleName="plan"),
            "write": lambda: put(state),
            "record the release": lambda: put("refiner/terraform.releases.json"),
            "create a queue": lambda: sqs.create_queue(QueueName="dibbs-ecr-New"),
            "version the bucket": lambda: s3.put_bucket_versioning(
                Bucket="data-repository", VersioningConfiguration={"Status": "Enabled"}
            ),
            "write the state of access": lambda: put("access/terraform.tfstate"),
            "delete the state": lambda: s3.delete_object(Bucket=bucket, Key=state),
            "delete the bucket": lambda: s3.delete_bucket(Bucket="data-repository"),
            "delete another queue": lambda: sqs.delete_queue(QueueUrl=_url("others")),
            "create a user": lambda: iam.create_user(UserName="a"),
        }
    )

    never = {
        "write the state of access",
        "delete the state",
        "delete the bucket",
        "delete another queue",
        "create a user",
    }
    changes = {"write", "record the release", "create a queue", "version the bucket"}
    assert denied == (never if writes else never | changes)


def test_operate_uploads_and_reads_with_refinerctl(account: Account, refinerctl: Command, tmp_path: Path) -> None:
    folder = tmp_path / "terraform/environments/account"
    folder.mkdir(parents=True)
    (folder / "refiner.tfvars").write_text(VALUES)
    (folder / "backend.hcl").write_text('bucket = "terraform-state"\nregion = "us-east-1"\n')
    (tmp_path / "refinerctl.toml").write_text(CONFIG)
    (tmp_path / "a.txt").write_text("x")
    s3 = boto3.client("s3", REGION)
    s3.put_object(Bucket="data-repository", Key="RefinerComplete/a.txt.json", Body=b'["RefinerOutput/1.txt"]')
    s3.put_object(Bucket="data-repository", Key="RefinerOutput/1.txt", Body=b"refined")
    session = account.become("operate")

    @set_initial_no_auth_action_count(0)
    def run(*arguments: str) -> Any:
        return refinerctl(*arguments, cwd=tmp_path)

    uploaded, polled = (
        run("upload", "a.txt", "--output", "json"),
        run("poll", "--once", "--content", "--output", "json"),
    )
    elsewhere = run("upload", "a.txt", "--prefix", "OtherInput/", "--output", "json")

    assert (uploaded.code, uploaded.json()["uploads"][0]["key"]) == (0, "RefinerInput/a.txt"), uploaded.err
    assert [output["content"] for line in polled.lines() for output in line["outputs"]] == ["refined"], polled.err
    assert elsewhere.code == 1
    assert "denied" in elsewhere.err.lower()
    sqs, own = session.client("sqs"), session.client("s3")
    dlq = _url("dibbs-ecr-RefinerInput-dlq")
    assert refused(
        {
            "receive": lambda: sqs.receive_message(QueueUrl=dlq),
            "send back": lambda: sqs.send_message(QueueUrl=_url("dibbs-ecr-RefinerInput"), MessageBody="x"),
            "purge": lambda: sqs.purge_queue(QueueUrl=dlq),
            "send elsewhere": lambda: sqs.send_message(QueueUrl=_url("others"), MessageBody="x"),
            "delete an input": lambda: own.delete_object(Bucket="data-repository", Key="RefinerInput/a.txt"),
            "read another bucket": lambda: own.list_objects_v2(Bucket="others"),
        }
    ) == {"purge", "send elsewhere", "delete an input", "read another bucket"}


def _url(queue: str) -> str:
    return f"https://sqs.{REGION}.amazonaws.com/{DEFAULT_ACCOUNT_ID}/{queue}"
