"""Which image a stage gets, by digest, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from refinerctl.app import AppContext
from refinerctl.config import GlobalFlags
from refinerctl.errors import NotFoundError, RefusedError, UsageError
from refinerctl.images import OCI_INDEX, OCI_MANIFEST, ImageReference, Platform
from refinerctl.registry.manifests import Descriptor, Manifest, digest_of
from refinerctl.registry.registries import Registries
from refinerctl.releases.pins import Pins, pin_images
from refinerctl.stacks.base import StageImage

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
AMD64 = Platform("linux", "amd64")


@dataclass
class Store:
    """ECR in memory: manifests by repository and by tag or digest."""

    manifests: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def push(
        self,
        repository: str,
        tag: str,
        architecture: str = "amd64",
        layer: str = LAYER,
        number: int = 0,
        base: str | None = None,
    ) -> str:
        labels = {"org.opencontainers.image.base.name": base} if base else {}
        about = {"os": "linux", "architecture": architecture, "number": number, "config": {"Labels": labels}}
        config = json.dumps(about).encode()
        descriptor = Descriptor(CONFIG, digest_of(config), len(config))
        raw = f"{tag} {architecture} {layer} {number}".encode()
        layers = (Descriptor(layer, digest_of(b"layer"), 5),)
        manifest = Manifest(OCI_MANIFEST, digest_of(raw), raw, config=descriptor, layers=layers)
        self.blobs[descriptor.digest] = config
        self.manifests[repository, tag] = self.manifests[repository, manifest.digest] = manifest
        return manifest.digest

    def find(self, reference: ImageReference) -> Manifest | None:
        return self.manifests.get((reference.repository, reference.digest or reference.tag or ""))

    def blob(self, reference: ImageReference, descriptor: Descriptor) -> bytes:
        if descriptor.digest not in self.blobs:
            raise NotFoundError("no blob")
        return self.blobs[descriptor.digest]

    def tags(self, reference: ImageReference) -> list[str]:
        return [tag for name, tag in self.manifests if name == reference.repository and ":" not in tag]


@pytest.fixture
def store() -> Store:
    return Store()


def wanted(uri: str = "repo", name: str = "In", platform: Platform = AMD64) -> list[StageImage]:
    return [StageImage(name, ImageReference.parse(uri), platform)]


def pin(wanted: Sequence[StageImage], store: Store, tag: str | None = None, **more: Any) -> Pins:
    return pin_images(wanted, cast("Registries", store), tag, **more)


# Of images repo:v1, repo:v2 and other:v1: what the values name, what is asked for, what is pinned, and a note.
IMAGES = [("repo", "v1"), ("repo", "v2"), ("other", "v1")]
R1, R2, O1 = "repo@<repo:v1>", "repo@<repo:v2>", "other@<other:v1>"
KEPT = {"kept": {"In": R1}}
ROLLBACK = {**KEPT, "by_record": True}
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com/repo"
CHOICES: list[tuple[str, str | None, dict[str, Any], str | None, str]] = [
    ("repo", "v2", {"default_tag": "v1", **KEPT}, R2, ""),
    ("repo", None, {"default_tag": "v2"}, R2, ""),
    ("repo:v1", None, {"default_tag": "v2"}, R1, ""),
    (f"repo:v9@{R1[5:]}", None, {"default_tag": "v2", "kept": {"In": R2}}, R1, ""),
    ("repo", None, {"default_tag": "v2", **KEPT}, R1, ""),
    ("repo:v2", None, KEPT, R1, "keeps its current digest; --tag resolves repo:v2 again"),
    ("repo", None, {"default_tag": "v2", "kept": {"Other": R1}}, R2, ""),
    ("other", None, {"default_tag": "v1", **KEPT}, O1, ""),
    (ECR, "v1", {}, f"{ECR}@{R1[5:]}", ""),
    ("ghcr.io/repo:v1", None, {"default_tag": "v2"}, None, "ghcr.io/repo:v1 is not in ECR, and is not pinned"),
    ("repo", None, ROLLBACK, R1, ""),
    ("repo:v2", None, ROLLBACK, R1, ""),
    ("other", None, ROLLBACK, R1, ""),
    (R2, None, ROLLBACK, R1, "the environment's values name another digest, which the next deployment uses again"),
]


@pytest.mark.parametrize(("uri", "tag", "more", "pinned", "note"), CHOICES)
def test_image_is_chosen(
    store: Store, uri: str, tag: str | None, more: dict[str, Any], pinned: str | None, note: str
) -> None:
    """What is asked for, then the values' digest, the current release's digest, the values' tag, the default tag."""
    digests = {f"<{repository}:{tag}>": store.push(repository, tag) for repository, tag in IMAGES}

    def real(value: Any) -> Any:
        for name, digest in digests.items() if isinstance(value, str) else ():
            value = value.replace(name, digest)
        return {key: real(item) for key, item in value.items()} if isinstance(value, dict) else value

    pins = pin(wanted(real(uri)), store, tag, **real(more))
    assert pins.images == ({"In": real(pinned)} if pinned else {})
    assert pins.notes == ((f"In: {note}",) if note else ())
    assert (pins.tag, pins.asked_tag) == (tag or more.get("default_tag"), tag)


