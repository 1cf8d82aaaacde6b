"""Images of all kinds from one real registry to another, read back by skopeo."""

from __future__ import annotations

import json

import pytest

from refinerctl.console import Progress
from refinerctl.errors import NotFoundError, RefusedError
from refinerctl.images import OCI_INDEX, Platform, RunsOn
from tests.integration.registry.copying import Copier, whole
from tests.registries.docker_registry import DockerRegistry
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import MakeProxy
from tests.registries.images import Layer, delete_manifest, digest_at, problems, push_image, push_index, push_manifest


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_copy_preserves_bytes(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str, kind: str
) -> None:
    image = push_image(source_registry, unique, kind=kind, layers=[Layer(3_000_000, seed=1), Layer(10, "plain")])

    done = Copier()(image.reference, f"{target_registry.host}/{unique}")

    assert whole(target_registry, unique) == image.digest == done.source_digest == done.target_digest
    assert (done.status, done.platform) == ("copied", "linux/amd64")
    assert (done.blobs_copied, done.blobs_mounted, done.blobs_skipped) == (3, 0, 0)
    assert done.bytes_copied == sum(blob.size for blob in image.blobs)


def test_second_copy_takes_two_requests_and_writes_nothing(
    source_registry: DockerRegistry, target_registry: DockerRegistry, faulty: MakeProxy, unique: str
) -> None:
    image = push_image(source_registry, unique)
    Copier()(image.reference, f"{target_registry.host}/{unique}")
    source, target = faulty(source_registry), faulty(target_registry)

    done = Copier()(f"{source.host}/{unique}:v1", f"{target.host}/{unique}")

    assert (done.status, done.bytes_copied) == ("up-to-date", 0)
    assert len(source.requests) + len(target.requests) == 2
    assert target.matching("^(POST|PUT|PATCH)") == []


