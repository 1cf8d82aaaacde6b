"""S3: the settings of a bucket."""

from __future__ import annotations

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.policies import Policy, parse_policy
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError


class BucketSettings:
    """One bucket's settings. Each raises NotFoundError without the bucket. Safe to share between threads."""

    def __init__(self, session: AwsSession, name: str) -> None:
        self.name = name
        self._session = session

    def check(self) -> None:
        """Raise NotFoundError unless the bucket exists."""
        try:
            self._session.client("s3").head_bucket(Bucket=self.name)
        except Exception as error:
            raise self._explained(error) from error

    def sends_events(self) -> bool:
        """Whether the bucket sends its events to EventBridge."""
        try:
            found = self._session.client("s3").get_bucket_notification_configuration(Bucket=self.name)
        except Exception as error:
            raise self._explained(error) from error
        return "EventBridgeConfiguration" in found

    def policy(self) -> Policy:
        """The bucket's policy; one without statements if it has none."""
        try:
            return parse_policy(self._session.client("s3").get_bucket_policy(Bucket=self.name)["Policy"])
        except Exception as error:
            if error_code(error) == "NoSuchBucketPolicy":
                return ()
            raise self._explained(error) from error

    def kms_key(self) -> str | None:
        """The key that new objects are encrypted with; None for S3's own."""
        try:
            found = self._session.client("s3").get_bucket_encryption(Bucket=self.name)
        except Exception as error:
            if error_code(error) == "ServerSideEncryptionConfigurationNotFoundError":
                return None
            raise self._explained(error) from error
        for rule in found["ServerSideEncryptionConfiguration"]["Rules"]:
            given = rule.get("ApplyServerSideEncryptionByDefault", {})
            if "kms" in given.get("SSEAlgorithm", ""):
                return given.get("KMSMasterKeyID") or "alias/aws/s3"
        return None

    def _explained(self, error: Exception) -> Exception:
        if error_code(error) in ("NoSuchBucket", "404"):
            return NotFoundError(f"bucket {self.name} does not exist")
        return explain(error, f"bucket {self.name}") or error
