"""One boto3 session for all AWS clients, and what an SDK error means to an operator."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Literal, overload

from refinerctl import __version__
from refinerctl.errors import AccessDeniedError, RefinerctlError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

# The emulator takes any credentials; a person's own must never get near it, nor its calls near an account.
EMBEDDED_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

MAX_CONNECTIONS = 32

_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"}
_EXPIRED = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "ExpiredTokenException",
    "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
}


class AwsSession:
    """Makes clients of one account and region, each once; safe to share between threads."""

    def __init__(self, region: str | None, *, profile: str | None, endpoint_url: str | None, embedded: bool) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self._profile = profile
        self._embedded = embedded
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session: Any = None

    @overload
    def client(self, service: Literal["s3"]) -> S3Client: ...
    @overload
    def client(self, service: Literal["sqs"]) -> SQSClient: ...
    @overload
    def client(self, service: Literal["lambda"]) -> LambdaClient: ...
    @overload
    def client(self, service: Literal["logs"]) -> CloudWatchLogsClient: ...
    def client(self, service: str) -> Any:
        """The boto3 client of `service`. Raises RefinerctlError for an unknown profile."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def _make(self, service: str) -> Any:
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": 8},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=MAX_CONNECTIONS,
            proxies={} if self._embedded else None,
            user_agent_extra=f"refinerctl/{__version__}",
        )
        try:
            return self._boto_session().client(service, endpoint_url=self.endpoint_url, config=config)
        except ValueError as error:  # botocore's word for an endpoint that is no URL
            raise UsageError(str(error)) from error

    def _boto_session(self) -> Any:
        if self._session is None:
            self._session = self._embedded_session() if self._embedded else self._account_session()
        return self._session

    def _account_session(self) -> Any:
        import boto3
        from botocore.exceptions import ProfileNotFound

        try:
            return boto3.Session(profile_name=self._profile, region_name=self.region)
        except ProfileNotFound as error:
            raise RefinerctlError(
                str(error), hint="See `aws configure list-profiles`, or leave out --profile."
            ) from error

    def _embedded_session(self) -> Any:
        import boto3
        from botocore.session import Session

        # (config key, environment variable, default, conversion): nobody's profile and nobody's files.
        nothing = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
        core = Session(session_vars={"profile": (None, None, None, None), **nothing})
        return boto3.Session(
            botocore_session=core,
            region_name=self.region,
            aws_access_key_id=EMBEDDED_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=EMBEDDED_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )


def error_code(error: Exception) -> str:
    """The code of a botocore ClientError, "" for any other error."""
    response: dict[str, Any] = getattr(error, "response", None) or {}  # HTTPClientError has one that is None
    return str(response.get("Error", {}).get("Code", ""))


def explain(error: Exception, resource: str | None = None) -> RefinerctlError | None:
    """Say an SDK error in a sentence: what failed, on which resource, what to do. None if it is not one."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        return _explain_client_error(error, resource)
    if isinstance(error, BotoCoreError):
        return _explain_transport_error(error)
    return None


def _explain_client_error(error: Any, resource: str | None) -> RefinerctlError:
    code = error_code(error)
    details = error.response.get("Error", {})
    where = f" on {resource}" if resource else ""
    if code in _DENIED:
        return AccessDeniedError(
            f"access denied: {error.operation_name}{where}",
            hint="Check which identity is in use (aws sts get-caller-identity) and that its policies allow this call.",
        )
    if code in _EXPIRED or (code == "400" and error.operation_name.startswith("Head")):
        return AccessDeniedError(
            f"the AWS credentials are expired or not valid ({code} at {error.operation_name})",
            hint="Log in again, or renew the session token.",
        )
    return RefinerctlError(f"{error.operation_name}{where} failed: {code}: {details.get('Message', 'no message')}")


def _explain_transport_error(error: Exception) -> RefinerctlError:
    from botocore.exceptions import ConnectionError as BotoConnectionError
    from botocore.exceptions import (
        HTTPClientError,
        NoCredentialsError,
        NoRegionError,
        ParamValidationError,
        PartialCredentialsError,
    )

    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return AccessDeniedError(
            "no AWS credentials found", hint="Set AWS_PROFILE or --profile, or export the AWS_* variables."
        )
    if isinstance(error, ParamValidationError):
        return UsageError(" ".join(str(error).split()))
    if isinstance(error, NoRegionError):
        return RefinerctlError("no AWS region is set", hint="Set --region, AWS_REGION, or region in refinerctl.toml.")
    if isinstance(error, BotoConnectionError | HTTPClientError):
        return RefinerctlError(f"no answer from AWS: {error}", hint="Check the network, --region and --endpoint-url.")
    return RefinerctlError(str(error))
