"""A registry: requests with login, redirects and retries. Its repositories are in `registry/repository.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from refinerctl.errors import RefinerctlError
from refinerctl.registry.auth import Authorizer, Scopes
from refinerctl.registry.credentials import DOCKER_HUB_HOSTS, Logins
from refinerctl.registry.repository import PULL, Repository
from refinerctl.transport import Response, Transport, TransportError, base_url, is_loopback, joined

MAX_HOPS = 8
UNAUTHORIZED, FORBIDDEN = 401, 403
REDIRECTS = (301, 302, 303, 307, 308)

# Content that is sent in pieces is made anew for each attempt.
Content = bytes | Callable[[], Iterable[bytes]] | None


class Registry:
    """One registry by its host name, as image references have it. Safe to share between threads."""

    def __init__(self, host: str, logins: Logins, transport: Transport) -> None:
        self.host = host
        self.transport = transport
        # Whether blobs have to be sent by PATCH: known after the first refusal.
        self.sends_by_patch = False
        self._base = base_url("registry-1.docker.io" if host in DOCKER_HUB_HOSTS else host)
        self._auth = Authorizer(host, logins, transport.fetch)

    def repository(self, name: str, actions: str = PULL) -> Repository:
        """Repository `name`. The token is asked for `actions`: PULL or PULL_AND_PUSH."""
        full = f"library/{name}" if self.host in DOCKER_HUB_HOSTS and "/" not in name else name
        return Repository(self, full, actions)

    def fetch(
        self, scopes: Scopes, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """A small response, read whole; retried. `url` may be a path. Raises AccessDeniedError for 401 and 403."""
        retry = self.transport.retry(self.host)
        while True:
            try:
                return self.open(scopes, method, url, headers, body).whole()
            except TransportError as error:
                retry.wait(error)

    def open(
        self,
        scopes: Scopes,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Content = None,
        patience_s: float = 0.0,
    ) -> Response:
        """A response whose body is not yet read; one attempt. Logs in after a 401, follows redirects of GET and HEAD.

        Only the registry itself gets the Authorization header.
        """
        url, challenged = joined(self._base, url), False
        for _ in range(MAX_HOPS):
            own = origin(url) == origin(self._base)
            login = self._auth.header(scopes) if own else None
            sent = {**(headers or {}), **({"Authorization": login} if login else {})}
            response = self.transport.send(method, url, sent, body() if callable(body) else body, patience_s)
            location = response.headers.get("Location")
            if response.status in REDIRECTS and location and method in ("GET", "HEAD"):
                url = self._redirected(url, location)
            elif response.status in (UNAUTHORIZED, FORBIDDEN) and own:
                challenge = response.headers.get("WWW-Authenticate") or ""
                is_new = response.status == UNAUTHORIZED and not challenged
                if not is_new or not self._auth.learn(challenge, scopes, login):
                    raise self._auth.denied(scopes, _reason(response))
                challenged = True
            else:
                return response
            response.whole()  # frees the connection
        raise RefinerctlError(f"{self.host} redirects in a circle")

    def _redirected(self, url: str, location: str) -> str:
        target = joined(url, location)
        if is_loopback(urlsplit(target).netloc) and not is_loopback(self.host):
            raise RefinerctlError(f"refusing a redirect of {self.host} to this machine")
        return target

    def failed(self, what: str, response: Response) -> RefinerctlError:
        """The error for a response that a retry does not change, in the registry's own words."""
        return RefinerctlError(f"{self.host}: {what} failed: {_reason(response)}")


def _reason(response: Response) -> str:
    """https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes"""
    try:
        error: dict[str, Any] = json.loads(response.body)["errors"][0]
        code, message = str(error.get("code") or ""), str(error.get("message") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return str(response.status)
    return f"{response.status} {code}: {message[:300]}"


def origin(url: str) -> tuple[str, str | None, int | None]:
    """https://www.rfc-editor.org/rfc/rfc6454: scheme, host and port, however they are written."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError as error:
        raise RefinerctlError("the server sent an invalid URL in a header") from error
