"""`refinerctl sync`, as it is called."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from refinerctl.aws.session import AwsSession
from refinerctl.local.emulator import Emulator
from tests.command import Command
from tests.registries.docker_registry import PASSWORD, USER, DockerRegistry
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import Site
from tests.registries.images import Layer, push_artifact, push_image, push_index, whole


@pytest.fixture(autouse=True)
def _no_logins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.chdir(tmp_path)


def test_copy_between_two_registries(site: Site, refinerctl: Command, tmp_path: Path) -> None:
    image = site.push()
    target = site.there

    done = refinerctl("sync", image.reference, target, "--output", "json", "--dotenv", "images.env")

    assert done.code == 0, done.err
    (copied,) = done.json()["images"]
    assert copied.pop("seconds") >= 0
    assert copied == {
        "name": site.repository,
        "source": image.reference,
        "target": f"{target}:v1",
        "source_digest": image.digest,
        "target_digest": image.digest,
        "platform": "linux/amd64",
        "status": "copied",
        "bytes_copied": sum(blob.size for blob in image.blobs),
        "blobs_copied": 3,
        "blobs_mounted": 0,
        "blobs_skipped": 0,
        "notes": [],
        "attachments": [],
        "not_copied": [],
        "build": None,
    }
    assert (tmp_path / "images.env").read_text() == f"IMAGE_{site.repository.upper()}={target}@{image.digest}\n"
    assert site.whole() == image.digest

    again = refinerctl("sync", image.reference, target)
    assert again.code == 0
    assert again.out.startswith("up-to-date ")
    assert image.digest in again.out


def test_signatures_are_copied_with_the_image(site: Site, refinerctl: Command) -> None:
    index = push_index(site.source, site.repository)
    image = index.children[0]
    tag, other = (digest.replace(":", "-") + ".sig" for digest in (image.digest, index.digest))
    for name in (tag, other):
        push_artifact(site.source, site.repository, name, "application/vnd.dev.cosign")
    copy = ("sync", index.reference, site.there)
    signature = {"kind": "signature", "reference": f"{index.name}:{tag}", "subject": image.digest}
    reason = "it refers to the index, which is not copied"
    left = {"kind": "signature", "reference": f"{index.name}:{other}", "subject": index.digest, "reason": reason}

    planned = refinerctl(*copy, "--dry-run", "--output", "json").json()["images"][0]
    done = refinerctl(*copy)
    again = refinerctl(*copy, "--output", "json").json()["images"][0]

    assert (planned["attachments"], planned["not_copied"][1:]) == ([signature], [left])
    assert f"also copied: signature {tag[:19]}….sig\n" in done.out
    assert f"not copied: signature {other[:19]}….sig: {reason}\n" in done.out
    assert (again["status"], again["attachments"], again["not_copied"]) == ("up-to-date", None, None)


def test_dry_run_writes_nothing(site: Site, refinerctl: Command, tmp_path: Path) -> None:
    index = push_index(site.source, site.repository)

    done = refinerctl(
        "sync", index.name, "--tag", "v1", site.there,
        "--dry-run", "--dotenv", "images.env", "--output", "json",
    )  # fmt: skip

    (planned,) = done.json()["images"]
    assert (planned["status"], planned["blobs_copied"], planned["target_digest"]) == ("would-copy", 3, None)
    assert planned["notes"] == ["the source is an index: linux/amd64 is copied, not linux/arm64"]
    assert planned["bytes_copied"] == sum(blob.size for blob in index.children[0].blobs)
    assert site.digest() is None
    assert not (tmp_path / "images.env").exists()


def test_refused_images(site: Site, refinerctl: Command) -> None:
    image = site.push(architecture="arm64")
    target = site.there

    refused = refinerctl("sync", image.reference, target)
    assert refused.code == 4
    assert "Lambda cannot run" in refused.err
    assert refused.out == ""

    forced = refinerctl("sync", image.reference, target, "--no-gate")
    assert forced.code == 0
    assert "platform not checked" in forced.out

    for_ecs = ("--runs-on", "ecs", "--platform", "linux/arm64")
    assert refinerctl("sync", image.reference, f"{target}:ecs", *for_ecs).code == 0

    site.push(layers=[Layer(seed=5)])
    moved = refinerctl("sync", image.reference, target, "--no-gate")
    assert moved.code == 4
    assert image.digest in moved.err
    assert site.digest() == image.digest


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("127.0.0.1:1/a",), 2, "TARGET is missing"),
        (("127.0.0.1:1/a", "127.0.0.1:1/b"), 2, "no tag to copy"),
        (("127.0.0.1:1/a:v1", "127.0.0.1:1/b", "--image", "x"), 2, "mutually exclusive"),
        (("127.0.0.1:1/a:v1", "127.0.0.1:1/b", "--create-repository"), 2, "not in ECR"),
        (("127.0.0.1:1/a:v1", "127.0.0.1:1/b", "--tag", "v2"), 2, "--tag is v2, but"),
        (("UPPER", "127.0.0.1:1/b"), 2, "not an image reference"),
        (("--tag", "v1", "--all-tags-since", "v1", "--image", "x"), 1, "no refinerctl.toml in"),
        (("--all-tags-since", "1h", "--dotenv", "x"), 2, "mutually exclusive"),
        (("--tag", "v1"), 1, "no refinerctl.toml in"),
        (("127.0.0.1:1/a:v1", "127.0.0.1:1/b", "--platform", "amd64"), 2, "not a platform"),
        (("127.0.0.1:1/a:v1", "127.0.0.1:1/b", "--provenance-bundle", "nowhere.jsonl"), 2, "does not exist"),
    ],
)
def test_wrong_use(refinerctl: Command, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = refinerctl("sync", *arguments)

    assert done.code == code, done.err
    assert words in done.err
    assert done.out == ""


PROJECT = """
[images.first]
repository = "{name}/first"
context = "."
source = "{host}/{name}/first"

