"""`refinerctl sync --require-provenance`, as it is called, between two registries, without network."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, Finished, spawn
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import Site
from tests.registries.images import MadeImage, digest_of, listed, push_artifact, push_index
from tests.sigstore_instance import BUNDLE, Run, SigstoreInstance, tampered

REQUIRED = "example/app@.github/workflows/release.yml"


def tag_of(digest: str, suffix: str = "") -> str:
    return digest.replace(":", "-") + suffix


@dataclass(frozen=True)
class Scene:
    """Two registries and an instance of Sigstore, whose trusted root is in file root.json of the current folder."""

    site: Site
    instance: SigstoreInstance
    refinerctl: Command

    def attach(self, subject: str, bundle: dict[str, Any], listed_as: str = BUNDLE) -> None:
        """As GitHub does for ghcr.io, which has no referrers API: an artifact in the index at the fallback tag."""
        source, repository, content = self.site.source, self.site.repository, json.dumps(bundle).encode()
        push_artifact(source, repository, tag_of(subject), BUNDLE, subject, content=content, listed_as=listed_as)

    def sync(self, image: MadeImage, *arguments: str, required: str = REQUIRED) -> Finished:
        copy = ("sync", image.reference, self.site.there, "--trusted-root", "root.json")
        given = ("--require-provenance", required) if required else ()
        return self.refinerctl(*copy, *given, *arguments)

    def refused(self, image: MadeImage, *arguments: str, required: str = REQUIRED) -> str:
        """The message of a sync that was refused before it wrote anything."""
        done = self.sync(image, *arguments, required=required)
        assert (done.code, done.out) == (4, ""), done.err
        assert self.site.digest() is None
        return done.err


@pytest.fixture
def scene(site: Site, refinerctl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.chdir(tmp_path)
    instance = SigstoreInstance()
    (tmp_path / "root.json").write_text(instance.trusted_root)
    return Scene(site, instance, refinerctl)


def test_attested_image_is_copied(scene: Scene) -> None:
    image = scene.site.push()
    scene.attach(image.digest, scene.instance.attestation(image.digest))

    planned = scene.sync(image, "--dry-run", "--output", "json")
    done = scene.sync(image)
    again = scene.sync(image, "--output", "json")

    build = {
        "repository": "example/app",
        "workflow": ".github/workflows/release.yml",
        "ref": "refs/tags/v1",
        "commit": Run().commit,
        "run_url": "https://github.com/example/app/actions/runs/77/attempts/1",
    }
    assert planned.json()["images"][0]["build"] == build
    assert done.code == 0, done.err
    assert "built by example/app/.github/workflows/release.yml at v1, commit c0ffeec0ffee\n" in done.out
    assert build["run_url"] in done.out
    assert scene.site.whole() == image.digest
    (kept,) = Path(".refinerctl/provenance").iterdir()
    assert (kept.name, json.loads(kept.read_text())) == (f"{tag_of(image.digest)}.json", build)
    (verified,) = again.json()["images"]
    assert (verified["status"], verified["build"]) == ("up-to-date", build)


def test_bundle_is_found_under_any_artifact_type(scene: Scene) -> None:
    """ghcr.io lists bundles of cosign under another artifact type."""
    image = scene.site.push()
    scene.attach(image.digest, scene.instance.attestation(image.digest), "application/vnd.oci.empty.v1+json")

    assert scene.sync(image).code == 0


def test_other_and_damaged_artifacts_are_ignored(scene: Scene) -> None:
    image, site = scene.site.push(), scene.site
    tag = tag_of(image.digest)
    push_artifact(site.source, site.repository, tag, "application/spdx+json", image.digest, content=b"{}")
    for content in (b"", b"[1]"):
        push_artifact(site.source, site.repository, tag, BUNDLE, image.digest, content=content)
    scene.attach(image.digest, scene.instance.attestation(image.digest))
    other = b'{"mediaType": "application/vnd.oci.artifact.manifest.v1+json"}'
    entries = [{"digest": digest_of(other), "mediaType": "x"}, *listed(site.source, site.repository, tag)]
    body = json.dumps({"manifests": entries}).encode()
    proxy = site.faulty(
        site.source,
        Fault(Kind.STATUS, match="GET .*/referrers/", status=200, body=body, times=None),
        Fault(Kind.STATUS, match=f"GET .*/manifests/{digest_of(other)}", status=200, body=other, times=None),
        Fault(Kind.STATUS, match=f"GET .*/blobs/{digest_of(b'[1]')}", status=404, times=None),
    )

    done = scene.sync(replace(image, registry=replace(site.source, host=proxy.host)), "--output", "json")

    assert done.code == 0, done.err
    (left,) = done.json()["images"][0]["not_copied"][:1]
    assert "are not supported" in left["reason"]


@pytest.mark.parametrize("which", ["index", "platform"])
def test_attestation_of_an_index_or_of_its_image(scene: Scene, which: str) -> None:
    index = push_index(scene.site.source, scene.site.repository)
    subject = index.digest if which == "index" else index.children[0].digest
    scene.attach(subject, scene.instance.attestation(subject))

    done = scene.sync(index)

    assert done.code == 0, done.err
    assert scene.site.whole() == index.children[0].digest


def test_attestation_of_another_platform_does_not_count(scene: Scene) -> None:
    index = push_index(scene.site.source, scene.site.repository)
    other = index.children[1].digest
    scene.attach(other, scene.instance.attestation(other))

    assert "no attestation or signature found" in scene.refused(index)


def test_refusals_name_the_reason(scene: Scene) -> None:
    image, instance = scene.site.push(), scene.instance
    none = scene.refused(image)
    assert f"cannot verify that {image.reference} was built by {REQUIRED}: no attestation or signature" in none

    repository = scene.site.repository
    push_artifact(scene.site.source, repository, tag_of(image.digest, ".sig"), "application/vnd.dev.cosign")
    older = scene.refused(image)
    assert f":sha256-{image.digest[7:19]}….sig: cosign 2 and older are not supported" in older

    other = "sha256:" + "b" * 64
    for bundle in (
        instance.attestation(other),
        tampered(instance.attestation(other), image.digest),
        instance.attestation(image.digest, Run(repository="evil/app")),
        instance.attestation(image.digest, Run(workflow=".github/workflows/pull-request.yml")),
        instance.attestation(image.digest, Run(ref="refs/heads/main")),
    ):
        scene.attach(image.digest, bundle)
    message = scene.refused(image)
    for reason in (
        f"other digest: it is for {other}",
        "invalid signature: DSSE: invalid signature",
        "other repository: https://github.com/evil/app",
        "other workflow: .github/workflows/pull-request.yml",
        "other tag: built from refs/heads/main, not from tag v1",
    ):
        assert reason in message
    assert "Nothing was copied." in message


def test_bundle_in_a_file(scene: Scene) -> None:
    image = scene.site.push()
    file = Path("bundles.jsonl")
    file.write_text("\n".join(json.dumps(scene.instance.attestation(digest)) for digest in ("sha256:0", image.digest)))

    assert scene.sync(image, "--provenance-bundle", str(file)).code == 0


def test_settings_apply_to_every_way_to_name_an_image(scene: Scene) -> None:
    """An image that gets to the repository, from anywhere."""
    Path("refinerctl.toml").write_text(
        "[images.app]\n"
        f'repository = "{scene.site.repository}"\ncontext = "."\nrequire_provenance = "example/app@release.yml"\n'
    )
    image = scene.site.push()

    message = scene.refused(image, required="")
    assert "was built by example/app@.github/workflows/release.yml" in message

    scene.attach(image.digest, scene.instance.attestation(image.digest))
    assert scene.sync(image, required="").code == 0


def test_usage_errors(scene: Scene) -> None:
    image = scene.site.push()

    unused = scene.sync(image, required="")
    assert (unused.code, "nothing would be verified" in unused.err) == (2, True)
    command = ("sync", image.reference, scene.site.there, "--require-provenance", "")
    empty = scene.refinerctl(*command)
    assert (empty.code, "'' is not a GitHub repository" in empty.err) == (2, True)
    wrong = scene.sync(image, required="https://github.com/example/app")
    assert (wrong.code, "is not a GitHub repository with a workflow" in wrong.err) == (2, True)

    Path("refinerctl.toml").write_text('[images.app]\nrepository = "app"\ncontext = "."\nrequire_provenance = "app"\n')
    setting = scene.sync(image)
    assert setting.code == 1
    assert "refinerctl.toml: images.app: 'app' is not a GitHub repository" in setting.err


def test_without_the_extra_or_the_network(scene: Scene, tmp_path: Path) -> None:
    image = scene.site.push()
    copy = ("sync", image.reference, scene.site.there, "--require-provenance", REQUIRED)
    (tmp_path / "without").mkdir()
    (tmp_path / "without/sigstore.py").write_text("raise ImportError('No module named sigstore')")

    missing = spawn(*copy, cwd=tmp_path, environ={"PYTHONPATH": f"{tmp_path / 'without'}:{Path(__file__).parents[3]}"})
    assert missing.returncode == 1
    assert "pip install 'refinerctl[provenance]'" in missing.stderr

    offline = spawn(*copy, cwd=tmp_path, environ={"HTTPS_PROXY": "http://127.0.0.1:1", "HOME": str(tmp_path)})
    assert offline.returncode == 1
    assert "trusted root cannot be loaded from tuf-repo-cdn.sigstore.dev" in offline.stderr
    assert "pass --trusted-root FILE" in offline.stderr
    assert scene.site.digest() is None
