"""The registries, proxies and images that other tests trust."""

from __future__ import annotations

import re
import time

import pytest
import urllib3

from tests.registries.docker_registry import USER, DockerRegistry, basic
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import MakeProxy
from tests.registries.images import (
    Layer,
    MadeImage,
    delete_manifest,
    digest_at,
    digest_of,
    problems,
    push_image,
    push_index,
)
from tests.registries.skopeo import skopeo_inspect
from tests.registries.token_server import TokenServer

_http = urllib3.PoolManager(retries=False)


def get(url: str, **headers: str) -> urllib3.BaseHTTPResponse:
    return _http.request("GET", url, headers=headers, timeout=5)


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_skopeo_reads_what_was_made(source_registry: DockerRegistry, unique: str, kind: str) -> None:
    image = push_image(source_registry, f"{unique}/{kind}", kind=kind)
    index = push_index(source_registry, f"{unique}/{kind}", "index", kind=kind)

    assert skopeo_inspect(image.reference) == image.digest == digest_at(source_registry, image.repository)
    assert skopeo_inspect(index.reference) == index.digest
    assert [child.platform for child in index.children] == ["linux/amd64", "linux/arm64", *["unknown/unknown"] * 2]
    assert problems(source_registry, image.repository) == problems(source_registry, image.repository, "index") == []
    assert push_image(source_registry, unique, kind=kind).digest == image.digest


@pytest.mark.parametrize(
    ("packed", "media_type"),
    [("zstd", "v1.tar+zstd"), ("plain", "layer.v1.tar"), ("foreign", "layer.nondistributable.v1.tar+gzip")],
)
def test_layers_of_all_kinds(source_registry: DockerRegistry, unique: str, packed: str, media_type: str) -> None:
    image = push_image(source_registry, unique, layers=[Layer(300_000, packed)])

    assert f'{media_type}"' in image.raw.decode()
    assert problems(source_registry, unique) == []
    assert ("foreign.example" in image.raw.decode()) == (packed == "foreign")


def test_a_deleted_image_is_gone(source_registry: DockerRegistry, unique: str) -> None:
    image = push_image(source_registry, unique)

    delete_manifest(source_registry, unique, image.digest)

    assert digest_at(source_registry, unique) is None
    assert problems(source_registry, unique) == ["manifest v1: 404"]


def test_basic_auth(basic_registry: DockerRegistry, unique: str) -> None:
    image = push_image(basic_registry, unique)

    assert get(f"{basic_registry.url}/v2/", Authorization=basic(USER, "wrong")).status == 401
    assert skopeo_inspect(image.reference, f"{USER}:{basic_registry.password}") == image.digest


def test_tokens(token_registry: DockerRegistry, tokens: TokenServer, unique: str) -> None:
    image = push_image(token_registry, unique)

    assert skopeo_inspect(image.reference, f"{USER}:{token_registry.password}") == image.digest
    assert (tokens.requests[-1].user, tokens.requests[-1].granted) == (USER, (f"repository:{unique}:pull",))
    challenge = get(f"{token_registry.url}/v2/").headers["WWW-Authenticate"]
    assert challenge == f'Bearer realm="{tokens.url}/token",service="test-registry"'
    scope = f"?scope=repository:{unique}:pull"
    assert get(f"{tokens.url}/token{scope}", Authorization=basic(USER, "wrong")).status == 401
    nobody = get(f"{tokens.url}/token{scope}").json()["token"]
    assert get(f"{token_registry.url}/v2/{unique}/manifests/v1", Authorization=f"Bearer {nobody}").status == 401


@pytest.fixture
def image(source_registry: DockerRegistry, unique: str) -> MadeImage:
    return push_image(source_registry, unique, layers=[Layer(500_000)])


def blob(image: MadeImage) -> str:
    return f"/v2/{image.repository}/blobs/{image.layers[0].digest}"


def test_the_proxy_passes_on(image: MadeImage, faulty: MakeProxy) -> None:
    proxy = faulty(image.registry, delay=0.1)
    start = time.monotonic()

    assert digest_of(get(proxy.url + blob(image)).data) == image.layers[0].digest
    assert time.monotonic() - start >= 0.1
    (seen,) = proxy.requests
    assert (seen.line, seen.status, seen.received) == (f"GET {blob(image)}", 200, image.layers[0].size)
    assert skopeo_inspect(f"{proxy.host}/{image.repository}:v1") == image.digest


