"""The login that a registry asks for."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.registry.auth import Authorizer, parse_challenges
from refinerctl.transport import Login, Response
from tests.unit.registry.responses import response

HOST = "registry.example"
GHCR = 'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:user/image:pull"'
SCOPES = ("repository:a/b:pull",)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://t.example/x",service="s"',
            {"bearer": {"realm": "https://t.example/x", "service": "s"}},
        ),
        ('Basic realm="a, \\"quoted\\" b"', {"basic": {"realm": 'a, "quoted" b'}}),
        (
            'Negotiate, Basic realm=x, Bearer realm="y",error="invalid_token"',
            {"negotiate": {}, "basic": {"realm": "x"}, "bearer": {"realm": "y", "error": "invalid_token"}},
        ),
        ("BASIC", {"basic": {}}),
        ("", {}),
    ],
)
def test_challenges(header: str, expected: dict[str, dict[str, str]]) -> None:
    assert parse_challenges(header) == expected


@given(st.text(alphabet=string.printable, max_size=200))
def test_any_header_is_parsed(header: str) -> None:
    for scheme in parse_challenges(header):
        assert scheme == scheme.lower()


class TokenAnswers:
    """A token server in memory with given answers, that remembers its requests."""

    def __init__(self, *answers: tuple[int, object]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, str, dict[str, list[str]], str | None]] = []

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        parts = urlsplit(url)
        query = parse_qs(body.decode() if body else parts.query)
        self.asked.append((method, f"{parts.scheme}://{parts.netloc}{parts.path}", query, headers.get("Authorization")))
        status, document = self._answers.pop(0)
        return response(status, document if isinstance(document, bytes) else json.dumps(document).encode())


def authorizer(server: TokenAnswers, login: Login | None = None) -> Authorizer:
    made = Authorizer(HOST, lambda _: login, server)
    assert made.header(SCOPES) is None
    made.learn(GHCR, SCOPES, None)
    return made


def test_token_is_requested_once_per_scope() -> None:
    server = TokenAnswers((200, {"token": "one", "expires_in": 300}), (200, {"access_token": "two"}))
    auth = authorizer(server, Login("me", "secret"))

    assert [auth.header(SCOPES), auth.header(SCOPES)] == ["Bearer one"] * 2
    assert auth.header(("repository:a/b:pull,push", "repository:c:pull")) == "Bearer two"
    first, second = server.asked
    assert first == (
        "GET", "https://ghcr.io/token", {"service": ["ghcr.io"], "scope": [*SCOPES]}, "Basic bWU6c2VjcmV0",
    )  # fmt: skip
    assert second[2]["scope"] == ["repository:a/b:pull,push", "repository:c:pull"]


def test_refused_token_is_replaced_once() -> None:
    server = TokenAnswers((200, {"token": "old"}), (200, {"token": "new"}))
    auth = authorizer(server)
    old = auth.header(SCOPES)

    assert auth.learn(GHCR, SCOPES, old)
    assert auth.header(SCOPES) == "Bearer new"
    assert auth.learn(GHCR, SCOPES, old)  # another thread's 401, from before
    assert auth.header(SCOPES) == "Bearer new"


def test_basic_is_tried_once() -> None:
    auth = Authorizer(HOST, lambda _: Login("me", "pässword"), TokenAnswers())

    assert auth.learn('Basic realm="x"', SCOPES, None)
    assert auth.header(SCOPES) == "Basic bWU6cMOkc3N3b3Jk"
    assert not auth.learn('Basic realm="x"', SCOPES, auth.header(SCOPES))
    assert not auth.learn("Negotiate", SCOPES, None)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((401, {"details": "s3cret"}), AccessDeniedError, "token server ghcr.io returned 401"),
        ((404, {}), RefinerctlError, "returned 404"),
        ((200, {"nothing": 1}), RefinerctlError, "sent no token"),
        ((200, b"s3cret"), RefinerctlError, "sent no token"),
        ((200, []), RefinerctlError, "sent no token"),
        ((200, {"token": "s3cret\r\nX-Header: x"}), RefinerctlError, "sent an invalid token"),
    ],
)
def test_token_server_without_a_token(answer: tuple[int, object], kind: type[RefinerctlError], words: str) -> None:
    with pytest.raises(kind, match=words) as failed:
        authorizer(TokenAnswers(answer), Login("me", "s3cret")).header(SCOPES)

    assert "s3cret" not in f"{failed.value} {failed.value.hint}"


@pytest.mark.parametrize(
    ("realm", "words"),
    [
        ("http://tokens.example/", "without HTTPS"),
        ("http://127.0.0.1:2375/", "without HTTPS"),
        ("ftp://127.0.0.1/", "without HTTPS"),
        ("", "without HTTPS"),
        ("https://localhost/", "to a loopback address"),
        ("https://192.168.0.1/", "to a private address"),
    ],
)
def test_no_login_is_sent_to_a_token_server_without_tls_or_on_this_machine(realm: str, words: str) -> None:
    def fetch(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        raise AssertionError(url)

    authorizer = Authorizer(HOST, lambda _: Login("me", "secret"), fetch)
    authorizer.learn(f'Bearer realm="{realm}"', ("repository:a:pull",), None)
    with pytest.raises(RefinerctlError, match=words):
        authorizer.header(("repository:a:pull",))
