"""S3 requests that a command sends thousands of times, with a sixth of boto3's CPU time.

docs/decisions/0009-less-of-our-own.md has the figures.

Each method returns the fields of boto3's response that are used here; {} for an object that does not exist; None for
any unexpected response. The caller then sends the same request with boto3, which retries it, follows redirects and
explains errors: nothing of that is done here. Signing is botocore's.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPMessage
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus, urlsplit

from refinerctl import __version__
from refinerctl.aws.connections import LARGE_BYTES
from refinerctl.aws.session import AwsSession
from refinerctl.http import Pool
from refinerctl.waits import WAITS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
# After this number of consecutive failures, only boto3 is used.
MAX_FAILURES = 10

_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404
_METADATA = "x-amz-meta-"

_Response = dict[str, Any]


@dataclass(frozen=True)
class _Address:
    """Where and how boto3 reaches the bucket."""

    pool: Pool
    host: str
    path: str
    region: str


class S3Wire:
    """Requests about one bucket; safe to share between threads. All return None until boto3 has reached the bucket."""

    def __init__(self, session: AwsSession, bucket: str) -> None:
        self._session = session
        self._bucket = bucket
        self._address: _Address | None = None
        self._is_learning = False
        self._failures = 0

    def learning(self, client: S3Client) -> S3Client:
        """The client. Its response to HeadBucket or ListObjectsV2 has the bucket's address and region."""
        if not self._is_learning:
            self._is_learning = True
            for operation in ("HeadBucket", "ListObjectsV2"):
                client.meta.events.register(f"after-call.s3.{operation}", self._learn)
        return client

    def _learn(self, http_response: Any, context: Mapping[str, Any], **_: object) -> None:
        """https://docs.aws.amazon.com/boto3/latest/guide/events.html"""
        signing = context.get("signing") or {}
        is_plain = context.get("auth_type") == "v4" and signing.get("signing_name") == "s3"  # no directory bucket
        is_ours = context.get("input_params", {}).get("Bucket") == self._bucket
        if http_response.status_code == _OK and is_plain and is_ours and self._address is None:
            parts = urlsplit(http_response.url)
            pool = Pool(parts.scheme, parts.netloc, CONNECT_TIMEOUT_S, self._session.ca_bundle())
            host = f"{parts.scheme}://{parts.netloc}"
            self._address = _Address(pool, host, parts.path.rstrip("/"), signing["region"])

    def put_object(self, key: str, body: bytes) -> _Response | None:
        checksum = b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
        headers = {"x-amz-sdk-checksum-algorithm": "CRC32", "x-amz-checksum-crc32": checksum}
        return self._request("PUT", key, _written, headers=headers, body=body)

    def head_object(self, key: str) -> _Response | None:
        return self._request("HEAD", key, _object)

    def get_object(self, key: str, limit: int | None) -> _Response | None:
        """`Body` is the content, of which there are at most `limit` bytes (all: None)."""
        return self._request("GET", key, _object, headers={"Range": f"bytes=0-{limit - 1}"} if limit else {})

    def list_objects_v2(self, prefix: str, after: str) -> _Response | None:
        """One page: the first 1,000 objects whose keys come after `after`."""
        given = {"encoding-type": "url", "list-type": "2", "prefix": prefix} | ({"start-after": after} if after else {})
        query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in given.items())
        return self._request("GET", "", _page, query)

    def _request(
        self,
        method: str,
        key: str,
        read: Callable[[int, HTTPMessage, bytes], _Response | None],
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> _Response | None:
        address = self._address
        if address is None or self._failures >= MAX_FAILURES:
            return None
        path = f"{address.path}/{quote(key, safe='/-_.~')}" if key else address.path or "/"
        target = f"{path}?{query}" if query else path
        sent = {"User-Agent": f"refinerctl/{__version__}", **(headers or {})}
        waiting = nullcontext() if len(body) >= LARGE_BYTES else WAITS.waiting(address.host.partition("//")[2])
        try:
            signed = self._signed(address, method, target, sent, body)
            with waiting:
                response, content = address.pool.send(method, target, signed, body, READ_TIMEOUT_S)
            answer = read(response.status, response.headers, content)
        except Exception:  # boto3 gets the same error, and explains it
            answer = None
        self._failures = self._failures + 1 if answer is None else 0
        return answer

    def _signed(
        self, address: _Address, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Mapping[str, str]:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest(method, address.host + target, headers, body)
        credentials = self._session.credentials().get_frozen_credentials()  # temporary ones are renewed here
        S3SigV4Auth(credentials, "s3", address.region).add_auth(request)
        return dict(request.headers.items())


def _written(status: int, headers: HTTPMessage, _: bytes) -> _Response | None:
    return {"VersionId": headers.get("x-amz-version-id")} if status == _OK else None


def _object(status: int, headers: HTTPMessage, content: bytes) -> _Response | None:
    if status == _NOT_FOUND and b"<Code>NoSuchBucket</Code>" not in content:
        return {}
    if status not in (_OK, _PARTIAL):
        return None
    whole = (headers.get("Content-Range") or "").rpartition("/")[2]
    return {
        "Body": content,
        "ContentLength": int(whole or headers["Content-Length"]),
        "ETag": headers["ETag"],
        "LastModified": parsedate_to_datetime(headers["Last-Modified"]),
        "VersionId": headers.get("x-amz-version-id"),
        "Metadata": {
            name[len(_METADATA) :]: value for name, value in headers.items() if name.lower().startswith(_METADATA)
        },
    }


def _page(status: int, _: HTTPMessage, content: bytes) -> _Response | None:
    """None also for an empty page of a truncated listing: boto3 continues after it."""
    from xml.etree import ElementTree

    if status != _OK:
        return None
    root = ElementTree.fromstring(content)  # noqa: S314 - boto3 reads S3's answers with the same parser
    space = root.tag.rpartition("}")[0] + "}" if "}" in root.tag else ""
    objects = []
    for item in root.iter(f"{space}Contents"):
        found = {child.tag: child.text or "" for child in item}
        objects.append(
            {
                "Key": unquote_plus(found[f"{space}Key"]),
                "Size": int(found[f"{space}Size"]),
                "ETag": found[f"{space}ETag"],
                "LastModified": datetime.fromisoformat(found[f"{space}LastModified"]),
            }
        )
    is_cut = root.findtext(f"{space}IsTruncated") == "true"
    return {"Contents": objects, "IsTruncated": is_cut} if objects or not is_cut else None
