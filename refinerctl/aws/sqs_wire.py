"""One call of SQS's JSON protocol, at a third of the SDK's cost; and what is known of a call that failed.

The SDK takes a millisecond of CPU per call and cannot say whether a request had left when it failed.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from ssl import SSLCertVerificationError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from refinerctl import __version__
from refinerctl.aws.session import AwsSession, explain
from refinerctl.aws.sqs import explained
from refinerctl.errors import RefinerctlError, TransientError
from refinerctl.http import Pool, Response

if TYPE_CHECKING:
    from botocore.auth import SigV4Auth

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 20.0

# It was refused, and may be taken later.
BUSY = {
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
    "RequestTimeout",  # the request did not arrive whole
    "RequestTimeoutException",
}
# What is wrong with an entry, said of the whole batch. The rest of SQS's 4xx is about the queue or the caller.
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

SERVER_ERROR = 500
TOO_MANY_REQUESTS = 429


class CallFailedError(Exception):
    """A call that brought no answer, or an error. `cause` is for the operator.

    `is_uncertain`: it may have been done. `is_content`: it was refused for what one of its entries holds.
    """

    def __init__(self, code: str, cause: RefinerctlError, *, is_uncertain: bool = False, is_content: bool = False):
        super().__init__(cause.message)
        self.code = code
        self.cause = cause
        self.is_uncertain = is_uncertain
        self.is_content = is_content


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
        queue: str,
        request: Mapping[str, Any],
        *,
        patience_s: float = 0.0,
        leaving: Callable[[], None] = lambda: None,
    ) -> tuple[dict[str, Any], datetime]:
        """The answer, and when it was given by the server's clock. `queue` is for messages.

        `leaving` is called just before the request goes out. Raises CallFailedError.
        """
        body = json.dumps(request).encode()
        headers = self._headers(operation, body)
        sent: list[bool] = []
        try:
            response = self._pool.send(
                "POST",
                self._path,
                headers,
                body,
                self._timeout_s,
                patience_s,
                leaving=leaving,
                written=lambda: sent.append(True),
            )
            content = _content(response)
        except RefinerctlError as error:  # the proxy's URL, the authorities' file
            raise CallFailedError("Connection", error) from error
        except SSLCertVerificationError as error:
            raise CallFailedError("Certificate", self._no_answer(error)) from error
        except (OSError, HTTPException) as error:
            said = self._no_answer(error)
            cause = TransientError(said.message, hint=said.hint)
            raise CallFailedError("NoAnswer", cause, is_uncertain=bool(sent)) from error
        return self._read(operation, queue, response, content), _date(response)

    def _headers(self, operation: str, body: bytes) -> Mapping[str, str]:
        from botocore.awsrequest import AWSRequest

        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"AmazonSQS.{operation}",
            "User-Agent": f"refinerctl/{__version__}",
            "x-amzn-query-mode": "true",
        }
        request = AWSRequest("POST", self._endpoint, headers, body)
        self._signer().add_auth(request)
        return dict(request.headers.items())

    def _signer(self) -> SigV4Auth:
        try:
            return self._new_signer(self._credentials.get_frozen_credentials(), "sqs", self._region)
        except Exception as error:  # renewing them asks STS, a file, a process
            if (said := explain(error)) is None:
                raise
            raise CallFailedError("Credentials", said) from error

    def _read(self, operation: str, queue: str, response: Response, content: bytes) -> dict[str, Any]:
        try:
            document = json.loads(content or b"{}")
        except ValueError:
            document = None
        if response.status == 200 and isinstance(document, dict):
            return document
        said = document if isinstance(document, dict) else {}
        code = _code(response, said)
        message = str(said.get("message") or said.get("Message") or response.reason)
        cause = self._explained(operation, queue, code, message)
        bare = code.removeprefix(_PREFIX)
        is_busy = bare in BUSY or response.status == TOO_MANY_REQUESTS
        if is_busy or response.status >= SERVER_ERROR or response.status == 200:
            raise CallFailedError(code, TransientError(cause.message, hint=cause.hint), is_uncertain=not is_busy)
        # What SQS has not said itself says nothing of what it did: who is in between may have refused its answer.
        is_uncertain = code == str(response.status)
        raise CallFailedError(code, cause, is_uncertain=is_uncertain, is_content=bare.removesuffix(_SUFFIX) in _CONTENT)

    def _explained(self, operation: str, queue: str, code: str, message: str) -> RefinerctlError:
        from botocore.exceptions import ClientError

        error = ClientError({"Error": {"Code": code, "Message": message}}, operation)
        said = explained(error, queue)
        return said if isinstance(said, RefinerctlError) else RefinerctlError(str(error))

    def _no_answer(self, error: Exception) -> RefinerctlError:
        from botocore.exceptions import EndpointConnectionError, HTTPClientError, ReadTimeoutError

        if isinstance(error, TimeoutError):
            known: Exception = ReadTimeoutError(endpoint_url=self._endpoint)
        elif isinstance(error, ConnectionRefusedError):
            known = EndpointConnectionError(endpoint_url=self._endpoint)
        else:
            known = HTTPClientError(error=error)
        return explain(known) or RefinerctlError(str(known))


def _content(response: Response) -> bytes:
    pieces = []
    while piece := response.read(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def _code(response: Response, document: Mapping[str, Any]) -> str:
    """As the SDK has it: the query protocol's name where the service gives one."""
    query = (response.headers.get("x-amzn-query-error") or "").partition(";")[0]
    bare = str(document.get("__type") or response.headers.get("x-amzn-ErrorType") or response.status)
    return query or bare.rpartition("#")[2].partition(":")[0]


def _date(response: Response) -> datetime:
    try:
        return parsedate_to_datetime(response.headers.get("Date") or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)
