"""A role's policy, enforced: moto in this process allows or denies each call as IAM does."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count
from moto.core.models import DEFAULT_ACCOUNT_ID

BUCKET, QUEUE, GROUP = "data-repository", "dibbs-ecr-RefinerInput", "/aws/lambda/dibbs-ecr-RefinerInput"
REGION = "us-east-1"
EMULATED_ACCOUNT = "000000000000"
DENIED = {"AccessDenied", "AccessDeniedException", "403"}


def wrong_calls(statements: list[dict[str, Any]]) -> set[str]:
    """What a role with these statements may not do although Lambda and the image need it, by action; and what it may
    do although it must not. See images/refiner/README.md.
    """
    with role_session(statements) as given:
        owner = _session().client("sqs")
        queue, other = (owner.create_queue(QueueName=name)["QueueUrl"] for name in (QUEUE, "dibbs-ecr-OtherInput"))
        owner.send_message(QueueUrl=queue, MessageBody="x")
        receipt = owner.receive_message(QueueUrl=queue)["Messages"][0]["ReceiptHandle"]
        _session().client("logs").create_log_group(logGroupName=GROUP)
        as_role = _session(given)
        s3, sqs, logs, iam = map(as_role.client, ("s3", "sqs", "logs", "iam"))
        stream = {"logGroupName": GROUP, "logStreamName": "2026/03/01/[$LATEST]a"}
        event = {"timestamp": int(time.time() * 1000), "message": "a line"}
        needed: list[tuple[str, Callable[[], Any]]] = [
            ("s3:GetObject", lambda: s3.get_object(Bucket=BUCKET, Key="RefinerInput/a")),
            ("s3:ListBucket", lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix="RefinerInput/b")),
            ("s3:PutObject", lambda: s3.put_object(Bucket=BUCKET, Key="RefinerOutput/a.txt", Body=b"")),
            ("s3:PutObject", lambda: s3.put_object(Bucket=BUCKET, Key="RefinerComplete/a.json", Body=b"")),
            ("sqs:ReceiveMessage", lambda: sqs.receive_message(QueueUrl=queue)),
            ("sqs:DeleteMessage", lambda: sqs.delete_message(QueueUrl=queue, ReceiptHandle=receipt)),
            ("sqs:GetQueueAttributes", lambda: sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])),
            ("logs:CreateLogStream", lambda: logs.create_log_stream(**stream)),
            ("logs:PutLogEvents", lambda: logs.put_log_events(**stream, logEvents=[event])),
        ]
        never: dict[str, Callable[[], Any]] = {
            "read another ruleset's input": lambda: s3.get_object(Bucket=BUCKET, Key="OtherInput/a"),
            "write another ruleset's input": lambda: s3.put_object(Bucket=BUCKET, Key="OtherInput/a", Body=b""),
            "delete an input": lambda: s3.delete_object(Bucket=BUCKET, Key="RefinerInput/a"),
            "list buckets": s3.list_buckets,
            "receive from another queue": lambda: sqs.receive_message(QueueUrl=other),
            "send": lambda: sqs.send_message(QueueUrl=queue, MessageBody="x"),
            "purge": lambda: sqs.purge_queue(QueueUrl=queue),
            "list users": iam.list_users,
        }

        @set_initial_no_auth_action_count(0)
        def wrong() -> set[str]:
            missing = {action for action, call in needed if is_denied(call)}
            return missing | {what for what, call in never.items() if not is_denied(call)}

        found: set[str] = wrong()
        return found


@contextmanager
def role_session(statements: list[dict[str, Any]]) -> Iterator[Any]:
    """The credentials of a role with these statements, in an account that has the bucket with an input."""
    with mock_aws():
        s3, iam = _session().client("s3"), _session().client("iam")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="RefinerInput/a", Body=b"x")
        role = iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        put_statements(statements)
        yield _session().client("sts").assume_role(RoleArn=role, RoleSessionName="of-a-test")["Credentials"]


def put_statements(statements: list[dict[str, Any]]) -> None:
    """Give the role of `role_session` these statements instead of its own."""
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    policy = document.replace(EMULATED_ACCOUNT, DEFAULT_ACCOUNT_ID)  # both emulators have an account of their own
    owner("iam").put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=policy)


@functools.cache
def _owners_session() -> Any:
    return boto3.Session("made-up", "made-up", region_name=REGION)  # one: each reads the models of services anew


def _session(given: Any = None) -> Any:
    if given is None:
        return _owners_session()
    return boto3.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name=REGION)


def owner(service: str) -> Any:
    """A client of the account's owner."""
    return _session().client(service)


def is_denied(call: Callable[[], Any]) -> bool:
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
