"""What RabbitMQ's management API says about queues."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import urllib3

from rnr_common.addresses import server_address
from rnr_common.secret import Secret

_NO_COUNTS = frozenset({"down", "crashed", "stopped", "minority", "terminated"})


class ReadingError(Exception):
    """The broker or ECS did not say what the decision needs."""


@dataclass(frozen=True)
class QueueCounts:
    """`published` is counted since the broker was started, the others are of now (up to 5 s old)."""

    ready: int = 0
    unacknowledged: int = 0
    consumers: int = 0
    published: int = 0


class ManagementApi:
    """The broker's management API at RNR_BROKER_API_URL, with the credentials of the secret."""

    def __init__(self, environ: Mapping[str, str], secret: Secret | None = None) -> None:
        address = server_address("RNR_BROKER_API_URL", environ["RNR_BROKER_API_URL"], "https", "http")
        self.url = address.geturl().rstrip("/")
        self.secret = secret or Secret(environ["RNR_BROKER_SECRET"])
        context = ssl.create_default_context(cafile=environ.get("RNR_BROKER_CA_FILE") or None)
        self._http = urllib3.PoolManager(
            ssl_context=context if address.scheme == "https" else None,
            timeout=urllib3.Timeout(connect=5, read=10),
            retries=urllib3.Retry(total=2, redirect=0, backoff_factor=0.5, raise_on_redirect=False),
        )

    def queue(self, name: str) -> QueueCounts | None:
        """Return the counts of a queue of virtual host `/`, or None if it does not exist."""
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
            raise ReadingError(f"broker {self.url} has no counts of queue {name}: {error!r}") from None

    def _get(self, path: str) -> urllib3.BaseHTTPResponse:
        headers = urllib3.make_headers(basic_auth=f"{self.secret['username']}:{self.secret['password']}")
        try:
            return self._http.request("GET", self.url + path, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            raise ReadingError(f"broker {self.url} cannot be reached: {error}") from None


def _counts(found: Mapping[str, Any]) -> QueueCounts:
    if found.get("state") in _NO_COUNTS:
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
