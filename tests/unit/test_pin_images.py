"""Which image a ruleset gets, by digest, and which are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from refinerctl.errors import NotFoundError, RefinerctlError, RefusedError, UsageError
from refinerctl.images import OCI_INDEX, OCI_MANIFEST, ImageReference, Platform
from refinerctl.registry.manifests import Descriptor, Manifest, digest_of
from refinerctl.releases.model import Pins, Release, ReleaseAction, RulesetImage
from refinerctl.releases.pin_images import PinRequest, pin_images, ruleset_images

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


def wanted(uri: str = "repo", name: str = "In", platform: Platform = AMD64) -> list[RulesetImage]:
    return [RulesetImage(name, ImageReference.parse(uri), platform)]


def recorded(tag: str | None = "v1", **images: str) -> Release:
    return Release(ReleaseAction.DEPLOY, tag, images, at=datetime(2026, 3, 1, tzinfo=UTC))


class TestRulesetImages:
    def test_from_the_values_and_by_architecture(self) -> None:
        rulesets: dict[str, Any] = {
            "B": {"prefix": "B/", "image_uri": "repo:v1", "architecture": "arm64"},
            "A": {"prefix": "A/", "image_uri": "repo"},
            "C": {"prefix": "C/"},
            "D": {"prefix": "D/", "image_uri": None},
        }
        found = ruleset_images({"rulesets": rulesets}, {"rulesets": {"X": {"image_uri": "x"}}})
        assert [(image.ruleset, str(image.reference), str(image.platform)) for image in found] == [
            ("A", "repo", "linux/amd64"),
            ("B", "repo:v1", "linux/arm64"),
        ]

    def test_from_the_defaults_of_the_module(self) -> None:
        assert [image.ruleset for image in ruleset_images({}, {"rulesets": {"X": {"image_uri": "x"}}})] == ["X"]

    @pytest.mark.parametrize(
        "rulesets",
        [{"A": {"image_uri": "UPPER CASE"}}, {"A": {"image_uri": "r", "architecture": "sparc"}}, {"A": "r"}, [1]],
    )
    def test_malformed_ones_are_an_error_in_a_sentence(self, rulesets: Any) -> None:
        with pytest.raises(RefinerctlError, match="ruleset"):
            ruleset_images({"rulesets": rulesets}, {})


class TestWhichOne:
    def test_the_tag_that_is_asked_for(self, store: Store) -> None:
        digest = store.push("repo", "v2")
        old = store.push("repo", "v1", number=1)
        request = PinRequest(tag="v2", default_tag="v1", recorded=recorded(In=f"repo@{old}"))
        assert pin_images(wanted(), store, request) == Pins("v2", {"In": f"repo@{digest}"})

    def test_an_own_tag_of_a_ruleset_goes_before_the_releases(self, store: Store) -> None:
        store.push("repo", "v2")
        stable = store.push("repo", "stable", number=1)
        assert pin_images(wanted("repo:stable"), store, PinRequest(default_tag="v2")).images == {"In": f"repo@{stable}"}

    def test_an_own_digest_goes_before_everything(self, store: Store) -> None:
        store.push("repo", "v2")
        digest = store.push("repo", "v1", number=1)
        request = PinRequest(default_tag="v2", recorded=recorded(In="repo@" + digest_of(b"x")))
        assert pin_images(wanted(f"repo:v9@{digest}"), store, request).images == {"In": f"repo@{digest}"}

    def test_without_a_tag_the_release_in_place_stays_though_its_tag_has_moved(self, store: Store) -> None:
        old = store.push("repo", "v1")
        store.push("repo", "v1", number=1)
        pins = pin_images(wanted(), store, PinRequest(default_tag="v0", recorded=recorded(In=f"repo@{old}")))
        assert pins == Pins("v1", {"In": f"repo@{old}"})

    def test_a_ruleset_that_is_new_gets_the_tag_in_place(self, store: Store) -> None:
        old, new = store.push("repo", "v1"), store.push("other", "v1", number=1)
        request = PinRequest(recorded=recorded(In=f"repo@{old}"))
        pins = pin_images([*wanted(), *wanted("other", "New")], store, request)
        assert pins.images == {"In": f"repo@{old}", "New": f"other@{new}"}

    def test_another_repository_than_the_recorded_one_is_a_change_of_configuration(self, store: Store) -> None:
        old, new = store.push("repo", "v1"), store.push("other", "v1", number=1)
        request = PinRequest(recorded=recorded(In=f"repo@{old}"))
        assert pin_images(wanted("other"), store, request).images == {"In": f"other@{new}"}

    def test_without_a_release_the_environments_own_tag(self, store: Store) -> None:
        digest = store.push("repo", "v0")
        assert pin_images(wanted(), store, PinRequest(default_tag="v0")) == Pins("v0", {"In": f"repo@{digest}"})

    def test_without_any_it_asks_for_one(self, store: Store) -> None:
        with pytest.raises(UsageError, match="which release") as caught:
            pin_images(wanted(), store, PinRequest())
        assert "--tag" in str(caught.value.hint)

    def test_an_image_outside_of_ecr_is_left_as_it_is_and_told(self, store: Store) -> None:
        pins = pin_images(wanted("ghcr.io/repo:v1"), store, PinRequest(default_tag="v2"))
        assert pins.images == {}
        assert "not in ECR" in pins.notes[0]

    def test_the_name_stays_as_the_environment_writes_it(self, store: Store) -> None:
        digest = store.push("repo", "v1")
        uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/repo"
        assert pin_images(wanted(uri), store, PinRequest("v1")).images == {"In": f"{uri}@{digest}"}


class TestRollback:
    def test_the_recorded_digest_wins_over_everything(self, store: Store) -> None:
        old, own = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        request = PinRequest(recorded=recorded(In=f"repo@{old}"), by_record=True)
        for uri in ("repo", "repo:v2", "other", f"repo@{own}"):
            assert pin_images(wanted(uri), store, request).images == {"In": f"repo@{old}"}

    def test_a_digest_in_the_values_will_win_again_and_that_is_told(self, store: Store) -> None:
        old, own = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        request = PinRequest(recorded=recorded(In=f"repo@{old}"), by_record=True)
        assert "wins the next time" in pin_images(wanted(f"repo@{own}"), store, request).notes[0]

    def test_a_ruleset_that_the_release_did_not_have_keeps_its_image(self, store: Store) -> None:
        old, now = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        request = PinRequest(recorded=recorded(In=f"repo@{old}"), by_record=True, fallback={"New": f"repo@{now}"})
        pins = pin_images([*wanted(), *wanted(name="New")], store, request)
        assert pins == Pins("v1", {"In": f"repo@{old}", "New": f"repo@{now}"})

    def test_a_digest_that_was_pruned_is_refused(self, store: Store) -> None:
        request = PinRequest(recorded=recorded(In="repo@" + digest_of(b"pruned")), by_record=True)
        with pytest.raises(RefusedError, match="is not in ECR"):
            pin_images(wanted(), store, request)


class TestRefused:
    def test_everything_that_is_wrong_at_once_by_ruleset(self, store: Store) -> None:
        store.push("arm", "v1", architecture="arm64")
        store.push("zstd", "v1", layer="application/vnd.oci.image.layer.v1.tar+zstd")
        store.push("gone", "v0.1.0")
        store.push("gone", "v0.10.0")
        images = [*wanted("arm", "A"), *wanted("zstd", "B"), *wanted("gone", "C")]
        with pytest.raises(RefusedError) as caught:
            pin_images(images, store, PinRequest("v1"))
        message = caught.value.message
        assert "A: arm:v1: it is built for linux/arm64, not for linux/amd64" in message
        assert "B: zstd:v1: layer" in message
        assert "C: gone:v1 is not in ECR (newest there: v0.10.0, v0.1.0)" in message
        assert "sync" in str(caught.value.hint)

    def test_an_index(self, store: Store) -> None:
        store.manifests["repo", "v1"] = Manifest(OCI_INDEX, digest_of(b"index"), b"index")
        with pytest.raises(RefusedError, match="it is an index"):
            pin_images(wanted(), store, PinRequest("v1"))

    def test_an_arm64_function_takes_arm64_only(self, store: Store) -> None:
        store.push("repo", "v1", architecture="arm64")
        arm = wanted(platform=Platform("linux", "arm64"))
        assert pin_images(arm, store, PinRequest("v1")).images
        store.push("repo", "v1")
        with pytest.raises(RefusedError, match="built for linux/amd64, not for linux/arm64"):
            pin_images(arm, store, PinRequest("v1"))

    def test_a_config_that_is_not_there_is_a_note(self, store: Store) -> None:
        digest = store.push("repo", "v1")
        store.blobs.clear()
        pins = pin_images(wanted(), store, PinRequest("v1"))
        assert pins.images == {"In": f"repo@{digest}"}
        assert "architecture is not checked" in pins.notes[0]

    def test_on_this_machine_an_image_may_be_missing(self, store: Store) -> None:
        request = PinRequest(default_tag="local", local_repositories=frozenset({"repo"}))
        pins = pin_images(wanted(), store, request)
        assert (pins.tag, pins.images) == ("local", {})
        assert "runs from the image's folder" in pins.notes[0]
        with pytest.raises(RefusedError, match="typo:local is not in ECR"):
            pin_images(wanted("typo"), store, request)


class TestATagThatIsAskedFor:
    """A run that says it deploys a release has to run it, or to say what it runs instead."""

    def test_does_not_win_over_the_environments_own_and_that_is_told(self, store: Store) -> None:
        old, new = store.push("repo", "v1"), store.push("repo", "v2", number=1)
        pins = pin_images([*wanted("repo:v1"), *wanted(name="Other")], store, PinRequest("v2"))
        assert pins.images == {"In": f"repo@{old}", "Other": f"repo@{new}"}
        assert pins.notes == ("In: the environment's image_uri names tag v1, which wins over --tag v2",)

    def test_nor_over_a_digest(self, store: Store) -> None:
        old = store.push("repo", "v1")
        store.push("repo", "v2", number=1)
        pins = pin_images([*wanted(f"repo@{old}"), *wanted(name="Other")], store, PinRequest("v2"))
        assert pins.notes == ("In: the environment's image_uri names a digest, which wins over --tag v2",)

    def test_is_refused_if_nothing_would_run_it(self, store: Store) -> None:
        store.push("repo", "v1")
        with pytest.raises(RefusedError, match="no ruleset would run release v2"):
            pin_images(wanted("repo:v1"), store, PinRequest("v2"))

    def test_that_is_the_environments_own_is_just_that(self, store: Store) -> None:
        store.push("repo", "v1")
        assert pin_images(wanted("repo:v1"), store, PinRequest("v1")).notes == ()