def test_copy_of_index_takes_one_platform(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    index = push_index(source_registry, unique)
    arm = next(child for child in index.children if child.platform == "linux/arm64")

    done = Copier()(
        index.reference, f"{target_registry.host}/{unique}", platform=Platform("linux", "arm64"), runs_on=None
    )

    assert whole(target_registry, unique) == arm.digest == done.target_digest
    assert done.platform == "linux/arm64"
    assert done.blobs_copied == 3  # the other platform and the attestations stay behind
    assert "linux/amd64" in done.notes[0]
    again = Copier()(index.reference, f"{target_registry.host}/{unique}", platform=Platform("linux", "arm64"))
    assert again.status == "up-to-date"


def test_missing_platform_is_refused(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    index = push_index(source_registry, unique)

    with pytest.raises(RefusedError, match="linux/riscv64") as refused:
        Copier()(index.reference, f"{target_registry.host}/{unique}", platform=Platform("linux", "riscv64"))

    assert refused.value.hint == "Its platforms: linux/amd64, linux/arm64."


@pytest.mark.parametrize(
    ("layer", "architecture", "reason"),
    [
        (Layer(packed="zstd"), "amd64", "tar.zstd"),
        (Layer(packed="foreign"), "amd64", "foreign"),
        (Layer(), "arm64", "built for linux/arm64, not for linux/amd64"),
    ],
)
def test_gate_refuses_before_a_byte_is_copied(
    source_registry: DockerRegistry,
    target_registry: DockerRegistry,
    faulty: MakeProxy,
    unique: str,
    layer: Layer,
    architecture: str,
    reason: str,
) -> None:
    image = push_image(source_registry, unique, layers=[layer, Layer(seed=9)], architecture=architecture)
    target = faulty(target_registry)

    with pytest.raises(RefusedError, match=reason):
        Copier()(image.reference, f"{target.host}/{unique}")
    assert target.matching("^(POST|PUT|PATCH)") == []

    done = Copier()(image.reference, f"{target.host}/{unique}", runs_on=None)
    assert whole(target_registry, unique) == image.digest == done.target_digest


def test_gate_for_ecs_accepts_zstd(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    image = push_image(source_registry, unique, layers=[Layer(400_000, "zstd")])

    Copier()(image.reference, f"{target_registry.host}/{unique}", runs_on=RunsOn.ECS)

    assert whole(target_registry, unique) == image.digest


def test_tag_of_another_image_is_refused(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    wanted = push_image(source_registry, unique, layers=[Layer(seed=7)])
    there = push_image(target_registry, unique, layers=[Layer(seed=8)])

    with pytest.raises(RefusedError) as refused:
        Copier()(wanted.reference, there.reference)

    assert wanted.digest in refused.value.message
    assert there.digest in refused.value.message
    assert digest_at(target_registry, unique) == there.digest


def test_tag_pushed_by_another_process_is_not_overwritten(
    source_registry: DockerRegistry, target_registry: DockerRegistry, faulty: MakeProxy, unique: str
) -> None:
    """An immutable tag refuses the push: who was quicker decides what that means."""
    wanted = push_image(source_registry, unique, layers=[Layer(seed=7)])
    refusal = b'{"errors": [{"code": "TAG_INVALID", "message": "the tag is immutable"}]}'
    target = faulty(target_registry, Fault(Kind.STATUS, match="^PUT .*/manifests/v1$", status=400, body=refusal))
    other = push_image(target_registry, unique, layers=[Layer(seed=8)])
    target.faults.append(Fault(Kind.STATUS, match="^GET .*/manifests/v1$", status=404))
    target.faults.append(Fault(Kind.STATUS, match="^HEAD .*/manifests/v1$", status=404))

    with pytest.raises(RefusedError) as refused:
        Copier()(wanted.reference, f"{target.host}/{unique}")

    assert other.digest in refused.value.message
    assert digest_at(target_registry, unique) == other.digest


def test_tag_pushed_during_the_copy_is_not_overwritten(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    wanted = push_image(source_registry, unique, layers=[Layer(seed=7)])

    class Rival(Progress):
        def part(self, name: str, done: int, size: int) -> None:
            push_image(target_registry, unique, layers=[Layer(seed=8)])

    with pytest.raises(RefusedError, match="already has another image"):
        Copier(progress=Rival())(wanted.reference, f"{target_registry.host}/{unique}")

    assert (
        digest_at(target_registry, unique)
        == push_image(target_registry, f"{unique}/same", layers=[Layer(seed=8)]).digest
    )


def test_index_in_an_index_is_refused(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    inner = push_index(source_registry, unique, "inner")
    platform = {"os": "linux", "architecture": "amd64"}
    entry = {"mediaType": OCI_INDEX, "digest": inner.digest, "size": len(inner.raw), "platform": platform}
    outer = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    push_manifest(source_registry, unique, "outer", outer, OCI_INDEX)

    with pytest.raises(RefusedError, match="has an index for linux/amd64"):
        Copier()(f"{source_registry.host}/{unique}:outer", f"{target_registry.host}/{unique}", runs_on=None)


def test_image_without_the_tag_gets_the_tag(
    source_registry: DockerRegistry, target_registry: DockerRegistry, faulty: MakeProxy, unique: str
) -> None:
    image = push_image(source_registry, unique)
    push_image(target_registry, unique, "")
    target = faulty(target_registry)

    done = Copier()(image.reference, f"{target.host}/{unique}")

    assert (done.status, done.blobs_copied, done.blobs_skipped) == ("copied", 0, 3)
    assert [exchange.path for exchange in target.matching("^PUT")] == [f"/v2/{unique}/manifests/v1"]
    assert digest_at(target_registry, unique) == image.digest


def test_shared_layers_are_copied_once(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    base = Layer(50_000, seed=5)
    first = push_image(source_registry, unique, "v1", layers=[base, Layer(seed=1)])
    second = push_image(source_registry, unique, "v2", layers=[base, Layer(seed=2)])
    copier = Copier()

    copier(first.reference, f"{target_registry.host}/{unique}")
    done = copier(second.reference, f"{target_registry.host}/{unique}:v2")

    assert (done.blobs_copied, done.blobs_skipped) == (2, 1)
    assert whole(target_registry, unique, "v2") == second.digest


def test_blobs_are_mounted_within_one_registry(source_registry: DockerRegistry, unique: str) -> None:
    image = push_image(source_registry, f"{unique}/from", layers=[Layer(100_000, seed=1), Layer(seed=2)])

    done = Copier()(image.reference, f"{source_registry.host}/{unique}/to")

    assert (done.blobs_mounted, done.blobs_copied, done.bytes_copied) == (3, 0, 0)
    assert whole(source_registry, f"{unique}/to") == image.digest


def test_unknown_tag_lists_the_newest_tags(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    for tag in ("v1.2.0", "v1.10.0", "latest"):
        image = push_image(source_registry, unique, tag)

    with pytest.raises(NotFoundError, match="v9") as unknown:
        Copier()(f"{image.name}:v9", f"{target_registry.host}/{unique}")
    assert unknown.value.hint == "Newest tags: v1.10.0, v1.2.0, latest."

    with pytest.raises(NotFoundError, match="does not exist"):
        Copier()(f"{image.name}/other:v9", f"{target_registry.host}/{unique}")


def test_unknown_tag_without_permission_to_list_tags(
    source_registry: DockerRegistry, target_registry: DockerRegistry, faulty: MakeProxy, unique: str
) -> None:
    push_image(source_registry, unique)
    source = faulty(source_registry, Fault(Kind.STATUS, match="/tags/list", status=403))

    with pytest.raises(NotFoundError, match=f"{source.host}/{unique}:v9 does not exist"):
        Copier()(f"{source.host}/{unique}:v9", f"{target_registry.host}/{unique}")


def test_missing_ecr_repository_is_an_error_unless_it_may_be_created(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    image, target = push_image(source_registry, unique), f"{target_registry.host}/{unique}"
    created: list[tuple[str, str]] = []

    with pytest.raises(NotFoundError, match="does not exist") as missing:
        Copier()(image.reference, target, in_ecr=True)
    assert "refinerctl deploy --stack registry" in (missing.value.hint or "")

    copier = Copier(create_repository=lambda host, name: created.append((host, name)))
    copier(image.reference, target, in_ecr=True)
    assert created == [(target_registry.host, unique)]
    assert whole(target_registry, unique) == image.digest


def test_source_by_digest(source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str) -> None:
    first = push_image(source_registry, unique, layers=[Layer(seed=1)])
    push_image(source_registry, unique, layers=[Layer(seed=2)])  # the tag has moved on

    Copier()(f"{first.name}:v1@{first.digest}", f"{target_registry.host}/{unique}:v1")

    assert digest_at(target_registry, unique) == first.digest


def test_blobs_left_by_a_killed_run_are_used(
    source_registry: DockerRegistry, target_registry: DockerRegistry, unique: str
) -> None:
    """What a killed run leaves: blobs without a manifest."""
    image = push_image(source_registry, unique)
    push_image(target_registry, unique)
    delete_manifest(target_registry, unique, image.digest)

    done = Copier()(image.reference, f"{target_registry.host}/{unique}")

    assert (done.blobs_copied, done.blobs_skipped) == (0, 3)
    assert problems(target_registry, unique) == []


def test_registry_that_refuses_a_body_in_the_last_put_gets_patch(
    source_registry: DockerRegistry, target_registry: DockerRegistry, faulty: MakeProxy, unique: str
) -> None:
    image = push_image(source_registry, unique)
    # One blob after the other: the first teaches what the others need not try.
    only_patch = Fault(Kind.STATUS, match=r"^PUT .*/blobs/uploads/", status=405, times=1)
    target = faulty(target_registry, only_patch)

    Copier()(image.reference, f"{target.host}/{unique}")

    assert whole(target_registry, unique) == image.digest
    assert target.matching("^PATCH")


def test_corrupted_manifest_is_read_again(
    source_registry: DockerRegistry, target_registry: DockerRegistry, faulty: MakeProxy, unique: str
) -> None:
    image = push_image(source_registry, unique)
    source = faulty(source_registry, Fault(Kind.CORRUPT, match="^GET .*/manifests/v1", at=40))
    copier = Copier()

    copier(f"{source.host}/{unique}:v1", f"{target_registry.host}/{unique}")

    assert whole(target_registry, unique) == image.digest
    assert "does not match its digest" in copier.told[0]
