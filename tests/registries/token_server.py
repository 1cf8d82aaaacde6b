"""A token server as registries send their clients to: https://distribution.github.io/distribution/spec/auth/token/."""

from __future__ import annotations

import base64
import contextlib
import datetime
import fnmatch
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
from cryptography.x509.oid import NameOID

from tests.registries.docker_registry import PASSWORD, USER

ISSUER = "test-issuer"
SERVICE = "test-registry"
ALL = "pull,push,delete"


@dataclass(frozen=True)
class Account:
    """`access`: patterns of repository names → what may be done there, as in a scope ("pull,push")."""

    password: str
    access: Mapping[str, str]


@dataclass(frozen=True)
class TokenRequest:
    """A request for a token; `user` None is anonymous."""

    method: str
    user: str | None
    scopes: tuple[str, ...]


class _Signer:
    """A key that a registry trusts, and its certificate."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        signed = f"{_part(json.dumps(head).encode())}.{_part(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_part(signature)}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass
class TokenServer:
    """Signs what its accounts may do, and writes down who asked. `anonymous`: what anybody may do.

    `lifetime` of its tokens in seconds; None if it does not say. `url` is set when it serves.
    """

    accounts: dict[str, Account] = field(default_factory=lambda: {USER: Account(PASSWORD, {"*": ALL})})
    anonymous: Mapping[str, str] = field(default_factory=dict)
    lifetime: int | None = 300
    url: str = ""
    requests: list[TokenRequest] = field(default_factory=list)
    _refresh: dict[str, str] = field(default_factory=dict)

    @cached_property
    def _signer(self) -> _Signer:
        return _Signer()

    def auth_section(self, folder: Path) -> dict[str, Any]:
        bundle = folder / "tokens.pem"
        bundle.write_bytes(self._signer.certificate.public_bytes(serialization.Encoding.PEM))
        return {"realm": f"{self.url}/token", "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}

    def authorization(self, repository: str) -> str:
        return "Bearer " + self._token("test", (f"repository:{repository}:{ALL}",))

    def answer(self, method: str, user: str | None, password: str | None, scopes: tuple[str, ...]) -> dict[str, Any]:
        """The token's document, {} if the password is wrong."""
        account = self.accounts.get(user) if user is not None else None
        if user is not None and (account is None or account.password != password):
            self.requests.append(TokenRequest(method, user, scopes))
            return {}
        granted = tuple(_granted(scope, account.access if account else self.anonymous) for scope in scopes)
        self.requests.append(TokenRequest(method, user, scopes))
        return self._document(user, granted)

    def renew(self, refresh_token: str, scopes: tuple[str, ...]) -> dict[str, Any]:
        user = self._refresh.get(refresh_token)
        if user is None:
            self.requests.append(TokenRequest("POST", None, scopes))
            return {}
        return self.answer("POST", user, self.accounts[user].password, scopes)

    def _document(self, user: str | None, granted: tuple[str, ...]) -> dict[str, Any]:
        token = self._token(user or "", granted)
        document: dict[str, Any] = {"token": token, "access_token": token}
        if self.lifetime is not None:
            document["expires_in"] = self.lifetime
        if user is not None:
            refresh = str(uuid.uuid4())
            self._refresh[refresh] = user
            document["refresh_token"] = refresh
        return document

    def _token(self, subject: str, scopes: tuple[str, ...]) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 10,
            "exp": now + (self.lifetime or 60),
            "jti": str(uuid.uuid4()),
            "access": [_access(scope) for scope in scopes],
        }
        return self._signer.sign(claims)


def _granted(scope: str, access: Mapping[str, str]) -> str:
    """`scope` with those of its actions that `access` allows."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    allowed = {
        action for pattern, given in access.items() if fnmatch.fnmatch(name, pattern) for action in given.split(",")
    }
    return f"{kind}:{name}:{','.join(action for action in actions.split(',') if action in allowed)}"


def _access(scope: str) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action]}


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
def token_server(tokens: TokenServer | None = None) -> Iterator[TokenServer]:
    """Serve `tokens`, or a server that knows USER alone and lets anonymous clients do nothing."""
    tokens = tokens or TokenServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"tokens": tokens}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    tokens.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
