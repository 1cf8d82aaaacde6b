"""A role's policy, enforced: moto in this process allows or denies each call as IAM does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from moto.core.models import DEFAULT_ACCOUNT_ID

BUCKET, QUEUE, GROUP = "data-repository", "dibbs-ecr-RefinerInput", "/aws/lambda/dibbs-ecr-RefinerInput"
OTHER_QUEUE = "dibbs-ecr-OtherInput"
REGION = "us-east-1"
EMULATED_ACCOUNT = "000000000000"
DENIED = {"AccessDenied", "AccessDeniedException", "403"}


@dataclass(frozen=True)
class Calls:
    """The calls that Lambda and the image need, and calls that they must not make; see images/refiner/README.md."""

    make: Callable[[str], Any]
    queue_url: str
    other_queue_url: str
    receipt: str

    def needed(self) -> dict[str, Callable[[], Any]]:
        s3, sqs, logs = (self.make(name) for name in ("s3", "sqs", "logs"))
        stream = {"logGroupName": GROUP, "logStreamName": "2026/03/01/[$LATEST]a"}
        event = {"timestamp": int(time.time() * 1000), "message": "a line"}
        return {
            "read the input": lambda: s3.get_object(Bucket=BUCKET, Key="RefinerInput/a"),
            "tell a missing input": lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix="RefinerInput/b"),
            "write an output": lambda: s3.put_object(Bucket=BUCKET, Key="RefinerOutput/a.txt", Body=b""),
            "write the completion": lambda: s3.put_object(Bucket=BUCKET, Key="RefinerComplete/a.json", Body=b""),
            "receive": lambda: sqs.receive_message(QueueUrl=self.queue_url),
            "delete": lambda: sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=self.receipt),
            "look at the queue": lambda: sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["QueueArn"]),
            "begin a log": lambda: logs.create_log_stream(**stream),
            "log": lambda: logs.put_log_events(**stream, logEvents=[event]),
        }

    def never(self) -> dict[str, Callable[[], Any]]:
        """Calls that a role must deny: NEVER has their names."""
        s3, sqs, iam = (self.make(name) for name in ("s3", "sqs", "iam"))
        other = self.other_queue_url
        return {
            "read another ruleset's input": lambda: s3.get_object(Bucket=BUCKET, Key="OtherInput/a"),
            "write another ruleset's input": lambda: s3.put_object(Bucket=BUCKET, Key="OtherInput/a", Body=b""),
            "delete an input": lambda: s3.delete_object(Bucket=BUCKET, Key="RefinerInput/a"),
            "list buckets": s3.list_buckets,
            "receive from another queue": lambda: sqs.receive_message(QueueUrl=other),
            "send": lambda: sqs.send_message(QueueUrl=self.queue_url, MessageBody="x"),
            "purge": lambda: sqs.purge_queue(QueueUrl=self.queue_url),
            "look at users": iam.list_users,
        }


# The names of what `Calls.never` makes.
NEVER = frozenset(Calls(lambda _: SimpleNamespace(list_buckets=None, list_users=None), "", "", "").never())


def denied_calls(statements: list[dict[str, Any]]) -> set[str]:
    """The names of the calls that a role with these statements may not make."""
    with role_session(statements) as given:
        calls = _prepared(_session(), given)
        found: set[str] = set_initial_no_auth_action_count(0)(lambda: _denied(calls))()
        return found


@contextmanager
def role_session(statements: list[dict[str, Any]]) -> Iterator[Any]:
    """The credentials of a role with these statements, in an account that has the bucket with an input."""
    with mock_aws():
        s3 = _session().client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="RefinerInput/a", Body=b"x")
        yield _credentials(_session().client("iam"), statements)


def _session() -> Any:
    return boto3.Session("made-up", "made-up", region_name=REGION)


def _credentials(iam: Any, statements: list[dict[str, Any]]) -> Any:
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    # Both emulators have an account of their own.
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements}).replace(
        EMULATED_ACCOUNT, DEFAULT_ACCOUNT_ID
    )
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=policy)
    return _session().client("sts").assume_role(RoleArn=role, RoleSessionName="of-a-test")["Credentials"]


def _prepared(session: Any, given: Any) -> Calls:
    sqs = session.client("sqs")
    urls = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in (QUEUE, OTHER_QUEUE)]
    sqs.send_message(QueueUrl=urls[0], MessageBody="x")
    receipt = sqs.receive_message(QueueUrl=urls[0])["Messages"][0]["ReceiptHandle"]
    session.client("logs").create_log_group(logGroupName=GROUP)
    as_role: Any = boto3.Session(
        given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name=REGION
    )
    return Calls(as_role.client, urls[0], urls[1], receipt)


def _denied(calls: Calls) -> set[str]:
    return {name for name, call in (calls.needed() | calls.never()).items() if _is_denied(call)}


def _is_denied(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        assert code in {*DENIED, "ResourceNotFoundException"}, code  # the log stream, if it could not be begun
        return code in DENIED
    return False


def role_statements(iam: Any, role: str) -> list[dict[str, Any]]:
    """All statements of a role's policies, inline and attached, from the IAM that has it."""
    inline = iam.list_role_policies(RoleName=role)["PolicyNames"]
    documents = [iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in inline]
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        documents.append(iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"])
    return [statement for document in documents for statement in document["Statement"]]


def without(statements: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    """The statements without an action."""
    left = [{**item, "Action": [name for name in item["Action"] if name != action]} for item in statements]
    return [item for item in left if item["Action"]]


def without_resource(statements: list[dict[str, Any]], resource: str) -> list[dict[str, Any]]:
    """The statements without a resource."""

    def left(item: dict[str, Any]) -> Any:
        given = item["Resource"]
        return given if isinstance(given, str) else [name for name in given if name != resource]

    return [{**item, "Resource": left(item)} for item in statements if left(item)]
