"""Images of all kinds from one real registry to another, read back by skopeo."""

from __future__ import annotations

import json

import pytest

from refinerctl.console import Progress
from refinerctl.errors import NotFoundError, RefusedError
from refinerctl.images import OCI_INDEX, Platform
from tests.integration.registry.copying import Copier
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import Site
from tests.registries.images import Layer, delete_manifest, problems, push_image, push_index, push_manifest, whole


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_copy_preserves_bytes(site: Site, kind: str) -> None:
    image = site.push(kind=kind, layers=[Layer(3_000_000, seed=1), Layer(10, "plain")])

    done = Copier()(image.reference, site.there)

    assert site.whole() == image.digest == done.source_digest == done.target_digest
    assert (done.status, done.platform) == ("copied", "linux/amd64")
    assert (done.blobs_copied, done.blobs_mounted, done.blobs_skipped) == (3, 0, 0)
    assert done.bytes_copied == sum(blob.size for blob in image.blobs)


def test_second_copy_takes_two_requests_and_writes_nothing(site: Site) -> None:
    image = site.push()
    Copier()(image.reference, site.there)
    source, target = site.faulty(site.source), site.faulty(site.target)

    done = Copier()(f"{source.host}/{site.repository}:v1", f"{target.host}/{site.repository}")

    assert (done.status, done.bytes_copied) == ("up-to-date", 0)
    assert len(source.requests) + len(target.requests) == 2
    assert target.matching("^(POST|PUT|PATCH)") == []


def test_copy_of_index_takes_one_platform(site: Site) -> None:
    index = push_index(site.source, site.repository)

    done = Copier()(index.reference, site.there, platform=Platform("linux", "arm64"), runs_on=None)

    assert site.whole() == index.children[1].digest == done.target_digest
    assert done.platform == "linux/arm64"
    assert done.blobs_copied == 3  # the other platform and the attestations stay behind
    assert "linux/amd64" in done.notes[0]
    again = Copier()(index.reference, site.there, platform=Platform("linux", "arm64"))
    assert again.status == "up-to-date"


@pytest.mark.parametrize(
    ("layer", "architecture", "reason"),
    [
        (Layer(packed="zstd"), "amd64", "tar.zstd"),
        (Layer(packed="foreign"), "amd64", "foreign"),
        (Layer(), "arm64", "built for linux/arm64, not for linux/amd64"),
    ],
)
def test_gate_refuses_before_a_byte_is_copied(site: Site, layer: Layer, architecture: str, reason: str) -> None:
    image = site.push(layers=[layer, Layer(seed=9)], architecture=architecture)
    target = site.faulty(site.target)

    with pytest.raises(RefusedError, match=reason):
        Copier()(image.reference, f"{target.host}/{site.repository}")
    assert target.matching("^(POST|PUT|PATCH)") == []

    done = Copier()(image.reference, f"{target.host}/{site.repository}", runs_on=None)
    assert site.whole() == image.digest == done.target_digest


def test_tag_pushed_by_another_process_is_not_overwritten(site: Site) -> None:
    """An immutable tag refuses the push: who was quicker decides what that means."""
    wanted = site.push(layers=[Layer(seed=7)])
    refusal = b'{"errors": [{"code": "TAG_INVALID", "message": "the tag is immutable"}]}'
    target = site.faulty(site.target, Fault(Kind.STATUS, match="^PUT .*/manifests/v1$", status=400, body=refusal))
    other = push_image(site.target, site.repository, layers=[Layer(seed=8)])
    target.faults.append(Fault(Kind.STATUS, match="^GET .*/manifests/v1$", status=404, times=2))

    with pytest.raises(RefusedError) as refused:
        Copier()(wanted.reference, f"{target.host}/{site.repository}")

    assert other.digest in refused.value.message
    assert site.digest() == other.digest


def test_tag_pushed_during_the_copy_is_not_overwritten(site: Site) -> None:
    wanted = site.push(layers=[Layer(seed=7)])

    class Rival(Progress):
        def part(self, name: str, done: int, size: int) -> None:
            push_image(site.target, site.repository, layers=[Layer(seed=8)])

    with pytest.raises(RefusedError, match="already has another image"):
        Copier(progress=Rival())(wanted.reference, site.there)

    assert site.digest() == push_image(site.target, f"{site.repository}/same", layers=[Layer(seed=8)]).digest


