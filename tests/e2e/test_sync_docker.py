"""`refinerctl sync --engine docker`, through a real dockerd between real registries."""

from __future__ import annotations

import base64
import json
import os
import time
from functools import partial
from pathlib import Path

import docker
import pytest

from refinerctl.console import Progress
from refinerctl.docker_engine import DockerEngine
from refinerctl.errors import RefusedError
from refinerctl.images import ImageReference, Platform, RunsOn
from refinerctl.registry.client import Registry
from refinerctl.registry.copies import CopyRequest
from refinerctl.registry.credentials import stored_login
from refinerctl.registry.docker_copies import DockerCopies
from refinerctl.transport import Limits, Transport
from tests.command import Command, Finished
from tests.registries.docker_registry import PASSWORD, USER, DockerRegistry
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import Site
from tests.registries.images import Layer, problems, push_image, push_index, skopeo_inspect
from tests.registries.token_server import TokenServer

pytestmark = [pytest.mark.e2e, pytest.mark.docker]

# A denied push takes the engine 50 s of retries.
SOON_SECONDS = 10


class Engine:
    """The command with this engine, and a look into the engine."""

    def __init__(self, command: Command, host: str, folder: Path) -> None:
        self._command = command
        self._folder = folder
        self.client = docker.DockerClient(base_url=host)

    def sync(self, source: str, target: str, *options: str) -> Finished:
        ways = (source, target, "--engine", "docker", "--output", "json")
        return self._command("sync", *ways, *options, cwd=self._folder)

    def log_in(self, host: str, user: str, password: str) -> None:
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        (self._folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))

    def has(self, reference: str) -> bool:
        return any(reference in (image.tags or []) for image in self.client.images.list())


