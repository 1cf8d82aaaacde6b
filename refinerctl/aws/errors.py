"""SDK errors as errors with a hint: which call failed, on which resource, what to do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, UsageError

Result = TypeVar("Result")

# Of each call; botocore pauses in between.
ATTEMPTS = 8

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
_MISSING = {
    "404",
    "AWS.SimpleQueueService.NonExistentQueue",
    "ClusterNotFoundException",
    "InvalidGroup.NotFound",
    "NoSuchBucket",
    "NoSuchEntity",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "RepositoryNotFoundException",
    "ReplicationGroupNotFoundFault",
    "ResourceNotFoundException",
    "ServiceNotFoundException",
}


@contextlib.contextmanager
def about(resource: str | None = None, hint: str | None = None) -> Iterator[None]:
    """Calls about a resource, if it is one: their SDK errors are raised as RefinerctlErrors that name it.

    Without the resource that is a NotFoundError with `hint`.
    """
    try:
        yield
    except Exception as error:
        if (said := explain(error, resource, hint)) is None:
            raise
        raise said from error


def or_none(call: Callable[[], Result], *codes: str) -> Result | None:
    """What a call returns; None if AWS answers with one of these error codes."""
    try:
        return call()
    except Exception as error:
        if error_code(error) not in codes:
            raise
    return None


def repeat_unreadable(response: tuple[Any, Any] | None, operation: Any, attempts: int, **_: object) -> float | None:
    """A handler of `needs-retry`: after how many seconds a request is repeated whose response is not JSON.

    botocore itself reads a response that is cut off, or a proxy's page, as a response without values: an empty queue.
    """
    from botocore.exceptions import ConnectionClosedError

    if response is None or operation.service_model.metadata.get("protocol") != "json":
        return None
    http = response[0]
    if http.status_code != HTTPStatus.OK or not http.content:
        return None
    try:
        json.loads(http.content)
    except ValueError as error:
        if attempts >= ATTEMPTS:
            raise ConnectionClosedError(endpoint_url=http.url) from error
        return 0.1 * 2.0**attempts
    return None


def was_repeated(error: BaseException | None) -> bool:
    """Whether the failed call was a repetition: an earlier request may have had an effect."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return bool(response.get("ResponseMetadata", {}).get("RetryAttempts"))


def error_code(error: BaseException | None) -> str:
    """The code of a botocore ClientError, "" for any other error."""
    response: dict[str, Any] = getattr(error, "response", None) or {}  # None for an HTTPClientError
    return str(response.get("Error", {}).get("Code", ""))


def explain(error: Exception, resource: str | None = None, hint: str | None = None) -> RefinerctlError | None:
    """The RefinerctlError for an SDK error, as of `about`; None if it is not one."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        return _explain_client_error(error, resource, hint)
    if isinstance(error, BotoCoreError):
        return _explain_transport_error(error)
    if isinstance(error, RuntimeError) and "expired" in str(error):  # botocore's error for AWS_CREDENTIAL_EXPIRATION
        return AccessDeniedError("the AWS credentials have expired", hint="Log in again, or renew the session token.")
    return None


def _explain_client_error(error: Any, resource: str | None, hint: str | None) -> RefinerctlError:
    code = error_code(error)
    where = f" on {resource}" if resource else ""
    if code in _MISSING and resource:
        return NotFoundError(f"{resource} does not exist", hint=hint)
    if code in _DENIED:
        return AccessDeniedError(
            f"access denied: {error.operation_name}{where}",
            hint="Check which identity is in use (aws sts get-caller-identity) and that its policies allow this call.",
        )
    if code in _EXPIRED or (code == "400" and error.operation_name.startswith("Head")):
        return AccessDeniedError(
            f"the AWS credentials have expired or are not valid ({code} at {error.operation_name})",
            hint="Log in again, or renew the session token.",
        )
    message = error.response.get("Error", {}).get("Message", "no message")
    return RefinerctlError(f"{error.operation_name}{where} failed: {code}: {message}")


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
        said = _not_connected(error) if is_not_connected(error) else str(error)
        return RefinerctlError(f"no response from AWS: {said}", hint="Check the network, --region and --endpoint-url.")
    return RefinerctlError(str(error))


def is_not_connected(error: BaseException | None) -> bool:
    """Whether no connection to the server was established: its name, its address or a proxy is not reachable."""
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError

    return isinstance(error, ConnectTimeoutError | EndpointConnectionError | ProxyConnectionError | SSLError)


def _not_connected(error: Any) -> str:
    """The server that cannot be reached, with the operating system's reason."""
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

    if not isinstance(error, ConnectTimeoutError | EndpointConnectionError):
        return str(error)
    parts = urlsplit(str(error.kwargs.get("endpoint_url")))
    cause: BaseException | None = error.kwargs.get("error")
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    why = "timed out" if isinstance(cause, TimeoutError) else getattr(cause, "strerror", None) or "not reachable"
    return f"cannot connect to {parts.scheme}://{parts.netloc}: {why}"
