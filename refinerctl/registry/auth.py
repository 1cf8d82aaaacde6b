"""Authentication at a registry: Basic, or a Bearer token from its token server.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urlsplit

from refinerctl.addresses import check_reach, is_loopback
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.registry.credentials import Logins
from refinerctl.transport import Login, Response

Scopes = tuple[str, ...]
Fetch = Callable[[str, str, Mapping[str, str], bytes | None], Response]

CLIENT_ID = "refinerctl"
# The default of the token's lifetime: https://distribution.github.io/distribution/spec/auth/token/
DEFAULT_TOKEN_SECONDS = 60.0
# Share of its lifetime after which a token is renewed.
RENEW_AFTER = 0.8

_PARAMETER = re.compile(r'([A-Za-z][\w-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))|([A-Za-z][\w-]*)')


def parse_challenges(header: str) -> dict[str, dict[str, str]]:
    """Read WWW-Authenticate: parameters by scheme, in lower case.

    https://www.rfc-editor.org/rfc/rfc9110#name-www-authenticate
    """
    found: dict[str, dict[str, str]] = {}
    parameters: dict[str, str] = {}
    for name, quoted, bare, scheme in _PARAMETER.findall(header):
        if scheme:
            parameters = found.setdefault(scheme.lower(), {})
        else:
            parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or bare
    return found


class Authorizer:
    """The Authorization headers of one registry; safe to share between threads.

    The first 401 says what the registry wants; from then on each request carries it. `fetch` asks the token server:
    `(method, url, headers, body)`.
    """

    def __init__(self, host: str, logins: Logins, fetch: Fetch) -> None:
        self._host = host
        self._logins = logins
        self._fetch = fetch
        self._lock = threading.Lock()
        self._scheme = ""
        self._parameters: Mapping[str, str] = {}
        # By scope: the header, and the monotonic time to renew it at.
        self._tokens: dict[Scopes, tuple[str, float]] = {}

    def header(self, scopes: Scopes) -> str | None:
        """The header for a request that needs `scopes`; None if no login is known to be needed."""
        with self._lock:  # one thread asks the token server, the others wait for its answer
            if self._scheme == "basic":
                login = self._logins(self._host)
                return _basic(login) if login else None
            if self._scheme != "bearer":
                return None
            if scopes not in self._tokens or self._tokens[scopes][1] <= time.monotonic():
                self._tokens[scopes] = self._new_token(scopes)
            return self._tokens[scopes][0]

    def learn(self, www_authenticate: str, scopes: Scopes, sent: str | None) -> bool:
        """After a 401 to a request with header `sent`: whether another attempt may succeed."""
        challenges = parse_challenges(www_authenticate)
        scheme = next((scheme for scheme in ("bearer", "basic") if scheme in challenges), None)
        if scheme is None:
            return False
        with self._lock:
            self._scheme, self._parameters = scheme, challenges[scheme]
            if scopes in self._tokens and self._tokens[scopes][0] == sent:  # it expired, or was revoked
                del self._tokens[scopes]
        return scheme == "bearer" or sent is None

    def denied(self, scopes: Scopes, reason: str) -> AccessDeniedError:
        """The error for a 401 or 403."""
        return denied(self._host, self._logins(self._host), scopes, reason)

    def _new_token(self, scopes: Scopes) -> tuple[str, float]:
        realm = self._parameters.get("realm", "")
        parts = urlsplit(realm)
        on_this_machine = is_loopback(parts.netloc) and is_loopback(self._host)
        if parts.scheme != "https" and not (parts.scheme == "http" and on_this_machine):
            raise RefinerctlError(f"{self._host} names a token server without HTTPS: {parts.netloc or 'no host'}")
        check_reach(self._host, realm)
        service = self._parameters.get("service", "")
        login = self._logins(self._host)
        if login is not None and login.identity_token:
            # https://distribution.github.io/distribution/spec/auth/oauth/
            form = {
                "grant_type": "refresh_token",
                "refresh_token": login.identity_token,
                "service": service,
                "client_id": CLIENT_ID,
                "scope": " ".join(scopes),
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._fetch("POST", realm, headers, urlencode(form).encode())
        else:
            query = [("service", service)] * bool(service) + [("scope", scope) for scope in scopes]
            url = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}"
            response = self._fetch("GET", url, {"Authorization": _basic(login)} if login else {}, None)
        return self._read_token(response, parts.netloc, scopes)

    def _read_token(self, response: Response, server: str, scopes: Scopes) -> tuple[str, float]:
        if response.status in (400, 401, 403):
            raise self.denied(scopes, f"its token server {server} returned {response.status}")
        if response.status != 200:
            raise RefinerctlError(f"the token server {server} of {self._host} returned {response.status}")
        try:
            document = json.loads(response.body)
            token = str(document.get("token") or document["access_token"])
            seconds = float(document.get("expires_in") or DEFAULT_TOKEN_SECONDS)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            # Without the response: it may hold a token.
            raise RefinerctlError(f"the token server {server} sent no token: {type(error).__name__}") from None
        if not token.isascii() or not token.isprintable():
            raise RefinerctlError(f"the token server {server} sent an invalid token")
        return f"Bearer {token}", time.monotonic() + seconds * RENEW_AFTER


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def denied(host: str, login: Login | None, scopes: Scopes, reason: str) -> AccessDeniedError:
    """401 or 403: which registry, which user, which scope is missing, and what to set."""
    user = "anonymous users"
    if login is not None:
        user = f"user {login.username!r}" if login.username else "the user of an identity token"
    wanted = " and ".join(_scope_text(scope) for scope in scopes) or "that"
    return AccessDeniedError(f"{host} does not let {user} {wanted}: {reason}", hint=_what_to_set(host))


def _scope_text(scope: str) -> str:
    _, name, actions = scope.split(":")
    return f"{actions.replace(',', ' and ')} {name} (scope {scope})"


def _what_to_set(host: str) -> str:
    if host == "ghcr.io":
        return (
            "Set GITHUB_TOKEN to a token with read:packages (write:packages to push), and check the repository's name."
        )
    if ".dkr.ecr" in host or ".dkr-ecr" in host:
        return "The role needs ecr:GetAuthorizationToken, and on the repository the ecr: actions of a pull or push."
    return f"Log in with `docker login {host}` as a user with this permission, and check the repository's name."