@pytest.fixture
def engine(docker_host: str, refinerctl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return Engine(refinerctl, docker_host, tmp_path)


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A repository that no other test uses."""
    return "".join(character for character in request.node.name if character.isalnum()).lower()


def test_copy_of_index_and_second_copy(site: Site, engine: Engine) -> None:
    index = push_index(site.source, site.repository, layers=[Layer(200_000), Layer(1_000, seed=3)])
    target = f"{site.there}:v1"

    dry = engine.sync(index.reference, target, "--dry-run")
    assert (dry.code, dry.json()["images"][0]["status"]) == (0, "would-copy")
    assert site.digest() is None

    done = engine.sync(index.reference, target)

    assert done.code == 0, done.err
    (copied,) = done.json()["images"]
    assert (copied["status"], copied["platform"], copied["blobs_copied"]) == ("copied", "linux/amd64", 2)
    assert copied["source_digest"] == index.children[0].digest
    assert copied["target_digest"] == skopeo_inspect(target)
    assert copied["target_digest"] in copied["notes"][0], "another builder had compressed it"
    assert problems(site.target, site.repository) == []
    assert not engine.has(target)

    again = engine.sync(index.reference, target)
    assert (again.code, again.json()["images"][0]["status"]) == (0, "up-to-date")
    assert again.json()["images"][0]["bytes_copied"] == 0


def test_tag_of_another_image_is_refused(site: Site, engine: Engine) -> None:
    image = site.push()
    other = push_image(site.target, site.repository, layers=[Layer(seed=9)])

    done = engine.sync(image.reference, other.reference)

    assert done.code == 4
    assert image.digest in done.err
    assert other.digest in done.err
    assert site.digest() == other.digest


@pytest.mark.parametrize(
    ("image", "reason"),
    [({"architecture": "arm64"}, "linux/arm64"), ({"layers": [Layer(packed="zstd")]}, "zstd")],
)
def test_image_that_lambda_would_not_run_is_refused(site: Site, engine: Engine, image: dict, reason: str) -> None:
    made = site.push(**image)

    done = engine.sync(made.reference, f"{site.there}:v1")

    assert done.code == 4
    assert reason in done.err
    assert site.digest() is None
    assert engine.client.images.list(name=made.name) == [], "not even pulled"


def test_missing_tag_and_platform(site: Site, engine: Engine) -> None:
    index = push_index(site.source, site.repository)
    target = f"{site.there}:v1"

    tag = engine.sync(f"{index.name}:v9", target)
    platform = engine.sync(index.reference, target, "--platform", "linux/s390x")

    assert (tag.code, platform.code) == (1, 4)
    assert "Newest tags: v1." in tag.err
    assert "linux/amd64, linux/arm64" in platform.err


def test_logins_for_pull_and_push(site: Site, engine: Engine, basic_registry: DockerRegistry) -> None:
    image = push_image(site.target, site.repository)
    target = f"{basic_registry.host}/{site.repository}:v1"
    engine.log_in(basic_registry.host, USER, PASSWORD)

    there = engine.sync(image.reference, target)
    back = engine.sync(target, f"{image.name}:back")

    assert (there.code, back.code) == (0, 0), there.err + back.err
    assert skopeo_inspect(target, f"{USER}:{PASSWORD}") == back.json()["images"][0]["source_digest"]


@pytest.mark.parametrize("way", ["pull", "push"])
def test_wrong_password(site: Site, engine: Engine, basic_registry: DockerRegistry, way: str) -> None:
    ours = push_image(basic_registry, site.repository).reference
    theirs = push_image(site.target, site.repository).reference
    engine.log_in(basic_registry.host, USER, "wrong-secret")
    start = time.monotonic()

    done = engine.sync(*((ours, theirs) if way == "pull" else (theirs, f"{ours}-new")))

    assert done.code == 1
    assert f"{basic_registry.host} does not let user '{USER}' pull {site.repository}" in done.err
    assert "wrong-secret" not in done.out + done.err
    assert time.monotonic() - start < SOON_SECONDS


def test_denied_push_fails_early(
    site: Site, engine: Engine, token_registry: DockerRegistry, tokens: TokenServer
) -> None:
    image = site.push()
    tokens.accounts["reader"] = ("a-password", "pull")
    engine.log_in(token_registry.host, "reader", "a-password")
    start = time.monotonic()

    done = engine.sync(image.reference, f"{token_registry.host}/{site.repository}:v1")

    assert done.code == 1
    assert f"does not let user 'reader' pull and push {site.repository}" in done.err
    assert time.monotonic() - start < SOON_SECONDS


def test_error_in_the_stream_is_an_error(site: Site, engine: Engine) -> None:
    image = site.push()
    body = b'{"errors":[{"code":"TAG_INVALID","message":"the tag is immutable"}]}'
    proxy = site.faulty(site.target, Fault(Kind.STATUS, "PUT .*/manifests/", times=None, status=400, body=body))
    target = f"{proxy.host}/{site.repository}:v1"
    image_id = engine.client.images.pull(image.name, tag="v1").id
    engine.client.images.get(image.reference).tag(proxy.host + f"/{site.repository}", "v1")

    done = engine.sync(image.reference, target)

    assert done.code == 1
    assert "the tag is immutable" in done.err
    assert site.digest() is None
    assert engine.client.images.get(target).id == image_id, "a tag that was there before is not taken away"


def test_missing_engine_is_an_error(site: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")

    done = engine.sync(f"{site.source.host}/{site.repository}:v1", f"{site.source.host}/other:v1")

    assert done.code == 1
    assert "cannot connect to the Docker engine" in done.err
    assert "--engine registry" in done.err


@pytest.fixture
def copies(engine: Engine) -> DockerCopies:
    """If only the engine reaches the registries."""
    logins = partial(stored_login, os.environ)
    nowhere = Registry("127.0.0.1:9", logins, Transport(Limits(attempts=1)))
    return DockerCopies(DockerEngine(), logins, lambda _: nowhere)


def request_for(source: str, target: str, platform: str = "linux/amd64") -> CopyRequest:
    there = ImageReference.parse(target)
    return CopyRequest("image", ImageReference.parse(source), there, Platform.parse(platform), RunsOn.LAMBDA)


def test_copy_if_only_the_engine_reaches_the_registries(site: Site, copies: DockerCopies) -> None:
    index = push_index(site.source, site.repository)
    request = request_for(index.reference, f"{site.there}:v1")

    done = copies.copy(copies.check(request), Progress())

    assert "media types of its layers were not checked" in done.notes[0]
    assert (done.source_digest, done.target_digest) == (index.digest, skopeo_inspect(str(request.target)))
    assert copies.check(request).outlook.status == "up-to-date"
    other = push_image(site.source, f"{site.repository}/other", layers=[Layer(seed=7)])
    with pytest.raises(RefusedError, match="already has another image"):
        copies.check(request_for(other.reference, str(request.target)))
    with pytest.raises(RefusedError, match="no image for linux/s390x"):
        copies.check(request_for(index.reference, f"{site.there}:v2", "linux/s390x"))


def test_pulled_image_of_another_platform_is_refused(site: Site, copies: DockerCopies) -> None:
    image = site.push(architecture="arm64")
    request = request_for(image.reference, f"{site.there}:v1")

    checked = copies.check(request)
    with pytest.raises(RefusedError, match="built for linux/arm64"):
        copies.copy(checked, Progress())

    assert site.digest() is None
