"""A copy over connections that fail in all the ways that networks have."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError
from refinerctl.transport import Login, TransportError
from tests.integration.registry.copying import QUICK, Copier
from tests.registries.docker_registry import DockerRegistry
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import Site
from tests.registries.images import Layer, MadeImage, push_image

SIZE = 3_000_000
FAULTS_OF_THE_SOURCE = {
    "reset": Fault(Kind.RESET, at=1_000_000),
    "truncated": Fault(Kind.TRUNCATE, at=2_000_000),
    "corrupted": Fault(Kind.CORRUPT, at=1_500_000),
    "the last byte corrupted": Fault(Kind.CORRUPT, at=SIZE),
    "stalled": Fault(Kind.STALL, at=500_000),
    "trickling": Fault(Kind.TRICKLE, at=500_000, seconds=0.05),
    "trickling manifest": Fault(Kind.TRICKLE, match="GET .*/manifests/", seconds=0.05),
    "429": Fault(Kind.STATUS, status=429, headers={"Retry-After": "1"}),
    "500": Fault(Kind.STATUS, status=500, times=3),
    "refused": Fault(Kind.REFUSE, times=2),
    "manifest 503": Fault(Kind.STATUS, match="GET .*/manifests/", status=503, times=2),
    "no answer": Fault(Kind.LOSE_ANSWER, match="GET .*/manifests/"),
}
FAULTS_OF_THE_TARGET = {
    "upload reset": Fault(Kind.RESET_UPLOAD, match="PUT .*/blobs/uploads/", at=1_000_000, times=2),
    "upload corrupted": Fault(Kind.CORRUPT_UPLOAD, match="PUT .*/blobs/uploads/", at=1_000_000),
    "upload 500": Fault(Kind.STATUS, match="PUT .*/blobs/uploads/", status=500, times=2),
    "no upload 429": Fault(Kind.STATUS, match="POST", status=429, headers={"Retry-After": "0"}, times=2),
    "answer lost": Fault(Kind.LOSE_ANSWER, match="PUT .*/blobs/uploads/"),
    "HEAD 502": Fault(Kind.STATUS, match="HEAD .*/blobs/", status=502, times=2),
    "tag lost": Fault(Kind.LOSE_ANSWER, match="PUT .*/manifests/v1"),
    "manifest 500": Fault(Kind.STATUS, match="PUT .*/manifests/", status=500, times=2),
}


@pytest.fixture(scope="module")
def image(source_registry: DockerRegistry) -> MadeImage:
    return push_image(source_registry, "faults", layers=[Layer(SIZE, seed=3), Layer(10_000, seed=4)])


@pytest.mark.parametrize("fault", FAULTS_OF_THE_SOURCE.values(), ids=FAULTS_OF_THE_SOURCE.keys())
def test_copy_survives_faults_of_the_source(site: Site, image: MadeImage, fault: Fault) -> None:
    layer = image.layers[0].digest
    at_a_blob = fault.match == Fault(fault.kind).match
    struck = replace(fault, seen=0, match=f"GET .*/blobs/{layer}" if at_a_blob else fault.match)
    source, copier = site.faulty(image.registry, struck), Copier()

    done = copier(f"{source.host}/faults:v1", site.there)

    assert source.struck()
    assert copier.told
    assert site.whole() == image.digest
    assert (done.blobs_copied, done.bytes_copied) == (3, sum(blob.size for blob in image.blobs))


@pytest.mark.parametrize("fault", FAULTS_OF_THE_TARGET.values(), ids=FAULTS_OF_THE_TARGET.keys())
def test_copy_survives_faults_of_the_target(site: Site, image: MadeImage, fault: Fault) -> None:
    target = site.faulty(site.target, replace(fault, seen=0))

    Copier()(image.reference, f"{target.host}/{site.repository}")

    assert target.struck()
    assert site.whole() == image.digest


def test_download_resumes_where_it_broke(site: Site, image: MadeImage) -> None:
    layer = image.layers[0]
    source = site.faulty(image.registry, Fault(Kind.RESET, match=f"GET .*{layer.digest}", at=1_000_000, times=2))
    target = site.faulty(site.target)

    Copier()(f"{source.host}/faults:v1", f"{target.host}/{site.repository}")

    asked = [exchange.headers.get("Range", "") for exchange in source.matching(f"GET .*{layer.digest}")]
    starts = [int(re.findall(r"\d+", value)[0]) if value else 0 for value in asked]
    assert len(starts) == 3
    assert starts[0] == 0 < starts[1] <= 1_000_000 < starts[2] <= 2_000_000
    assert len(target.matching("PUT .*/blobs/uploads/")) == 3  # the layer's upload was not started again


def test_server_without_ranges_sends_the_blob_again(site: Site, image: MadeImage) -> None:
    layer = image.layers[0]
    source = site.faulty(
        image.registry,
        Fault(Kind.RESET, match=f"GET .*{layer.digest}", at=1_000_000),
        Fault(Kind.IGNORE_RANGE, match=f"GET .*{layer.digest}", times=None),
    )

    Copier()(f"{source.host}/faults:v1", site.there)

    assert [exchange.status for exchange in source.matching(f"GET .*{layer.digest}")] == [200, 200]
    assert site.whole() == image.digest


def test_redirect_target_gets_no_authorization(site: Site, basic_registry: DockerRegistry) -> None:
    image = push_image(basic_registry, site.repository, layers=[Layer(SIZE, seed=3)])
    source = site.faulty(
        basic_registry,
        Fault(Kind.REDIRECT, times=None),
        Fault(Kind.RESET, match="ELSEWHERE .*", at=100_000),
    )
    copier = Copier()
    copier.logins[source.host] = Login(basic_registry.user or "", basic_registry.password or "")

    copier(f"{source.host}/{site.repository}:v1", site.there)

    assert site.whole() == image.digest
    assert len(source.redirected) >= 3
    assert all("Authorization" not in exchange.headers for exchange in source.redirected)
    assert not any("X-Amz-Signature" in line for line in copier.told)


def test_permanent_corruption_names_the_blob(site: Site, image: MadeImage) -> None:
    layer = image.layers[0].digest
    source = site.faulty(image.registry, Fault(Kind.CORRUPT, match=f"GET .*{layer}", at=1_500_000, times=None))
    target = site.faulty(site.target)

    with pytest.raises(TransportError, match=f"{layer} of .* is corrupted"):
        Copier()(f"{source.host}/faults:v1", f"{target.host}/{site.repository}")

    assert site.digest() is None
    assert len(source.matching(f"GET .*{layer}")) == 4
    # The registry never got the end of a wrong body.
    assert all(exchange.status != 201 for exchange in target.matching(f"PUT .*digest={layer.replace(':', '%3A')}"))


def test_attempts_are_limited(site: Site, image: MadeImage) -> None:
    source = site.faulty(image.registry, Fault(Kind.STATUS, match="manifests", status=503, times=None))
    copier = Copier()

    with pytest.raises(TransportError, match="returned 503"):
        copier(f"{source.host}/faults:v1", site.there)

    assert len(source.requests) == 4
    assert len(copier.told) == 3
    assert "attempt 2 of 4" in copier.told[0]


def test_permanent_error_is_not_retried(site: Site, image: MadeImage) -> None:
    refusal = b'{"errors": [{"code": "SIZE_INVALID", "message": "too large for us"}]}'
    target = site.faulty(site.target, Fault(Kind.STATUS, match="^POST", status=413, body=refusal, times=None))
    copier = Copier()

    with pytest.raises(RefinerctlError, match="413 SIZE_INVALID: too large for us"):
        copier(image.reference, f"{target.host}/{site.repository}")

    assert copier.told == []


def test_retry_after_is_obeyed_up_to_a_limit(site: Site, image: MadeImage) -> None:
    source = site.faulty(
        image.registry,
        Fault(Kind.STATUS, match="manifests", status=429, headers={"Retry-After": "1"}),
        Fault(Kind.STATUS, match="manifests", status=429, headers={"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}),
    )
    began = time.monotonic()

    Copier()(f"{source.host}/faults:v1", site.there)

    assert 2.2 <= time.monotonic() - began < 20  # 1 s, and 1.2 s instead of decades


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.STALL, match="GET .*/manifests/", times=None),
        Fault(Kind.STALL, at=1000, times=None),
        Fault(Kind.TRICKLE, at=1000, seconds=0.05, times=None),
        Fault(Kind.STATUS, match="manifests", status=429, headers={"Retry-After": "1"}, times=None),
    ],
    ids=["silent", "silent in a blob", "trickling", "429"],
)
def test_server_that_is_waited_for_in_vain_is_given_up(site: Site, image: MadeImage, fault: Fault) -> None:
    """However many attempts are left."""
    source = site.faulty(image.registry, fault)
    copier = Copier(limits=replace(QUICK, attempts=50, give_up_s=1.3))
    began = time.monotonic()

    with pytest.raises(TransportError, match=r"timed out waiting|sends too slowly: .* bytes/s|asks to wait 1 s"):
        copier(f"{source.host}/faults:v1", site.there)

    assert 1 < time.monotonic() - began < 20
    assert site.digest() is None


def test_silent_server_is_named_while_it_is_waited_for(site: Site, image: MadeImage) -> None:
    source = site.faulty(image.registry, Fault(Kind.STALL, match="GET .*/manifests/", seconds=0.8))
    copier = Copier(limits=replace(QUICK, read_timeout_s=5), tell_after_s=0.2)

    copier(f"{source.host}/faults:v1", site.there)

    assert copier.told[0] == f"waiting for {source.host} (0 s)"
    assert not any(site.target.host in line for line in copier.told)


def test_only_the_source_is_named_while_the_target_waits_for_it(site: Site, image: MadeImage) -> None:
    source = site.faulty(image.registry, Fault(Kind.STALL, match=f"GET .*{image.layers[0].digest}", at=9, seconds=3))
    copier = Copier(limits=replace(QUICK, read_timeout_s=5), tell_after_s=1.2)

    copier(f"{source.host}/faults:v1", site.there)

    assert {line.split(" (")[0] for line in copier.told} == {f"waiting for {source.host}"}


def test_failed_blob_cancels_the_others(site: Site) -> None:
    image = site.push(layers=[Layer(100_000, seed=seed) for seed in range(20)])
    refused = Fault(Kind.STATUS, match=r"^PUT .*/blobs/uploads/", status=403)
    stalled = Fault(Kind.STALL, at=1000, times=None, skip=6)
    source, target = site.faulty(site.source, stalled), site.faulty(site.target, refused)
    began = time.monotonic()

    with pytest.raises(RefinerctlError, match="push"):
        Copier(limits=replace(QUICK, read_timeout_s=60))(
            f"{source.host}/{site.repository}:v1", f"{target.host}/{site.repository}"
        )

    assert time.monotonic() - began < 30  # nobody waited for the stalled blobs
    assert site.digest() is None
    assert image.digest


class Parts(Progress):
    """Remembers how much of each blob was copied, and of how much."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[int, int]] = {}

    def part(self, name: str, done: int, size: int) -> None:
        self.seen[name] = (done, size)


def test_progress_counts_each_blob_once(site: Site, image: MadeImage) -> None:
    source = site.faulty(image.registry, Fault(Kind.CORRUPT, match=f"GET .*{image.layers[0].digest}", at=1_500_000))
    parts = Parts()

    Copier(progress=parts)(f"{source.host}/faults:v1", site.there)

    assert parts.seen == {blob.digest: (blob.size, blob.size) for blob in image.blobs}