def test_stage_without_any_tag_is_an_error(store: Store) -> None:
    with pytest.raises(UsageError, match="no release is set for In") as caught:
        pin(wanted(), store)
    assert "--tag" in str(caught.value.hint)


def test_pruned_digest_is_refused(store: Store) -> None:
    with pytest.raises(RefusedError, match="is not in ECR"):
        pin(wanted(), store, kept={"In": "repo@" + digest_of(b"pruned")}, by_record=True)


def test_base_images_are_recorded(store: Store) -> None:
    store.push("repo", "v1", base="base:22@sha256:b")
    store.push("other", "v1")
    pins = pin([*wanted(), *wanted("other", "Other"), *wanted("ghcr.io/repo:v1", "Elsewhere")], store, "v1")
    assert pins.bases == {"In": "base:22@sha256:b"}


class TestRefused:
    def test_refusal_names_every_problem_by_stage(self, store: Store) -> None:
        store.push("arm", "v1", architecture="arm64")
        store.push("zstd", "v1", layer="application/vnd.oci.image.layer.v1.tar+zstd")
        store.push("gone", "v0.1.0")
        store.push("gone", "v0.10.0")
        images = [*wanted("arm", "A"), *wanted("zstd", "B"), *wanted("gone", "C")]
        with pytest.raises(RefusedError) as caught:
            pin(images, store, "v1")
        message = caught.value.message
        assert "A: arm:v1: it is built for linux/arm64, not for linux/amd64" in message
        assert "B: zstd:v1: layer" in message
        assert "C: gone:v1 is not in ECR (newest tags: v0.10.0, v0.1.0)" in message
        assert "sync" in str(caught.value.hint)

    def test_index_is_refused(self, store: Store) -> None:
        store.manifests["repo", "v1"] = Manifest(OCI_INDEX, digest_of(b"index"), b"index")
        with pytest.raises(RefusedError, match="it is an index"):
            pin(wanted(), store, "v1")

    def test_arm64_function_accepts_arm64_only(self, store: Store) -> None:
        store.push("repo", "v1", architecture="arm64")
        arm = wanted(platform=Platform("linux", "arm64"))
        assert pin(arm, store, "v1").images
        store.push("repo", "v1")
        with pytest.raises(RefusedError, match="built for linux/amd64, not for linux/arm64"):
            pin(arm, store, "v1")

    def test_missing_config_is_a_note(self, store: Store) -> None:
        digest = store.push("repo", "v1")
        store.blobs.clear()
        pins = pin(wanted(), store, "v1")
        assert pins.images == {"In": f"repo@{digest}"}
        assert "architecture is not checked" in pins.notes[0]

    def test_local_image_may_be_missing(self, store: Store) -> None:
        pins = pin(wanted(), store, default_tag="local", local_repositories=frozenset({"repo"}))
        assert (pins.tag, pins.images) == ("local", {})
        assert "runs from the image's folder" in pins.notes[0]
        with pytest.raises(RefusedError, match="typo:local is not in ECR"):
            pin(wanted("typo"), store, default_tag="local", local_repositories=frozenset({"repo"}))


class TestRequestedTag:
    """A run that deploys a release says which stages will not run it."""

    @pytest.mark.parametrize("named", ["tag v1", "a digest"])
    def test_image_in_the_values_wins_with_a_note(self, store: Store, named: str) -> None:
        old, new = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        uri = "repo:v1" if named == "tag v1" else f"repo@{old}"
        pins = pin([*wanted(uri), *wanted(name="Other")], store, "v2")
        assert pins.images == {"In": f"repo@{old}", "Other": f"repo@{new}"}
        assert pins.notes == (f"In: the environment's values name {named}, which takes precedence over --tag v2",)

    def test_tag_that_no_stage_would_run_is_refused(self, store: Store) -> None:
        with pytest.raises(RefusedError, match="no stage would run release v2"):
            pin(wanted("repo:v1"), store, "v2")

    def test_tag_that_equals_the_values_has_no_note(self, store: Store) -> None:
        store.push("repo", "v1")
        assert pin(wanted("repo:v1"), store, "v1").notes == ()


def test_edited_values_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `add-prefix --deploy` needs it: the ruleset that it adds must be pinned."""
    (tmp_path / "refinerctl.toml").write_text("[environments.far]\n")
    monkeypatch.chdir(tmp_path)
    app = AppContext(GlobalFlags(env="far"))
    file = app.settings.layout.values_file("far", "refiner")
    file.parent.mkdir(parents=True)
    assert (app.values, len(app.pipeline.stages)) == ({}, 2)

    file.write_text('rulesets = {\n  New = {\n    prefix = "New/"\n    image_uri = "repo"\n  }\n}\n')
    app.forget_values()

    assert [image.stage for image in app.stack.images(app.values)] == ["New"]
    assert [stage.name for stage in app.pipeline.stages] == ["New"]
