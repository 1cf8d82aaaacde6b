"""Logging in as a registry asks for it: Basic, or a Bearer token from its token server.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.http import is_loopback
from refinerctl.registry.credentials import Credentials, Login
from refinerctl.transport import Answer

Scopes = tuple[str, ...]
Fetch = Callable[[str, str, Mapping[str, str], bytes | None], Answer]

CLIENT_ID = "refinerctl"
# A token server that does not say how long: https://distribution.github.io/distribution/spec/auth/token/
DEFAULT_TOKEN_SECONDS = 60.0

_PARAMETER = re.compile(r'([A-Za-z][\w-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))|([A-Za-z][\w-]*)')


@dataclass(frozen=True)
class Challenge:
    """One scheme of a WWW-Authenticate header, in lower case, with its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read WWW-Authenticate: https://www.rfc-editor.org/rfc/rfc9110#name-www-authenticate"""
    found: list[tuple[str, dict[str, str]]] = []
    for name, quoted, bare, scheme in _PARAMETER.findall(header):
        if scheme:
            found.append((scheme.lower(), {}))
        elif found:
            found[-1][1][name.lower()] = re.sub(r"\\(.)", r"\1", quoted) or bare
    return tuple(Challenge(scheme, parameters) for scheme, parameters in found)


@dataclass(frozen=True)
class _Token:
    header: str
    renew_at: float


class Authorizer:
    """The Authorization headers of one registry; safe to share between threads.

    The first 401 teaches it what the registry wants; from then on requests carry it at once. `fetch` asks the
    token server: `(method, url, headers, body)`.
    """

    def __init__(self, host: str, credentials: Credentials, fetch: Fetch) -> None:
        self._host = host
        self._credentials = credentials
        self._fetch = fetch
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, _Token] = {}

    def header(self, scopes: Scopes) -> str | None:
        """The header's value for a request that needs `scopes`; None where there is nothing to send (yet)."""
        with self._lock:  # one asks the token server, the others wait for its answer
            if self._challenge is None:
                return None
            if self._challenge.scheme == "basic":
                login = self._login()
                return _basic(login) if login else None
            token = self._tokens.get(scopes)
            if token is None or token.renew_at <= time.monotonic():
                token = self._tokens[scopes] = self._ask(self._challenge, scopes)
            return token.header

    def learn(self, www_authenticate: str, scopes: Scopes, sent: str | None) -> bool:
        """After a 401 to a request with header `sent`: whether another try may go better."""
        known = {challenge.scheme: challenge for challenge in parse_challenges(www_authenticate)}
        challenge = known.get("bearer") or known.get("basic")
        if challenge is None:
            return False
        with self._lock:
            self._challenge = challenge
            token = self._tokens.get(scopes)
            if token is not None and token.header == sent:  # it ran out, or was taken back
                del self._tokens[scopes]
        return challenge.scheme == "bearer" or sent is None

    @property
    def user(self) -> str:
        """Whom the registry sees, for messages."""
        return user_of(self._login())

    def _login(self) -> Login | None:
        return self._credentials.login(self._host)

    def _ask(self, challenge: Challenge, scopes: Scopes) -> _Token:
        realm = challenge.parameters.get("realm", "")
        parts = urlsplit(realm)
        on_this_machine = is_loopback(parts.netloc) and is_loopback(self._host)
        if parts.scheme != "https" and not (parts.scheme == "http" and on_this_machine):
            raise RefinerctlError(f"{self._host} names a token server without TLS: {parts.netloc or 'none at all'}")
        service = challenge.parameters.get("service", "")
        login = self._login()
        if login is not None and login.identity_token:
            answer = self._refresh(realm, service, scopes, login.identity_token)
        else:
            query = [("service", service)] * bool(service) + [("scope", scope) for scope in scopes]
            joined = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}"
            answer = self._fetch("GET", joined, {"Authorization": _basic(login)} if login else {}, None)
        return self._token(answer, parts.netloc, scopes)

    def _refresh(self, realm: str, service: str, scopes: Scopes, identity_token: str) -> Answer:
        """https://distribution.github.io/distribution/spec/auth/oauth/"""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": identity_token,
            "service": service,
            "client_id": CLIENT_ID,
            "scope": " ".join(scopes),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._fetch("POST", realm, headers, urlencode(form).encode())

    def _token(self, answer: Answer, server: str, scopes: Scopes) -> _Token:
        if answer.status in (400, 401, 403):
            raise denied(self._host, self.user, scopes, f"its token server {server} answers {answer.status}")
        if answer.status != 200:
            raise RefinerctlError(f"the token server {server} of {self._host} answers {answer.status}")
        try:
            document = json.loads(answer.body)
            value = str(document.get("token") or document["access_token"])
            seconds = float(document.get("expires_in") or DEFAULT_TOKEN_SECONDS)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            # Without the answer: it may hold a token.
            raise RefinerctlError(f"the token server {server} sent no token: {type(error).__name__}") from None
        if not value.isascii() or not value.isprintable():
            raise RefinerctlError(f"the token server {server} sent a token that is none")
        return _Token(f"Bearer {value}", time.monotonic() + seconds * 0.8)


def user_of(login: Login | None) -> str:
    if login is None:
        return "anonymous users"
    return f"user {login.username!r}" if login.username else "the user of an identity token"


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()


def denied(host: str, user: str, scopes: Scopes, reason: str) -> AccessDeniedError:
    """401 or 403: which registry, which user, which scope is missing, and what to set."""
    wanted = " and ".join(_scope_text(scope) for scope in scopes) or "that"
    return AccessDeniedError(f"{host} does not let {user} {wanted}: {reason}", hint=_what_to_set(host))


def _scope_text(scope: str) -> str:
    _, name, actions = scope.split(":")
    return f"{actions.replace(',', ' and ')} {name} (scope {scope})"


def _what_to_set(host: str) -> str:
    if host == "ghcr.io":
        return "Set GITHUB_TOKEN to a token with read:packages (write:packages to push); is the name right?"
    if ".dkr.ecr" in host or ".dkr-ecr" in host:
        return "The role needs ecr:GetAuthorizationToken, and on the repository the ecr: actions of a pull or push."
    return f"Log in with `docker login {host}`, as a user who may do this; is the name right?"