def test_index_in_an_index_is_refused(site: Site) -> None:
    inner = push_index(site.source, site.repository, "inner")
    platform = {"os": "linux", "architecture": "amd64"}
    entry = {"mediaType": OCI_INDEX, "digest": inner.digest, "size": len(inner.raw), "platform": platform}
    outer = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    push_manifest(site.source, site.repository, "outer", outer, OCI_INDEX)

    with pytest.raises(RefusedError, match="has an index for linux/amd64"):
        Copier()(f"{site.source.host}/{site.repository}:outer", site.there, runs_on=None)


def test_image_without_the_tag_gets_the_tag(site: Site) -> None:
    image = site.push()
    push_image(site.target, site.repository, "")
    target = site.faulty(site.target)

    done = Copier()(image.reference, f"{target.host}/{site.repository}")

    assert (done.status, done.blobs_copied, done.blobs_skipped) == ("copied", 0, 3)
    assert [exchange.path for exchange in target.matching("^PUT")] == [f"/v2/{site.repository}/manifests/v1"]
    assert site.digest() == image.digest


def test_blobs_are_mounted_within_one_registry(site: Site) -> None:
    image = push_image(site.source, f"{site.repository}/from", layers=[Layer(100_000, seed=1), Layer(seed=2)])

    done = Copier()(image.reference, f"{site.source.host}/{site.repository}/to")

    assert (done.blobs_mounted, done.blobs_copied, done.bytes_copied) == (3, 0, 0)
    assert whole(site.source, f"{site.repository}/to") == image.digest


def test_unknown_tag_lists_the_newest_tags(site: Site) -> None:
    for tag in ("v1.2.0", "v1.10.0", "latest"):
        image = site.push(tag)

    with pytest.raises(NotFoundError, match="v9") as unknown:
        Copier()(f"{image.name}:v9", site.there)
    assert unknown.value.hint == "Newest tags: v1.10.0, v1.2.0, latest."

    with pytest.raises(NotFoundError, match="does not exist"):
        Copier()(f"{image.name}/other:v9", site.there)


def test_unknown_tag_without_permission_to_list_tags(site: Site) -> None:
    site.push()
    source = site.faulty(site.source, Fault(Kind.STATUS, match="/tags/list", status=403))

    with pytest.raises(NotFoundError, match=f"{source.host}/{site.repository}:v9 does not exist"):
        Copier()(f"{source.host}/{site.repository}:v9", site.there)


def test_source_by_digest(site: Site) -> None:
    first = site.push(layers=[Layer(seed=1)])
    site.push(layers=[Layer(seed=2)])  # the tag has moved on

    Copier()(f"{first.name}:v1@{first.digest}", f"{site.target.host}/{site.repository}:v1")

    assert site.digest() == first.digest


def test_blobs_left_by_a_killed_run_are_used(site: Site) -> None:
    """What a killed run leaves: blobs without a manifest."""
    image = site.push()
    push_image(site.target, site.repository)
    delete_manifest(site.target, site.repository, image.digest)

    done = Copier()(image.reference, site.there)

    assert (done.blobs_copied, done.blobs_skipped) == (0, 3)
    assert problems(site.target, site.repository) == []


def test_registry_that_refuses_a_body_in_the_last_put_gets_patch(site: Site) -> None:
    image = site.push()
    # One blob after the other: the first teaches what the others need not try.
    only_patch = Fault(Kind.STATUS, match=r"^PUT .*/blobs/uploads/", status=405, times=1)
    target = site.faulty(site.target, only_patch)

    Copier()(image.reference, f"{target.host}/{site.repository}")

    assert site.whole() == image.digest
    assert target.matching("^PATCH")


def test_corrupted_manifest_is_read_again(site: Site) -> None:
    image = site.push()
    source = site.faulty(site.source, Fault(Kind.CORRUPT, match="^GET .*/manifests/v1", at=40))
    copier = Copier()

    copier(f"{source.host}/{site.repository}:v1", site.there)

    assert site.whole() == image.digest
    assert "does not match its digest" in copier.told[0]
