"""GET requests to the server of the feed, with time limits, size limits and back-off."""

from __future__ import annotations

import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import urllib3

ATTEMPTS = 4
BACKOFF_S = 1.0
REQUEST_S = 60  # of a whole response; a server that sends a byte now and then is a failure, too
LONGEST_WAIT_S = 6 * 3600
_DEFINITIVE = {200, 304, 404, 410}


class FeedError(Exception):
    """The feed cannot be read. The next run tries again."""


class RetryLaterError(FeedError):
    """The server has asked to wait for more seconds than this run has."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class RefusedError(FeedError):
    """What the server offers is not taken: too large, on another server, or malformed. The next time is the same."""


@dataclass(frozen=True)
class HttpResponse:
    """A whole response: status 200, 304, 404 or 410."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def links(self) -> dict[str, str]:
        """The targets of the header Link by their relation."""
        found = re.findall(r'<([^<>]*)>[^,<]*?;\s*rel="?([\w-]+)"?', self.headers.get("Link", ""))
        return {relation: target for target, relation in found}


class HttpSource:
    """One server: requests to another origin than that of `url` are refused, redirects too."""

    def __init__(self, url: str, client: str, time_left: Callable[[], float]) -> None:
        self._origin = _origin(url)
        self._time_left = time_left
        self._pool = urllib3.PoolManager(
            ssl_context=ssl.create_default_context(),
            timeout=urllib3.Timeout(connect=5, read=20),
            retries=False,
            headers={
                "Accept": "application/ld+json, application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": f"rnr-producer ({client})",  # api.weather.gov refuses requests without one
            },
        )

    def get(self, url: str, limit: int, conditions: Mapping[str, str]) -> HttpResponse:
        """Return the response; raises `FeedError` after the last attempt."""
        if _origin(url) != self._origin:
            raise RefusedError(f"{url} is not on the feed's server {self._origin}")
        for attempt in range(1, ATTEMPTS + 1):
            wait_s = BACKOFF_S * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311 - jitter
            try:
                response = self._get(url, limit, conditions)
            except urllib3.exceptions.HTTPError as error:
                problem = f"{url}: {error}"
            else:
                if response.status in _DEFINITIVE:
                    return response
                problem = f"{url}: status {response.status}"
                if response.status != 429 and response.status < 500:
                    raise FeedError(problem)
                asked_s = _retry_after(response.headers)
                if asked_s > self._time_left():
                    raise RetryLaterError(f"{problem}, Retry-After {asked_s} s", min(asked_s, LONGEST_WAIT_S))
                wait_s = max(wait_s, asked_s)
            if attempt == ATTEMPTS or wait_s > self._time_left():
                break
            time.sleep(wait_s)
        raise FeedError(f"{problem} (attempt {attempt})")

    def _get(self, url: str, limit: int, conditions: Mapping[str, str]) -> HttpResponse:
        deadline = time.monotonic() + max(1.0, min(REQUEST_S, self._time_left()))
        headers = {**self._pool.headers, **conditions}
        response = self._pool.request("GET", url, headers=headers, preload_content=False, redirect=False)
        try:
            body = _read(response, limit, deadline)
        except BaseException:
            response.close()  # what was not read must not be taken for the next response
            raise
        response.release_conn()
        return HttpResponse(response.status, response.headers, body)


def _read(response: urllib3.BaseHTTPResponse, limit: int, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.stream(2**16, decode_content=True):
        body += chunk
        if len(body) > limit:
            raise RefusedError(f"{response.url}: larger than {limit} bytes")
        if time.monotonic() > deadline:
            raise urllib3.exceptions.HTTPError("the response takes too long")
    return bytes(body)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _retry_after(headers: Mapping[str, str]) -> int:
    """Return the seconds of the header Retry-After (a number or a date), 0 without a valid one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return max(0, round((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()))
    except (ValueError, TypeError):
        return 0
