"""RabbitMQ's management API: queues with their counts, the server's time, and the user's password.

https://www.rabbitmq.com/docs/http-api-reference
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from refinerctl.addresses import tls_context
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, TransientError
from refinerctl.network import NETWORK
from refinerctl.rabbitmq.endpoint import VHOST, BrokerEndpoint
from refinerctl.waits import WAITS

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

DELIVERY_LIMIT = "x-delivery-limit"
# Of quorum queues since RabbitMQ 4: https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling
DEFAULT_LIMIT, DEFAULT_LIMIT_SINCE = 20, 4
# A limit that no operator reaches.
SAFE_LIMIT = 1_000
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
RETRIES = 2
MAX_SHOWN = 300


@dataclass(frozen=True)
class QueueReading:
    """A queue at time `at` (UTC, by the broker's clock).

    The counts are those of the broker's last sample, up to ten seconds old; None before the first one. `ready` can be
    received, `unacknowledged` is with consumers. `arguments` include what policies set.
    """

    name: str
    at: datetime
    ready: int | None = None
    unacknowledged: int | None = None
    consumers: int | None = None
    is_quorum: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> int | None:
        return None if self.ready is None or self.unacknowledged is None else self.ready + self.unacknowledged


class Management:
    """The management API of one broker; safe to share between threads."""

    def __init__(
        self, endpoint: BrokerEndpoint, *, connect_timeout_s: float = CONNECT_TIMEOUT_S, retries: int = RETRIES
    ) -> None:
        self.endpoint = endpoint
        self._connect_timeout_s = connect_timeout_s
        self._retries = retries
        self._pool: HTTPConnectionPool | None = None

    def queue(self, name: str) -> QueueReading:
        """Raises NotFoundError without the queue, and other RefinerctlErrors."""
        response = self.request("GET", f"/api/queues/{quote(VHOST, safe='')}/{quote(name, safe='')}", f"queue {name}")
        return _queue(name, self._json(response), _time(response))

    def version(self) -> str:
        """The version of RabbitMQ."""
        return str(self._json(self.request("GET", "/api/overview")).get("rabbitmq_version", ""))

    def accepts_login(self) -> bool:
        """Whether the broker accepts the user with the password."""
        try:
            self._whoami()
        except AccessDeniedError:
            return False
        return True

    def set_password(self, password: str) -> None:
        """Give the user another password; the user's tags stay. Connections that are open stay open."""
        name = self.endpoint.username
        body = {"password": password, "tags": self._whoami().get("tags", "")}
        self.request("PUT", f"/api/users/{quote(name, safe='')}", f"user {name}", body)

    def _whoami(self) -> Mapping[str, Any]:
        return self._json(self.request("GET", "/api/whoami"))

    def delivery_limit(self, queue: QueueReading) -> int | None:
        """After how many deliveries a message leaves the queue; None: never, or hardly ever."""
        if not queue.is_quorum:
            return None
        limit = queue.arguments.get(DELIVERY_LIMIT)
        if limit is None:
            major = self.version().partition(".")[0]
            limit = DEFAULT_LIMIT if major.isdecimal() and int(major) >= DEFAULT_LIMIT_SINCE else None
        return limit if isinstance(limit, int) and 0 <= limit < SAFE_LIMIT else None

    def request(
        self, method: str, path: str, resource: str = "the management API", body: Mapping[str, Any] | None = None
    ) -> BaseHTTPResponse:
        """One request, repeated only if it reads. Raises NotFoundError, AccessDeniedError, TransientError and others.

        The broker is named in each error. Errors contain no credentials.
        """
        import urllib3

        endpoint, address = self.endpoint, self.endpoint.api
        where = f"the management API of broker {endpoint.name}"
        if address is None:
            raise RefinerctlError(
                f"{where} is needed, and --broker-url names only AMQP's address", hint=endpoint.route_hint("https")
            )
        headers = urllib3.make_headers(basic_auth=f"{endpoint.username}:{endpoint.password}")
        retries = urllib3.Retry(self._retries if method == "GET" else 0, redirect=0, backoff_factor=0.3)
        try:
            with WAITS.waiting(f"broker {endpoint.name}"):
                response = self._connections().request(
                    method,
                    path,
                    headers={**headers, "Content-Type": "application/json"},
                    body=None if body is None else json.dumps(body).encode(),
                    retries=retries,
                )
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(where, endpoint, error, is_uncertain=method != "GET") from error
        NETWORK.answered(f"//{address.host}:{address.port}")
        _check(response, where, resource, endpoint)
        return response

    def _json(self, response: BaseHTTPResponse) -> Mapping[str, Any]:
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise TransientError(f"the management API of broker {self.endpoint.name} did not answer with a JSON object")
        return found

    def _connections(self) -> HTTPConnectionPool:
        import urllib3

        address = self.endpoint.api
        if self._pool is None and address is not None:
            timeout = urllib3.Timeout(self._connect_timeout_s, READ_TIMEOUT_S)
            if address.is_secure:
                self._pool = urllib3.HTTPSConnectionPool(
                    address.host,
                    address.port,
                    timeout=timeout,
                    maxsize=4,
                    ssl_context=tls_context(),
                    server_hostname=address.server_name,
                    assert_hostname=address.server_name,
                )
            else:
                self._pool = urllib3.HTTPConnectionPool(address.host, address.port, timeout=timeout, maxsize=4)
        assert self._pool is not None  # noqa: S101 - `request` checks the address
        return self._pool


def _unreachable(where: str, endpoint: BrokerEndpoint, error: Exception, *, is_uncertain: bool) -> RefinerctlError:
    import urllib3

    reason = getattr(error, "reason", None) or error
    if isinstance(reason, urllib3.exceptions.SSLError):
        return RefinerctlError(
            f"the TLS certificate of {where} is not trusted: {reason}"[: MAX_SHOWN * 2],
            hint="Check --broker-url; SSL_CERT_FILE names another certificate authority.",
        )
    said = str(reason).rpartition(": ")[2][:MAX_SHOWN]
    return TransientError(
        f"{where} cannot be reached: {said}", hint=endpoint.route_hint("https"), is_uncertain=is_uncertain
    )


def _check(response: BaseHTTPResponse, where: str, resource: str, endpoint: BrokerEndpoint) -> None:
    status = response.status
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status == HTTPStatus.NOT_FOUND:
        raise NotFoundError(f"{resource} does not exist on broker {endpoint.name}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise AccessDeniedError(f"{where} refused user {endpoint.username} ({status})", hint=endpoint.credentials_hint)
    message = f"{where} answered {status}: {response.data[:MAX_SHOWN].decode(errors='replace')}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise TransientError(message)
    raise RefinerctlError(message)


def _queue(name: str, found: Mapping[str, Any], at: datetime) -> QueueReading:
    policy = found.get("effective_policy_definition") or {}
    by_policy = {f"x-{key}": value for key, value in policy.items()} if isinstance(policy, dict) else {}
    return QueueReading(
        name,
        at,
        ready=found.get("messages_ready"),
        unacknowledged=found.get("messages_unacknowledged"),
        consumers=found.get("consumers"),
        is_quorum=found.get("type") == "quorum",
        arguments={**by_policy, **(found.get("arguments") or {})},
    )


def _time(response: BaseHTTPResponse) -> datetime:
    try:
        return parsedate_to_datetime(response.headers["Date"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        return datetime.now(UTC)
