"""The statement of a bucket's policy that grants the stack's roles what they need, and what a policy lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refinerctl.aws.policies import Request, denied, granted, parse_policy
from refinerctl.errors import RefinerctlError, RefusedError

SID = "AllowRnRTestAppRolesS3Access"
# Of functions and tasks that use the buckets; the stack's root module names them so, as bucket owners grant to them.
ROLES = ("lambda-producer-role", "ecs-task-role", "lambda-postproc-role")
OBJECT_ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject")
BUCKET_ACTION = "s3:ListBucket"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html
MAX_POLICY_BYTES = 20 * 1024
_VERSION = "2012-10-17"


@dataclass(frozen=True)
class Lack:
    """A grant that a policy lacks; `reason`: it is `missing`, `denied`, or `unknown` if that cannot be evaluated."""

    role: str
    action: str
    resource: str
    reason: str


def role_arns(name: str, caller: str) -> list[str]:
    """The ARNs of the roles of stack `name` in the account of `caller`, an ARN."""
    _, partition, _, _, account, _ = caller.split(":", 5)
    return [f"arn:{partition}:iam::{account}:role/{name}-{role}" for role in ROLES]


def statement(bucket: str, roles: Sequence[str], sid: str) -> dict[str, Any]:
    """The statement for the bucket's owner."""
    arn = f"arn:{roles[0].split(':')[1]}:s3:::{bucket}"
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": list(roles)},
        "Action": [*OBJECT_ACTIONS, BUCKET_ACTION],
        "Resource": [arn, f"{arn}/*"],
    }


def lacks(policy: str | None, bucket: str, roles: Sequence[str]) -> list[Lack]:
    """What a bucket's policy does not grant, or denies, on the bucket and on any of its objects."""
    statements = [parse_policy(policy)]
    arn = f"arn:{roles[0].split(':')[1]}:s3:::{bucket}"
    wanted = [(action, f"{arn}/*") for action in OBJECT_ACTIONS]
    found = []
    for role in roles:
        for action, resource in [*wanted, (BUCKET_ACTION, arn)]:
            example = resource.replace("*", "any/key")
            request = Request(action, example, role_arn=role, context={"aws:securetransport": "true"})
            is_denied, is_granted = denied(statements, request), granted(statements, request)
            if is_denied is not False or not is_granted:
                reason = "denied" if is_denied else "missing" if is_granted is False else "unknown"
                found.append(Lack(role, action, resource, reason))
    return found


def merged(policy: str | None, new: Mapping[str, Any], bucket: str) -> str:
    """The policy with the statement, which replaces the one with its Sid. All other statements stay as they are.

    Raises RefinerctlError if the policy is not JSON, RefusedError if the result is too large.
    """
    try:
        document = json.loads(policy) if policy else {"Version": _VERSION, "Statement": []}
        given = document["Statement"]
    except (ValueError, KeyError, TypeError) as error:
        raise RefinerctlError(f"the policy of bucket {bucket} cannot be read") from error
    statements: list[Any] = list(given) if isinstance(given, list) else [given]
    places = [index for index, item in enumerate(statements) if item.get("Sid") == new["Sid"]]
    if places and same(statements[places[0]], new):
        return policy or ""
    if places:
        statements[places[0]] = dict(new)
    else:
        statements.append(dict(new))
    text = json.dumps({**document, "Statement": statements}, separators=(",", ":"), ensure_ascii=False)
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise RefusedError(
            f"the policy of bucket {bucket} would have {len(text.encode()):,} bytes; S3 allows {MAX_POLICY_BYTES:,}",
            hint="Remove statements that are not needed any more.",
        )
    return text


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statements say the same: S3 may return a list in another order, or one value without a list."""
    return bool(_normal(one) == _normal(other))


def _normal(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _normal(item) for key, item in value.items()}
    return sorted(map(str, value)) if isinstance(value, list) else [str(value)]