[images.second-one]
repository = "{name}/second"
context = "."
source = "{host}/{name}/second"
runs_on = "ecs"
platform = "linux/arm64"

[images.other-stack]
repository = "x"
context = "."
source = "{host}/x"
stack = "registry"

[environments.local]
embedded = true
"""


@pytest.fixture
def project(source_registry: DockerRegistry, unique: str, tmp_path: Path) -> Path:
    """Two images of stack refiner, published under their names at the source registry."""
    (tmp_path / "refinerctl.toml").write_text(PROJECT.format(host=source_registry.host, name=unique))
    return tmp_path


def test_images_of_the_stack_are_copied_to_ecr(
    site: Site, refinerctl: Command, emulator: Emulator, session: AwsSession, project: Path
) -> None:
    first = push_image(site.source, f"{site.repository}/first", "v1.0.0")
    second = push_image(
        site.source, f"{site.repository}/second", "v1.0.0", layers=[Layer(packed="zstd")], architecture="arm64"
    )
    sync = ("sync", "--tag", "v1.0.0", "--endpoint-url", emulator.endpoint_url)

    missing = refinerctl(*sync)
    assert missing.code == 1
    assert "refinerctl deploy --stack registry" in missing.err

    dry = refinerctl(*sync, "--create-repository", "--dry-run", "--output", "json")
    assert [item["status"] for item in dry.json()["images"]] == ["would-copy"] * 2
    assert refinerctl(*sync).code == 1  # still no repositories

    done = refinerctl(*sync, "--create-repository", "--dotenv", "images.env", "--output", "json")
    assert done.code == 0, done.err
    assert [item["status"] for item in done.json()["images"]] == ["copied"] * 2
    assert "creating repository" in done.err
    ecr = session.client("ecr")
    for name, image in (("first", first), ("second", second)):
        (detail,) = ecr.describe_images(repositoryName=f"{site.repository}/{name}")["imageDetails"]
        assert (detail["imageDigest"], detail["imageTags"]) == (image.digest, ["v1.0.0"])
    host = emulator.endpoint_url.partition("//")[2]
    assert (project / "images.env").read_text().splitlines() == [
        f"IMAGE_FIRST={host}/{site.repository}/first@{first.digest}",
        f"IMAGE_SECOND_ONE={host}/{site.repository}/second@{second.digest}",
    ]

    again = refinerctl(*sync, "--output", "json")
    assert [item["status"] for item in again.json()["images"]] == ["up-to-date"] * 2
    one = refinerctl(*sync, "--image", "first", "--output", "json")
    assert [item["name"] for item in one.json()["images"]] == ["first"]


@pytest.mark.usefixtures("project")
def test_one_refused_image_stops_all(site: Site, refinerctl: Command, emulator: Emulator, session: AwsSession) -> None:
    push_image(site.source, f"{site.repository}/first", "v1.0.0")
    push_image(site.source, f"{site.repository}/second", "v1.0.0")  # for amd64, which is not what it runs on
    for name in ("first", "second"):
        session.client("ecr").create_repository(repositoryName=f"{site.repository}/{name}")

    refused = refinerctl("sync", "--tag", "v1.0.0", "--endpoint-url", emulator.endpoint_url)

    assert refused.code == 4
    assert "ECS cannot run" in refused.err
    assert session.client("ecr").describe_images(repositoryName=f"{site.repository}/first")["imageDetails"] == []


def test_all_tags_since(site: Site, refinerctl: Command) -> None:
    base = Layer(10_000, seed=1)
    for number, tag in enumerate(("v1.9.0", "v1.10.0", "v1.10.1", "latest")):
        image = site.push(tag, layers=[base, Layer(seed=number + 2)])
    copy = ("sync", image.name, site.there, "--output", "json")

    done = refinerctl(*copy, "--all-tags-since", "v1.10.0")

    assert [item["target"].rpartition(":")[2] for item in done.json()["images"]] == ["v1.10.0", "v1.10.1"]
    # Both were checked before the first one brought what they share.
    assert [item["blobs_copied"] for item in done.json()["images"]] == [3, 2]
    assert site.whole("v1.10.1")

    later = refinerctl(*copy, "--all-tags-since", "2023-12-31T00:00:00Z")
    assert [item["status"] for item in later.json()["images"]] == ["copied", "up-to-date", "up-to-date"]
    assert refinerctl(*copy, "--all-tags-since", "2024-01-02T00:00:00Z").json() == {"images": []}
    site.push("v1.11.0", layers=[base], created=None)
    undated = refinerctl(*copy, "--all-tags-since", "2024-01-02T00:00:00Z")
    assert undated.json() == {"images": []}
    assert "skipped, because their configs have no build time: v1.11.0" in undated.err
    wrong = refinerctl(*copy, "--all-tags-since", "someday")
    assert wrong.code == 2
    assert "someday" in wrong.err


def test_time_limit_ends_a_copy_and_shows_what_was_copied(site: Site, refinerctl: Command) -> None:
    site.push("v1.0.0", layers=[Layer(seed=1)])
    second = site.push("v1.1.0", layers=[Layer(seed=2)])
    source = site.faulty(site.source, Fault(Kind.STALL, match=f"GET .*/blobs/{second.layers[0].digest}", times=None))
    copy = ("sync", f"{source.host}/{site.repository}", site.there, "--output", "json")
    began = time.monotonic()

    done = refinerctl(*copy, "--all-tags-since", "v1.0.0", "--timeout", "2s")

    assert done.code == 3
    assert time.monotonic() - began < 20
    assert "sync timed out after 2s" in done.err
    assert [item["status"] for item in done.json()["images"]] == ["copied"]
    assert site.digest("v1.1.0") is None


def test_denied_login_names_user_and_hint(
    site: Site, refinerctl: Command, basic_registry: DockerRegistry, tmp_path: Path
) -> None:
    image = site.push()
    copy = ("sync", image.reference, f"{basic_registry.host}/{site.repository}")

    denied = refinerctl(*copy)
    assert denied.code == 1
    assert f"{basic_registry.host} does not let anonymous users pull and push {site.repository}" in denied.err
    assert f"docker login {basic_registry.host}" in denied.err

    (tmp_path / "docker").mkdir()
    auths = {basic_registry.host: {"username": USER, "password": PASSWORD}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": auths}))
    done = refinerctl(*copy, "-vv")
    assert done.code == 0, done.err
    assert PASSWORD not in done.out + done.err
    assert whole(basic_registry, site.repository) == image.digest
