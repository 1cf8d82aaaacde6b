"""Calls of SQS's JSON protocol that say whether a failed request may have been acted on.

botocore can tell that too, with its retries off and a hook on `before-send`; but it takes three times the CPU of this
per call, which halves a redrive: docs/decisions/0007-dead-letters.md has the figures. Signing is botocore's.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from ssl import SSLCertVerificationError
from typing import Any
from urllib.parse import urlsplit

from refinerctl import __version__
from refinerctl.aws.errors import about, explain
from refinerctl.aws.messages import EntryResult, QueueAddress
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import MISSING_HINT
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.http import Pool

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 20.0

# The request had no effect; a retry may succeed.
THROTTLED = {
    "RequestThrottled",
    "RequestThrottledException",
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
    "BandwidthLimitExceeded",
    "KmsThrottled",
    "KMS.ThrottlingException",
    "RequestTimeout",  # the request did not arrive completely
    "RequestTimeoutException",
}
# An entry is wrong, but the error is of the whole batch. All other 4xx of SQS are about the queue or the caller.
_CONTENT = {
    "BatchRequestTooLong",
    "InvalidAttributeValue",
    "InvalidMessageContents",
    "InvalidParameterValue",
    "MissingParameter",
    "ReceiptHandleIsInvalid",
}
_PREFIX = "AWS.SimpleQueueService."
_SUFFIX = "Exception"  # the JSON protocol says InvalidParameterValueException, the query protocol does not
_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True)
class Reply:
    """The answer to a call, and when the server gave it by its own clock; or `failure`, the result of each entry."""

    at: datetime
    answer: dict[str, Any] = field(default_factory=dict)
    failure: EntryResult | None = None

    def check(self) -> None:
        """Raise the failure's cause."""
        if self.failure and self.failure.cause:
            raise self.failure.cause


class SqsWire:
    """Calls with the session's credentials to its endpoint; safe to share between threads."""

    def __init__(self, session: AwsSession, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        from botocore.auth import SigV4Auth

        meta = session.client("sqs").meta
        parts = urlsplit(meta.endpoint_url)
        self._endpoint = meta.endpoint_url
        self._path = parts.path or "/"
        self._timeout_s = answer_timeout_s
        self._pool = Pool(parts.scheme, parts.netloc, CONNECT_TIMEOUT_S, session.ca_bundle())
        self._credentials = session.credentials()
        self._region = meta.region_name
        self._new_signer = SigV4Auth

    def call(
        self,
        operation: str,
        queue: QueueAddress,
        request: Mapping[str, Any],
        *,
        wait_s: float = 0.0,
        leaving: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Call an operation of `queue`. Raises nothing that SQS or the network cause.

        `leaving` is called just before the request is sent, and its RefinerctlError prevents that; SQS answers up to
        `wait_s` later than usual.
        """
        body = json.dumps({"QueueUrl": queue.url, **request}).encode()
        is_sent = False

        def written() -> None:
            nonlocal is_sent
            is_sent = True

        try:
            headers = self._signed_headers(operation, body)
            response, content = self._pool.send(
                "POST", self._path, headers, body, self._timeout_s, wait_s, leaving, written
            )
        except RefinerctlError as error:  # credentials, the proxy's URL, the CA bundle, or `leaving`
            return _failed("Connection", error)
        except SSLCertVerificationError as error:
            return _failed("Certificate", RefinerctlError(f"no response from AWS: {error}"))
        except (OSError, HTTPException) as error:
            cause = TransientError(
                f"no response from AWS at {self._endpoint}: {error or type(error).__name__}",
                hint="Check the network, --region and --endpoint-url.",
                is_uncertain=is_sent,
            )
            return _failed("NoAnswer", cause, is_uncertain=is_sent)
        return _read(operation, queue.name, response, content)

    def _signed_headers(self, operation: str, body: bytes) -> Mapping[str, str]:
        from botocore.awsrequest import AWSRequest

        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"AmazonSQS.{operation}",
            "User-Agent": f"refinerctl/{__version__}",
            "x-amzn-query-mode": "true",
        }
        request = AWSRequest("POST", self._endpoint, headers, body)
        with about():  # temporary credentials are renewed here
            credentials = self._credentials.get_frozen_credentials()
        self._new_signer(credentials, "sqs", self._region).add_auth(request)
        return dict(request.headers.items())


def _failed(code: str, cause: RefinerctlError, *, is_uncertain: bool = False, is_sender_fault: bool = False) -> Reply:
    failure = EntryResult(None, code, cause.message, is_sender_fault, is_uncertain, cause)
    return Reply(datetime.now(UTC), failure=failure)


def _read(operation: str, queue: str, response: HTTPResponse, content: bytes) -> Reply:
    from botocore.exceptions import ClientError

    try:
        document = json.loads(content or b"{}")
    except ValueError:
        document = None
    if response.status == 200 and isinstance(document, dict):
        return Reply(_date(response), document)
    said = document if isinstance(document, dict) else {}
    code = _code(response, said)
    message = str(said.get("message") or said.get("Message") or response.reason)
    error = ClientError({"Error": {"Code": code, "Message": message}}, operation)
    cause = explain(error, f"queue {queue}", MISSING_HINT) or RefinerctlError(message)
    bare = code.removeprefix(_PREFIX)
    is_throttled = bare in THROTTLED or response.status == _TOO_MANY_REQUESTS
    if is_throttled or response.status >= _SERVER_ERROR or response.status == 200:
        transient = TransientError(cause.message, hint=cause.hint, is_uncertain=not is_throttled)
        return _failed(code, transient, is_uncertain=not is_throttled)
    # Without SQS's own error code a proxy answered: it may have forwarded the request and refused the answer.
    is_proxys = code == str(response.status)
    is_content = bare.removesuffix(_SUFFIX) in _CONTENT
    return _failed(code, cause, is_uncertain=is_proxys, is_sender_fault=is_content)


def _code(response: HTTPResponse, document: Mapping[str, Any]) -> str:
    """The error's code as the SDK has it: the query protocol's name if SQS gives one."""
    query = (response.headers.get("x-amzn-query-error") or "").partition(";")[0]
    bare = str(document.get("__type") or response.headers.get("x-amzn-ErrorType") or response.status)
    return query or bare.rpartition("#")[2].partition(":")[0]


def _date(response: HTTPResponse) -> datetime:
    try:
        return parsedate_to_datetime(response.headers.get("Date") or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)
