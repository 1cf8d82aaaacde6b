"""Answers of a Docker engine that a real one does not give on demand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from refinerctl.console import Progress
from refinerctl.docker_engine import DockerEngine
from refinerctl.errors import AccessDeniedError, RefinerctlError, RefusedError
from refinerctl.images import ImageReference, Platform, RunsOn
from refinerctl.registry.client import Registry
from refinerctl.registry.copies import CopyRequest
from refinerctl.registry.docker_copies import DockerCopies

ONE, TWO = f"sha256:{1:064x}", f"sha256:{2:064x}"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SOURCE, TARGET = "source.example/image", "target.example/image"
REQUEST = CopyRequest(
    "image",
    ImageReference.parse(f"{SOURCE}:v1"),
    ImageReference.parse(f"{TARGET}:v1"),
    Platform("linux", "amd64"),
    RunsOn.LAMBDA,
)


@dataclass
class FakeEngine:
    """A Docker engine with the SDK's low-level calls; `pushed` are the events of a push. `client().api` is itself."""

    registries: dict[str, tuple[str, str]] = field(default_factory=lambda: {f"{SOURCE}:v1": (ONE, MANIFEST)})
    size: int = 1000
    pushed: list[dict[str, Any]] = field(default_factory=lambda: [{"aux": {"Tag": "v1", "Digest": TWO}}])
    arrives_as: tuple[str, str] = (TWO, MANIFEST)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def api(self) -> FakeEngine:
        return self

    def client(self) -> FakeEngine:
        return self

    def inspect_distribution(self, reference: str, auth_config: dict[str, str]) -> dict[str, Any]:
        from docker.errors import NotFound

        if reference not in self.registries:
            raise NotFound("manifest unknown")
        digest, media_type = self.registries[reference]
        return {"Descriptor": {"digest": digest, "mediaType": media_type}, "Platforms": None}

    def pull(self, name: str, **given: Any) -> Iterator[dict[str, Any]]:
        self.tags[f"{name}@{given['tag']}"] = "id"
        return iter([{"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}}])

    def inspect_image(self, reference: str) -> dict[str, Any]:
        from docker.errors import ImageNotFound

        if reference not in self.tags:
            raise ImageNotFound(reference)
        return {"Id": self.tags[reference], "Os": "linux", "Architecture": "amd64", "Size": self.size}

    def tag(self, image: str, name: str, tag: str) -> None:
        self.tags[f"{name}:{tag}"] = image

    def remove_image(self, reference: str, noprune: bool) -> None:
        del self.tags[reference]

    def push(self, name: str, **given: Any) -> Iterator[dict[str, Any]]:
        self.registries[f"{name}:{given['tag']}"] = self.arrives_as
        return iter(self.pushed)


def copy(engine: FakeEngine, request: CopyRequest = REQUEST) -> tuple[str, ...]:
    """If only the engine reaches the registries."""

    def no_way(host: str) -> Registry:
        raise RefinerctlError(f"no way to {host}")

    copies = DockerCopies(cast("DockerEngine", engine), lambda _: None, no_way)
    return copies.copy(copies.check(request), Progress()).notes


def test_changed_digest_is_noted() -> None:
    engine = FakeEngine()

    assert f"{ONE} became {TWO}" in copy(engine)[-1]
    assert list(engine.tags) == [f"{SOURCE}@{ONE}"], "the engine keeps no tag of the target"


def test_image_that_is_too_large_for_lambda_is_refused() -> None:
    engine = FakeEngine(size=11 * 1024**3)

    with pytest.raises(RefusedError, match=r"11\.8 GB uncompressed; Lambda takes 10\.7"):
        copy(engine)

    assert f"{TARGET}:v1" not in engine.registries
    assert copy(engine, replace(REQUEST, runs_on=RunsOn.ECS))


def test_other_digest_after_the_push_is_an_error() -> None:
    with pytest.raises(RefinerctlError, match=f"reads back as {ONE}, not as {TWO}"):
        copy(FakeEngine(arrives_as=(ONE, MANIFEST)))


def test_push_of_an_index_is_an_error() -> None:
    index = "application/vnd.oci.image.index.v1+json"

    with pytest.raises(RefinerctlError, match="as an index"):
        copy(FakeEngine(arrives_as=(TWO, index)))


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"status": "Pushed", "id": "a"}, "it ended without a digest"),
        ({"errorDetail": {"message": "disk full"}}, "disk full"),
        ({"error": 'Put "https://s3.example/x?X-Amz-Signature=secret": EOF'}, r'Put "https://s3\.example/x\?…": EOF'),
    ],
)
def test_error_in_the_stream_is_an_error(event: dict[str, Any], said: str) -> None:
    engine = FakeEngine(pushed=[event])

    with pytest.raises(RefinerctlError, match=f"pushing {TARGET}:v1 through the Docker engine failed: {said}"):
        copy(engine)

    assert f"{TARGET}:v1" not in engine.tags


def test_denied_push() -> None:
    with pytest.raises(AccessDeniedError, match=r"does not let anonymous users pull and push image"):
        copy(FakeEngine(pushed=[{"error": "denied: requested access to the resource is denied"}]))
