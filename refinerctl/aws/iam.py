"""IAM and KMS: what a role may do, who may assume it, and who may use a key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import about
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.session import AwsSession
from refinerctl.parallel import concurrently

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

THREADS = 4


@dataclass(frozen=True)
class RolePolicy:
    """A policy of a role: inline, or attached by its ARN."""

    name: str
    statements: Policy
    arn: str | None = None


@dataclass(frozen=True)
class Role:
    """A role; `boundary` is the policy that limits what its other policies allow; None without one."""

    name: str
    arn: str
    trust: Policy
    policies: tuple[RolePolicy, ...] = ()
    boundary: Policy | None = None


@dataclass(frozen=True)
class KmsKey:
    """A key; `state` is KMS's own. The policy of an AWS managed key cannot be changed."""

    arn: str
    state: str = "Enabled"
    is_aws_managed: bool = False
    policy: Policy = ()


def kms_key(session: AwsSession, key_id: str) -> KmsKey:
    """A key by its id, ARN or alias. Raises NotFoundError without it."""
    region = key_id.split(":")[3] if key_id.startswith("arn:") else None
    client = session.in_region(region).client("kms")
    with about(f"KMS key {key_id}"):
        found = client.describe_key(KeyId=key_id)["KeyMetadata"]
        policy = client.get_key_policy(KeyId=found["KeyId"], PolicyName="default")["Policy"]
    return KmsKey(
        found.get("Arn", key_id),
        found.get("KeyState", "Enabled"),
        is_aws_managed=found.get("KeyManager") == "AWS",
        policy=parse_policy(policy),
    )


class Roles:
    """The roles of an account. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._managed: dict[str, Policy] = {}

    def get(self, name: str) -> Role:
        """The role with all of its policies, inline, attached and bounding. Raises NotFoundError without it."""
        with about(f"role {name}"):
            found = self._client().get_role(RoleName=name)["Role"]
            inline = self._names("list_role_policies", "PolicyNames", name)
            attached = self._names("list_attached_role_policies", "AttachedPolicies", name)
            tasks = [
                *(partial(self._inline, name, policy) for policy in inline),
                *(partial(self._attached, item["PolicyArn"]) for item in attached),
            ]
            policies = tuple(concurrently(tasks, THREADS))
            bounds = found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
            boundary = self._document(bounds) if bounds else None
        return Role(name, found["Arn"], parse_policy(found.get("AssumeRolePolicyDocument")), policies, boundary)

    def _names(self, operation: Any, key: str, role: str) -> list[Any]:
        pages: Any = self._client().get_paginator(operation)
        return [item for page in pages.paginate(RoleName=role) for item in page[key]]

    def _inline(self, role: str, policy: str) -> RolePolicy:
        found = self._client().get_role_policy(RoleName=role, PolicyName=policy)
        return RolePolicy(policy, parse_policy(found["PolicyDocument"]))

    def _attached(self, arn: str) -> RolePolicy:
        return RolePolicy(arn.rpartition("/")[2], self._document(arn), arn)

    def _document(self, arn: str) -> Policy:
        """Of a managed policy: many roles have the same, and IAM answers slowly."""
        if arn not in self._managed:
            version = self._client().get_policy(PolicyArn=arn)["Policy"].get("DefaultVersionId", "v1")
            found = self._client().get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
            self._managed[arn] = parse_policy(found.get("Document"))
        return self._managed[arn]

    def _client(self) -> IAMClient:
        return self._session.client("iam")