def test_uploads_through_the_proxy(source_registry: DockerRegistry, faulty: MakeProxy, unique: str) -> None:
    proxy = faulty(source_registry)
    near = DockerRegistry(proxy.host, source_registry.folder)

    image = push_image(near, unique)

    assert skopeo_inspect(f"{source_registry.host}/{unique}:v1") == image.digest
    assert [exchange.sent for exchange in proxy.matching("^PUT .*digest=")] == [
        item.size for item in image.blobs[1:]
    ] + [image.blobs[0].size]


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.TRUNCATE])
def test_bodies_that_end_early(image: MadeImage, faulty: MakeProxy, kind: Kind) -> None:
    proxy = faulty(image.registry, Fault(kind, at=100_000))

    answer = _http.request("GET", proxy.url + blob(image), preload_content=False)
    with pytest.raises(urllib3.exceptions.ProtocolError, match="reset" if kind is Kind.RESET else "IncompleteRead"):
        list(answer.stream(10_000))

    assert answer.headers["Content-Length"] == str(image.layers[0].size)
    assert proxy.requests[0].received == 100_000
    assert len(get(proxy.url + blob(image)).data) == image.layers[0].size, "only once"
    assert [exchange.fault for exchange in proxy.requests] == [kind, None]


@pytest.mark.parametrize("kind", [Kind.REFUSE, Kind.LOSE_ANSWER])
def test_no_answer_at_all(image: MadeImage, faulty: MakeProxy, kind: Kind) -> None:
    proxy = faulty(image.registry, Fault(kind))

    with pytest.raises(urllib3.exceptions.ProtocolError, match="reset"):
        get(proxy.url + blob(image))


def test_other_bytes_and_other_answers(image: MadeImage, faulty: MakeProxy) -> None:
    wrong = Fault(Kind.CORRUPT, at=300_000)
    busy = Fault(Kind.STATUS, status=429, headers={"Retry-After": "2"}, skip=1)
    proxy = faulty(image.registry, wrong, busy)

    corrupt, good, late, again = (get(proxy.url + blob(image)) for _ in range(4))

    assert len(corrupt.data) == len(good.data)
    assert [i for i in range(len(good.data)) if corrupt.data[i] != good.data[i]] == [300_000]
    assert (late.status, late.headers["Retry-After"]) == (429, "2")
    assert again.status == 200


def test_ranges_may_be_ignored(image: MadeImage, faulty: MakeProxy) -> None:
    proxy = faulty(image.registry, Fault(Kind.IGNORE_RANGE, skip=1))

    part, whole = (get(proxy.url + blob(image), Range="bytes=1000-") for _ in range(2))

    assert (part.status, len(part.data)) == (206, image.layers[0].size - 1000)
    assert (whole.status, len(whole.data)) == (200, image.layers[0].size)


def test_a_stall(image: MadeImage, faulty: MakeProxy) -> None:
    proxy = faulty(image.registry, Fault(Kind.STALL, at=10))

    with pytest.raises(urllib3.exceptions.TimeoutError):
        _http.request("GET", proxy.url + blob(image), timeout=0.2)


def test_blobs_from_elsewhere(basic_registry: DockerRegistry, faulty: MakeProxy, unique: str) -> None:
    image = push_image(basic_registry, unique)
    proxy = faulty(basic_registry, Fault(Kind.REDIRECT, times=None))
    known = basic_registry.headers(unique)

    there = _http.request("GET", proxy.url + blob(image), headers=known, redirect=False)
    found = get(there.headers["Location"])

    assert there.status == 307
    assert digest_of(found.data) == image.layers[0].digest
    assert get(there.headers["Location"], **known).status == 400
    assert ["Authorization" in exchange.headers for exchange in proxy.redirected] == [False, True]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault(Kind.RESET_UPLOAD, at=70_000), "reset"),
        (Fault(Kind.CORRUPT_UPLOAD, at=70_000), "DIGEST_INVALID"),
        (Fault(Kind.STATUS, status=500), "500"),
    ],
)
def test_uploads_that_fail(
    source_registry: DockerRegistry, faulty: MakeProxy, unique: str, fault: Fault, outcome: str
) -> None:
    fault.match = "PUT .*digest="
    proxy = faulty(source_registry, fault)
    content = b"x" * 500_000
    started = _http.request("POST", f"{proxy.url}/v2/{unique}/blobs/uploads/")
    url = f"{started.headers['Location']}&digest={digest_of(content)}"

    try:
        answer = _http.request("PUT", url, body=content)
        seen = f"{answer.status} {answer.data.decode()}"
    except urllib3.exceptions.ProtocolError as error:
        seen = str(error).lower()

    assert re.search(f"{outcome}|broken pipe" if outcome == "reset" else outcome, seen)
    assert get(f"{source_registry.url}/v2/{unique}/blobs/{digest_of(content)}").status == 404
