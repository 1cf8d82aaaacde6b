"""A broken or hostile registry: what the client refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from urllib.parse import quote

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.images import OCI_MANIFEST
from refinerctl.registry.client import MAX_PAGES, Registry
from refinerctl.registry.manifests import Descriptor, digest_of, parse_manifest
from refinerctl.transport import Body, Limits, Login, Response, Transport
from tests.unit.registry.responses import response

HOST = "registry.example"
DEEP = b"[" * 100_000


class Canned(Transport):
    """Answers without a network; remembers URLs and logins."""

    def __init__(self, answer: Callable[[str], Response]) -> None:
        super().__init__(Limits(attempts=1))
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body = None, patience_s: float = 0.0
    ) -> Response:
        self.asked.append((url, headers.get("Authorization")))
        return self.answer(url)


def registry(answer: Callable[[str], Response]) -> tuple[Registry, Canned]:
    canned = Canned(answer)
    return Registry(HOST, {HOST: Login("me", "secret")}.get, canned), canned


def page(*tags: str, link: str | None = None) -> Response:
    return response(200, json.dumps({"tags": tags}).encode(), {"Link": link} if link else {})


def test_pages_in_a_circle_end() -> None:
    following = {"n=1000": "last=a", "last=a": "last=b", "last=b": "last=a"}
    client, asked = registry(
        lambda url: page(url[-1], "x", link=f'</v2/a/tags/list?{following[url.split("?")[1]]}>; rel="next"')
    )

    assert client.repository("a").tags() == ["0", "x", "a", "b"]
    assert len(asked.asked) == 3


@pytest.mark.nightly
def test_endless_pages_are_an_error() -> None:
    client, asked = registry(lambda url: page(link=f'</v2/a/tags/list?last={len(asked.asked)}>; rel="next"'))

    with pytest.raises(RefinerctlError, match="has too many tags"):
        client.repository("a").tags()
    assert len(asked.asked) == MAX_PAGES + 1


def test_next_page_is_read_from_the_registry_itself() -> None:
    pages = [page(link='<http://127.0.0.1:2375/v2/a/tags/list?last=1>; rel="next"'), page("v1")]
    client, asked = registry(lambda _: pages.pop(0))

    assert client.repository("a").tags() == ["v1"]
    assert [url for url, _ in asked.asked][1:] == [f"https://{HOST}/v2/a/tags/list?last=1"]


def test_invalid_tags_are_skipped() -> None:
    client, _ = registry(lambda _: page("v1.0.0", "\x1b[2J", "a b", "v" + "1" * 9000, ""))

    assert client.repository("a").tags() == ["v1.0.0"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://127.0.0.1:2375/containers/json", "refusing to follow .* to a loopback address"),
        ("https://localhost/", "refusing to follow .* to a loopback address"),
        ("//[::1]/", "refusing to follow .* to a loopback address"),
        ("https://169.254.169.254/", "refusing to follow .* to a private address"),
        ("https://10.0.0.1/", "refusing to follow .* to a private address"),
        ("https://[::ffff:127.0.0.1]/", "refusing to follow .* to a private address"),
        ("https://0.0.0.0/", "refusing to follow .* to a private address"),
        ("file:///etc/passwd", "not an http:// or"),
        ("ftp://elsewhere.example/", "not an http:// or"),
        ("https://elsewhere.example:99999/?X-Amz-Signature=hidden", "an invalid URL"),
        ("https://[::1", "an invalid URL"),
        ("https://elsewhere.example/\u00fc", "not an http:// or"),
        ("http://me:hidden@elsewhere.example/", "refusing plain HTTP to elsewhere.example"),
        (f"http://{HOST}/", f"refusing plain HTTP to {HOST}"),
    ],
)
@pytest.mark.parametrize("way", ["redirect", "upload", "upload in parts"])
def test_refused_locations(location: str, words: str, way: str) -> None:
    real = Transport(Limits(attempts=1))
    statuses = {"redirect": [307], "upload": [202], "upload in parts": [202, 405, 202, 202]}[way]
    places = ["/v2/a/blobs/uploads/1"] * (len(statuses) - 1) + [location]

    def answer(url: str) -> Response:
        if statuses and url.startswith(f"https://{HOST}/v2/"):
            return response(statuses.pop(0), headers={"Location": places.pop(0)})
        real.send("GET", url, {})
        raise AssertionError(url)

    client, _ = registry(answer)
    follow = read if way == "redirect" else upload
    with pytest.raises(RefinerctlError, match=words) as refused:
        follow(client)
    assert "hidden" not in str(refused.value)
    assert statuses == []


def read(client: Registry) -> None:
    client.repository("a").find("v1")


def upload(client: Registry) -> None:
    repository, blob = client.repository("a"), Descriptor("x", digest_of(b"blob"), 4)
    repository.upload(blob, repository.start_upload(blob) or "", lambda: [b"blob"])


def test_only_the_registry_gets_the_login_with_an_upload() -> None:
    answers = [
        response(401, headers={"WWW-Authenticate": "Basic"}),
        response(202, headers={"Location": "https://storage.example/up"}),
        response(201),
    ]
    client, canned = registry(lambda _: answers.pop(0))

    upload(client)

    assert canned.asked[-1] == (f"https://storage.example/up?digest={quote(digest_of(b'blob'), safe='')}", None)
    assert [login is not None for _, login in canned.asked] == [False, True, False]


def test_a_private_registry_may_lead_to_its_own_network() -> None:
    answers = [response(307, headers={"Location": "https://10.0.0.7/blob"}), response(404)]
    canned = Canned(lambda _: answers.pop(0))
    client = Registry("10.0.0.1:5000", lambda _: None, canned)

    assert client.repository("a").find("v1") is None
    assert [url for url, _ in canned.asked] == ["https://10.0.0.1:5000/v2/a/manifests/v1", "https://10.0.0.7/blob"]


def test_only_the_registry_gets_the_login_in_any_spelling_of_its_name() -> None:
    asks = {"WWW-Authenticate": "Basic"}
    answers = [
        response(401, headers=asks),
        response(302, headers={"Location": f"https://{HOST.upper()}:443/v2/b/manifests/v1"}),
        response(302, headers={"Location": f"https://{HOST}.elsewhere.example/"}),
        response(404),
    ]
    client, canned = registry(lambda _: answers.pop(0))

    assert client.repository("a").find("v1") is None
    assert [login is not None for _, login in canned.asked] == [False, True, True, False]


@pytest.mark.parametrize("body", [DEEP, b'{"errors": ' + DEEP, b"\xff", b'{"errors": [1]}'])
def test_unreadable_error_is_reported_as_its_status(body: bytes) -> None:
    client, _ = registry(lambda _: response(400, body))

    with pytest.raises(RefinerctlError, match=r"failed: 400$"):
        client.repository("a").find("v1")


def test_unreadable_tags_are_an_error() -> None:
    client, _ = registry(lambda _: response(200, DEEP))

    with pytest.raises(RefinerctlError, match="cannot be read"):
        client.repository("a").tags()


@pytest.mark.parametrize("size", ["1e999", "-1", "NaN", '"x"', "null"])
def test_invalid_sizes_are_an_error(size: str) -> None:
    config = f'{{"mediaType": "x", "digest": "{digest_of(b"")}", "size": {size}}}'
    document = f'{{"mediaType": "{OCI_MANIFEST}", "config": {config}, "layers": []}}'

    with pytest.raises(RefinerctlError, match="invalid manifest"):
        parse_manifest(document.encode(), OCI_MANIFEST)
