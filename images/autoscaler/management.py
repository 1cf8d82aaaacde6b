"""What RabbitMQ's management API says about queues."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import urllib3

from rnr_common.addresses import server_address
from rnr_common.secret import Secret

_DOWN = frozenset({"down", "crashed", "stopped", "minority", "terminated"})
_NO_COUNTS_S, _PAUSE_S = 8, 2


class ReadingError(Exception):
    """The broker or ECS did not say what the decision needs."""


class _NoCountsError(Exception):
    """The queue exists, but its counts are not known."""


@dataclass(frozen=True)
class QueueCounts:
    """`published` is counted since the broker was started, the others are of now (up to 5 s old)."""

    ready: int = 0
    unacknowledged: int = 0
    consumers: int = 0
    published: int = 0


class ManagementApi:
    """The broker's management API at RNR_BROKER_API_URL, with the credentials of the secret."""

    def __init__(
        self,
        environ: Mapping[str, str],
        secret: Secret | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        address = server_address("RNR_BROKER_API_URL", environ["RNR_BROKER_API_URL"], "https", "http")
        self.url = address.geturl().rstrip("/")
        self._sleep = sleep
        self.secret = secret or Secret(environ["RNR_BROKER_SECRET"])
        context = ssl.create_default_context(cafile=environ.get("RNR_BROKER_CA_FILE") or None)
        self._http = urllib3.PoolManager(
            ssl_context=context if address.scheme == "https" else None,
            timeout=urllib3.Timeout(connect=5, read=10),
            retries=urllib3.Retry(total=2, redirect=0, backoff_factor=0.5, raise_on_redirect=False),
        )

    def queue(self, name: str) -> QueueCounts | None:
        """Return the counts of a queue of virtual host `/`, or None if it does not exist.

        For 5 s after the queue was declared or the broker started there are no counts: waits for them.
        """
        for _ in range(_NO_COUNTS_S // _PAUSE_S):
            try:
                return self._read(name)
            except _NoCountsError:
                self._sleep(_PAUSE_S)
        try:
            return self._read(name)
        except _NoCountsError as error:
            raise ReadingError(f"broker {self.url} has no counts of queue {name}: {error}") from None

    def _read(self, name: str) -> QueueCounts | None:
        response = self._get(f"/api/queues/%2F/{quote(name, safe='')}")
        if response.status == 401:  # the password may have been rotated
            self.secret.forget()
            response = self._get(f"/api/queues/%2F/{quote(name, safe='')}")
        if response.status == 404:
            return None
        if response.status == 401:
            raise ReadingError(f"broker {self.url} refuses the login of secret {self.secret.arn}")
        if response.status != 200:
            raise ReadingError(f"broker {self.url} answered {response.status} to a request for queue {name}")
        try:
            return _counts(json.loads(response.data))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _NoCountsError(repr(error)) from None

    def _get(self, path: str) -> urllib3.BaseHTTPResponse:
        headers = urllib3.make_headers(basic_auth=f"{self.secret['username']}:{self.secret['password']}")
        try:
            return self._http.request("GET", self.url + path, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise ReadingError(f"broker {self.url} cannot be reached: {error}") from None


def _counts(found: Mapping[str, Any]) -> QueueCounts:
    if found.get("state") in _DOWN:
        raise ValueError(f"the queue is {found['state']}")
    return QueueCounts(
        ready=_count(found["messages_ready"]),
        unacknowledged=_count(found["messages_unacknowledged"]),
        consumers=_count(found["consumers"]),
        published=_count((found.get("message_stats") or {}).get("publish", 0)),  # absent until the first message
    )


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value
