"""Which image a stage gets, by digest, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from refinerctl.app import AppContext
from refinerctl.config import GlobalFlags
from refinerctl.errors import NotFoundError, RefusedError, UsageError
from refinerctl.images import OCI_INDEX, OCI_MANIFEST, ImageReference, Platform, RunsOn
from refinerctl.registry.manifests import Descriptor, Manifest, digest_of
from refinerctl.registry.registries import Registries
from refinerctl.releases.pins import PinRequest, Pins, pin_images, services_of
from refinerctl.stacks.base import Function, Pipeline, Stage, StageImage

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
AMD64 = Platform("linux", "amd64")


@dataclass
class Store:
    """ECR in memory: manifests by repository and by tag or digest."""

    manifests: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def push(self, repository: str, tag: str, architecture: str = "amd64", layer: str = LAYER, number: int = 0) -> str:
        config = json.dumps({"os": "linux", "architecture": architecture, "number": number}).encode()
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


def pin(wanted: Sequence[StageImage], store: Store, request: PinRequest, **services: RunsOn) -> Pins:
    return pin_images(wanted, cast("Registries", store), request, services)


class TestChoice:
    def test_tag_that_is_asked_for_wins_over_the_current_release(self, store: Store) -> None:
        digest = store.push("repo", "v2")
        old = store.push("repo", "v1", number=1)
        request = PinRequest(tag="v2", default_tag="v1", kept={"In": f"repo@{old}"})
        assert pin(wanted(), store, request) == Pins("v2", {"In": f"repo@{digest}"})

    def test_stages_own_tag_wins_over_the_default(self, store: Store) -> None:
        store.push("repo", "v2")
        stable = store.push("repo", "stable", number=1)
        assert pin(wanted("repo:stable"), store, PinRequest(default_tag="v2")).images == {"In": f"repo@{stable}"}

    def test_stages_own_digest_wins_over_everything(self, store: Store) -> None:
        store.push("repo", "v2")
        digest = store.push("repo", "v1", number=1)
        request = PinRequest(default_tag="v2", kept={"In": "repo@" + digest_of(b"x")})
        assert pin(wanted(f"repo:v9@{digest}"), store, request).images == {"In": f"repo@{digest}"}

    def test_current_digest_is_kept_even_if_its_tag_has_moved(self, store: Store) -> None:
        old = store.push("repo", "v1")
        store.push("repo", "v1", number=1)
        pins = pin(wanted(), store, PinRequest(default_tag="v1", kept={"In": f"repo@{old}"}))
        assert pins == Pins("v1", {"In": f"repo@{old}"})

    def test_new_stage_gets_the_default_tag(self, store: Store) -> None:
        old, new = store.push("repo", "v1"), store.push("other", "v1", number=1)
        request = PinRequest(default_tag="v1", kept={"In": f"repo@{old}"})
        pins = pin([*wanted(), *wanted("other", "New")], store, request)
        assert pins.images == {"In": f"repo@{old}", "New": f"other@{new}"}

    def test_changed_repository_is_not_kept(self, store: Store) -> None:
        old, new = store.push("repo", "v1"), store.push("other", "v1", number=1)
        request = PinRequest(default_tag="v1", kept={"In": f"repo@{old}"})
        assert pin(wanted("other"), store, request).images == {"In": f"other@{new}"}

    def test_default_tag_is_used_without_a_release(self, store: Store) -> None:
        digest = store.push("repo", "v0")
        assert pin(wanted(), store, PinRequest(default_tag="v0")) == Pins("v0", {"In": f"repo@{digest}"})

    def test_stage_without_any_tag_is_an_error(self, store: Store) -> None:
        with pytest.raises(UsageError, match="no release is set for In") as caught:
            pin(wanted(), store, PinRequest())
        assert "--tag" in str(caught.value.hint)

    def test_image_outside_of_ecr_is_not_pinned(self, store: Store) -> None:
        pins = pin(wanted("ghcr.io/repo:v1"), store, PinRequest(default_tag="v2"))
        assert pins.images == {}
        assert "not in ECR" in pins.notes[0]

    def test_repository_is_written_as_in_the_values(self, store: Store) -> None:
        digest = store.push("repo", "v1")
        uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/repo"
        assert pin(wanted(uri), store, PinRequest("v1")).images == {"In": f"{uri}@{digest}"}


class TestRollback:
    def test_rollback_uses_the_recorded_digest(self, store: Store) -> None:
        old, own = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        request = PinRequest(kept={"In": f"repo@{old}"}, by_record=True)
        for uri in ("repo", "repo:v2", "other", f"repo@{own}"):
            assert pin(wanted(uri), store, request).images == {"In": f"repo@{old}"}

    def test_rollback_warns_of_a_digest_in_the_values(self, store: Store) -> None:
        old, own = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        request = PinRequest(kept={"In": f"repo@{old}"}, by_record=True)
        assert "the next deployment uses again" in pin(wanted(f"repo@{own}"), store, request).notes[0]

    def test_stage_that_the_release_did_not_have_keeps_its_image(self, store: Store) -> None:
        old, now = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        request = PinRequest(default_tag="v1", kept={"In": f"repo@{old}", "New": f"repo@{now}"}, by_record=True)
        pins = pin([*wanted(), *wanted(name="New")], store, request)
        assert pins == Pins("v1", {"In": f"repo@{old}", "New": f"repo@{now}"})

    def test_pruned_digest_is_refused(self, store: Store) -> None:
        request = PinRequest(kept={"In": "repo@" + digest_of(b"pruned")}, by_record=True)
        with pytest.raises(RefusedError, match="is not in ECR"):
            pin(wanted(), store, request)


class TestRefused:
    def test_refusal_names_every_problem_by_stage(self, store: Store) -> None:
        store.push("arm", "v1", architecture="arm64")
        store.push("zstd", "v1", layer="application/vnd.oci.image.layer.v1.tar+zstd")
        store.push("gone", "v0.1.0")
        store.push("gone", "v0.10.0")
        images = [*wanted("arm", "A"), *wanted("zstd", "B"), *wanted("gone", "C")]
        with pytest.raises(RefusedError) as caught:
            pin(images, store, PinRequest("v1"))
        message = caught.value.message
        assert "A: arm:v1: it is built for linux/arm64, not for linux/amd64" in message
        assert "B: zstd:v1: layer" in message
        assert "C: gone:v1 is not in ECR (newest tags: v0.10.0, v0.1.0)" in message
        assert "sync" in str(caught.value.hint)

    def test_index_is_refused(self, store: Store) -> None:
        store.manifests["repo", "v1"] = Manifest(OCI_INDEX, digest_of(b"index"), b"index")
        with pytest.raises(RefusedError, match="it is an index"):
            pin(wanted(), store, PinRequest("v1"))

    def test_arm64_function_accepts_arm64_only(self, store: Store) -> None:
        store.push("repo", "v1", architecture="arm64")
        arm = wanted(platform=Platform("linux", "arm64"))
        assert pin(arm, store, PinRequest("v1")).images
        store.push("repo", "v1")
        with pytest.raises(RefusedError, match="built for linux/amd64, not for linux/arm64"):
            pin(arm, store, PinRequest("v1"))

    def test_missing_config_is_a_note(self, store: Store) -> None:
        digest = store.push("repo", "v1")
        store.blobs.clear()
        pins = pin(wanted(), store, PinRequest("v1"))
        assert pins.images == {"In": f"repo@{digest}"}
        assert "architecture is not checked" in pins.notes[0]

    def test_service_of_the_consumer_decides_what_is_accepted(self, store: Store) -> None:
        digest = store.push("repo", "v1", layer="application/vnd.oci.image.layer.v1.tar+zstd")
        assert pin(wanted(), store, PinRequest("v1"), In=RunsOn.ECS).images == {"In": f"repo@{digest}"}
        stages = (Stage("In", consumer=Function("f")), Stage("Out"))
        with pytest.raises(RefusedError, match="layer"):
            pin(wanted(), store, PinRequest("v1"), **services_of(Pipeline("p", stages)))

    def test_local_image_may_be_missing(self, store: Store) -> None:
        request = PinRequest(default_tag="local", local_repositories=frozenset({"repo"}))
        pins = pin(wanted(), store, request)
        assert (pins.tag, pins.images) == ("local", {})
        assert "runs from the image's folder" in pins.notes[0]
        with pytest.raises(RefusedError, match="typo:local is not in ECR"):
            pin(wanted("typo"), store, request)


class TestRequestedTag:
    """A run that deploys a release says which stages will not run it."""

    def test_tag_in_the_values_wins_with_a_note(self, store: Store) -> None:
        old, new = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        pins = pin([*wanted("repo:v1"), *wanted(name="Other")], store, PinRequest("v2"))
        assert pins.images == {"In": f"repo@{old}", "Other": f"repo@{new}"}
        assert pins.notes == ("In: the environment's values name tag v1, which takes precedence over --tag v2",)

    def test_digest_in_the_values_wins_with_a_note(self, store: Store) -> None:
        old = store.push("repo", "v1")
        store.push("repo", "v2", number=1)
        pins = pin([*wanted(f"repo@{old}"), *wanted(name="Other")], store, PinRequest("v2"))
        assert pins.notes == ("In: the environment's values name a digest, which takes precedence over --tag v2",)

    def test_tag_that_no_stage_would_run_is_refused(self, store: Store) -> None:
        store.push("repo", "v1")
        with pytest.raises(RefusedError, match="no stage would run release v2"):
            pin(wanted("repo:v1"), store, PinRequest("v2"))

    def test_tag_that_equals_the_values_has_no_note(self, store: Store) -> None:
        store.push("repo", "v1")
        assert pin(wanted("repo:v1"), store, PinRequest("v1")).notes == ()


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
