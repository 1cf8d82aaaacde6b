"""A token server as registries send their clients to: https://distribution.github.io/distribution/spec/auth/token/."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.certificates import self_signed
from tests.registries.docker_registry import PASSWORD, USER

ISSUER = "test-issuer"
SERVICE = "test-registry"
ALL = "pull,push,delete"


@dataclass(frozen=True)
class TokenRequest:
    """A request for a token; `user` None is anonymous."""

    method: str
    user: str | None
    scopes: tuple[str, ...]


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass
class TokenServer:
    """Signs what its accounts may do, and remembers who asked.

    `accounts` have a password, and actions as in a scope ("pull,push"); `anonymous`: what anybody may do in a
    repository. `lifetime` of its tokens in seconds. `url` is set when it serves.
    """

    accounts: dict[str, tuple[str, str]] = field(default_factory=lambda: {USER: (PASSWORD, ALL)})
    anonymous: Mapping[str, str] = field(default_factory=dict)
    lifetime: int = 300
    url: str = ""
    requests: list[TokenRequest] = field(default_factory=list)
    _refresh: dict[str, str] = field(default_factory=dict)

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _certificate(self) -> x509.Certificate:
        return self_signed(self._key, ISSUER)

    def auth_section(self, folder: Path) -> dict[str, Any]:
        """What the configuration of a registry says that trusts this server."""
        bundle = folder / "tokens.pem"
        bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        return {"realm": f"{self.url}/token", "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}

    def authorization(self, repository: str) -> str:
        """The header of a user with all permissions in `repository`."""
        return "Bearer " + self._token("test", [_access(f"repository:{repository}:{ALL}", ALL)])

    def answer(self, method: str, user: str | None, password: str | None, scopes: tuple[str, ...]) -> dict[str, Any]:
        """The token's document, {} if the password is wrong."""
        self.requests.append(TokenRequest(method, user, scopes))
        known, actions = self.accounts.get(user or "", ("", ""))
        if user is not None and (not known or password != known):
            return {}
        allowed = [self.anonymous.get(scope.split(":")[1], "") if user is None else actions for scope in scopes]
        access = [_access(scope, given) for scope, given in zip(scopes, allowed, strict=True)]
        token, refresh = self._token(user or "", access), str(uuid.uuid4())
        document = {"token": token, "access_token": token, "expires_in": self.lifetime}
        if user is None:
            return document
        self._refresh[refresh] = user
        return {**document, "refresh_token": refresh}

    def renew(self, refresh_token: str, scopes: tuple[str, ...]) -> dict[str, Any]:
        user = self._refresh.get(refresh_token, "unknown")
        return self.answer("POST", user, self.accounts.get(user, ("", ""))[0], scopes)

    def _token(self, subject: str, access: list[dict[str, Any]]) -> str:
        """A JSON web token that says what `subject` may do."""
        now, der = int(time.time()), self._certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        times = {"iat": now, "nbf": now - 10, "exp": now + self.lifetime}
        names = {"iss": ISSUER, "sub": subject, "aud": SERVICE, "jti": str(uuid.uuid4())}
        claims = {**names, **times, "access": access}
        signed = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(claims).encode())}"
        return f"{signed}.{_part(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _access(scope: str, allowed: str) -> dict[str, Any]:
    """`scope` with those of its actions that are in `allowed`, as a token has it."""
    kind, name, actions = scope.split(":")
    given = [action for action in actions.split(",") if action in allowed.split(",")]
    return {"type": kind, "name": name, "actions": given}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tokens: TokenServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        scopes = tuple(scope for given in query.get("scope", []) for scope in given.split())
        user, password = self._basic()
        self._give(self.tokens.answer("GET", user, password, scopes))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        scopes = tuple(form.get("scope", "").split())
        if form.get("grant_type") == "refresh_token":
            self._give(self.tokens.renew(form.get("refresh_token", ""), scopes))
        else:
            self._give(self.tokens.answer("POST", form.get("username", ""), form.get("password"), scopes))

    def _basic(self) -> tuple[str | None, str | None]:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None, None
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user, password

    def _give(self, document: dict[str, Any]) -> None:
        body = json.dumps(document or {"details": "incorrect username or password"}).encode()
        self.send_response(200 if document else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


@contextlib.contextmanager
def token_server() -> Iterator[TokenServer]:
    """A server that knows USER alone and lets anonymous clients do nothing."""
    tokens = TokenServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"tokens": tokens}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    tokens.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
