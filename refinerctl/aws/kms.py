"""KMS: whether a key can be used, and by whom."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError


@dataclass(frozen=True)
class KmsKey:
    """A key; `state` is KMS's own. The policy of an AWS managed key cannot be changed."""

    arn: str
    state: str = "Enabled"
    is_aws_managed: bool = False
    policy: Policy = ()


class Keys:
    """The keys of one account and region. Safe to share between threads."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def get(self, key_id: str) -> KmsKey:
        """A key by its id, ARN or alias. Raises NotFoundError without it."""
        client = self._session.client("kms")
        try:
            found = client.describe_key(KeyId=key_id)["KeyMetadata"]
            policy = client.get_key_policy(KeyId=found["KeyId"], PolicyName="default")["Policy"]
        except Exception as error:
            if error_code(error) == "NotFoundException":
                raise NotFoundError(f"KMS key {key_id} does not exist") from error
            raise explain(error, f"KMS key {key_id}") or error from error
        return KmsKey(
            found.get("Arn", key_id),
            found.get("KeyState", "Enabled"),
            is_aws_managed=found.get("KeyManager") == "AWS",
            policy=parse_policy(policy),
        )
