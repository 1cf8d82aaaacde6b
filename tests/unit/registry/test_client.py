"""What a registry that is broken, or means harm, can make the client do: as little as possible."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.images import OCI_MANIFEST, digest_of, parse_manifest
from refinerctl.registry.client import MAX_PAGES, Registry
from refinerctl.registry.credentials import Login
from refinerctl.transport import Answer, Limits, Transport
from tests.integration.copying import Logins

HOST = "registry.example"
DEEP = b"[" * 100_000


class Canned(Transport):
    """Answers without a network; remembers who was asked, and with what login."""

    def __init__(self, answer: Callable[[str], Answer]) -> None:
        super().__init__(Limits(attempts=1), lambda _: None)
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []

    def fetch(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        self.asked.append((url, headers.get("Authorization")))
        return self.answer(url)


def registry(answer: Callable[[str], Answer]) -> tuple[Registry, Canned]:
    found = Registry(HOST, Logins({HOST: Login("me", "secret")}))
    found.transport = canned = Canned(answer)
    return found, canned


def page(*tags: str, link: str | None = None) -> Answer:
    return Answer(200, {"Link": link} if link else {}, json.dumps({"tags": tags}).encode())


def test_pages_that_lead_in_a_circle_end() -> None:
    following = {"n=1000": "last=a", "last=a": "last=b", "last=b": "last=a"}
    client, asked = registry(
        lambda url: page(url[-1], "x", link=f'</v2/a/tags/list?{following[url.split("?")[1]]}>; rel="next"')
    )

    assert client.repository("a").tags() == ["0", "x", "a", "b"]
    assert len(asked.asked) == 3


def test_pages_without_an_end_are_an_error() -> None:
    client, asked = registry(lambda url: page(link=f'</v2/a/tags/list?last={len(asked.asked)}>; rel="next"'))

    with pytest.raises(RefinerctlError, match="no end of tags"):
        client.repository("a").tags()
    assert len(asked.asked) == MAX_PAGES + 1


def test_the_next_page_is_the_registrys_own_and_an_empty_one_not_the_last() -> None:
    pages = [page(link='<http://127.0.0.1:2375/v2/a/tags/list?last=1>; rel="next"'), page("v1")]
    client, asked = registry(lambda _: pages.pop(0))

    assert client.repository("a").tags() == ["v1"]
    assert [url for url, _ in asked.asked][1:] == [f"https://{HOST}/v2/a/tags/list?last=1"]


def test_what_is_no_tag_is_left_out() -> None:
    client, _ = registry(lambda _: page("v1.0.0", "\x1b[2J", "a b", "v" + "1" * 9000, ""))

    assert client.repository("a").tags() == ["v1.0.0"]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://127.0.0.1:2375/containers/json", "a server on this machine"),
        ("https://localhost/", "a server on this machine"),
        ("file:///etc/passwd", "no http"),
        ("ftp://elsewhere.example/", "no http"),
        ("https://elsewhere.example:99999/?X-Amz-Signature=hidden", "an address that is none"),
        ("https://[::1", "an address that is none"),
        ("https://elsewhere.example/\u00fc", "no http"),
        ("http://me:hidden@elsewhere.example/", "elsewhere.example is to be reached without TLS"),
    ],
)
def test_redirects_to_where_none_should_lead(location: str, words: str) -> None:
    client, canned = registry(lambda _: Answer(307, {"Location": location}, b""))
    real = Transport(Limits(attempts=1), lambda _: None)

    def answer(url: str) -> Answer:
        if url.startswith(f"https://{HOST}/"):
            return Answer(307, {"Location": location}, b"")
        real.send("GET", url, {})
        raise AssertionError(url)

    canned.answer = answer
    with pytest.raises(RefinerctlError, match=words) as refused:
        client.repository("a").find("v1")
    assert "hidden" not in str(refused.value)


def test_the_registry_is_itself_however_it_writes_its_name() -> None:
    asks = {"WWW-Authenticate": "Basic"}
    answers = [
        Answer(401, asks, b""),
        Answer(302, {"Location": f"https://{HOST.upper()}:443/v2/b/manifests/v1"}, b""),
        Answer(302, {"Location": f"https://{HOST}.elsewhere.example/"}, b""),
        Answer(404, {}, b""),
    ]
    client, canned = registry(lambda _: answers.pop(0))

    assert client.repository("a").find("v1") is None
    assert [login is not None for _, login in canned.asked] == [False, True, True, False]


@pytest.mark.parametrize("body", [DEEP, b'{"errors": ' + DEEP, b"\xff", b'{"errors": [1]}'])
def test_an_error_that_cannot_be_read_is_its_status(body: bytes) -> None:
    client, _ = registry(lambda _: Answer(400, {}, body))

    with pytest.raises(RefinerctlError, match=r"failed: 400$"):
        client.repository("a").find("v1")


def test_tags_that_cannot_be_read() -> None:
    client, _ = registry(lambda _: Answer(200, {}, DEEP))

    with pytest.raises(RefinerctlError, match="cannot be read"):
        client.repository("a").tags()


@pytest.mark.parametrize("size", ["1e999", "-1", "NaN", '"x"', "null"])
def test_sizes_that_are_none(size: str) -> None:
    config = f'{{"mediaType": "x", "digest": "{digest_of(b"")}", "size": {size}}}'
    document = f'{{"mediaType": "{OCI_MANIFEST}", "config": {config}, "layers": []}}'

    with pytest.raises(RefinerctlError, match="cannot be read"):
        parse_manifest(document.encode(), OCI_MANIFEST)
