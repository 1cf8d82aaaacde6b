"""`releases`, `images list` and `images prune`: the emulator's ECR, Lambda, ECS and ledgers, a real source registry."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pexpect
import pytest

from refinerctl.aws.ecr import EcrRegistry
from refinerctl.aws.ecs import task_images
from refinerctl.aws.session import AwsSession
from refinerctl.images import OCI_INDEX, OCI_MANIFEST
from refinerctl.ledger.entries import Release, ReleaseAction, dump_releases
from refinerctl.registry.manifests import digest_of
from tests.command import Command
from tests.registries.docker_registry import DockerRegistry
from tests.registries.faulty_proxy import Fault, Kind, faulty_proxy
from tests.registries.images import MadeImage, push_image, push_manifest

# Staging needs other credentials, which these tests do not have.
PRUNE = ("images", "prune", "--ignore-environment", "staging")

HOST = "000000000000.dkr.ecr.us-east-1.amazonaws.com"
ROLE = "arn:aws:iam::000000000000:role/anybody"


@dataclass(frozen=True)
class Stage:
    """A project, its ECR repository in the emulator, and its source registry."""

    run: Command
    session: AwsSession
    source: DockerRegistry
    repository: str
    state: str

    def put(self, tag: str | None, content: str, *children: str) -> str:
        """An image in ECR; one with `children` is an index of them."""
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX if children else OCI_MANIFEST}
        if children:
            document["manifests"] = [{"mediaType": OCI_MANIFEST, "digest": child, "size": 1} for child in children]
        document["annotations"] = {"content": content}
        text = json.dumps(document)
        given: Any = {"imageTag": tag} if tag else {}
        self.session.client("ecr").put_image(
            repositoryName=self.repository,
            imageManifest=text,
            imageManifestMediaType=document["mediaType"],
            imageDigest=digest_of(text.encode()),
            **given,
        )
        return digest_of(text.encode())

    def function(self, name: str, digest: str) -> None:
        self.session.client("lambda").create_function(
            FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": self.uri(digest)}
        )

    def record(self, *tags_and_digests: tuple[str, str], env: str = "account") -> None:
        """Write the ledger of an environment, a day between two releases."""
        releases = [
            Release(
                ReleaseAction.DEPLOY,
                tag,
                {"RefinerInput": self.uri(digest)},
                who="alice",
                at=datetime(2026, 3, day, tzinfo=UTC),
            )
            for day, (tag, digest) in enumerate(tags_and_digests, 1)
        ]
        key = f"{env}/refiner.releases.json"
        self.session.client("s3").put_object(Bucket=self.state, Key=key, Body=dump_releases(releases))

    def publish(self, *tags: str) -> MadeImage:
        made = push_image(self.source, self.repository, tags[0])
        for tag in tags[1:]:
            push_manifest(self.source, self.repository, tag, made.raw, made.media_type)
        return made

    def uri(self, digest: str) -> str:
        return f"{HOST}/{self.repository}@{digest}"

    def digests(self) -> set[str]:
        return {image.digest for image in EcrRegistry(self.session).images(self.repository)}


@pytest.fixture
def stage(
    refinerctl: Command,
    session: AwsSession,
    source_registry: DockerRegistry,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    repository, state = f"team/{unique}", f"state-{unique}"
    _project(tmp_path, repository, f"{source_registry.host}/{repository}", state)
    monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", str(session.endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.chdir(tmp_path)
    session.client("s3").create_bucket(Bucket=state)
    EcrRegistry(session).create_repository(repository)
    yield Stage(refinerctl, session, source_registry, repository, state)
    for page in session.client("lambda").get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            if function["FunctionName"].startswith(unique):
                session.client("lambda").delete_function(FunctionName=function["FunctionName"])


def _project(folder: Path, repository: str, source: str, state: str) -> None:
    (folder / "refinerctl.toml").write_text(
        f"""
environment = "account"
[environments.account]
region = "us-east-1"
[environments.staging]
region = "us-east-1"
profile = "staging"
[environments.local]
embedded = true
[images.refiner]
repository = "{repository}"
context = "."
source = "{source}"
"""
    )
    stack = folder / "terraform" / "stacks" / "refiner"
    stack.mkdir(parents=True)
    (stack / "versions.tf").write_text('terraform {\n  backend "s3" {}\n}\n')
    for env in ("account", "staging"):
        config = folder / "terraform" / "environments" / env / "backend.hcl"
        config.parent.mkdir(parents=True)
        config.write_text(f'bucket = "{state}"\nkey = "{env}/refiner.tfstate"\nregion = "us-east-1"\n')


class TestReleases:
    def test_as_json(self, stage: Stage) -> None:
        stage.publish("v1.0.0", "v1.1.0", "latest")
        held = stage.put("v1.0.0", "one")
        stage.record(("v1.0.0", held))
        done = stage.run("releases", "--output", "json")
        assert done.code == 0, done.err
        source = f"{stage.source.host}/{stage.repository}"
        published = done.json()["releases"]
        copied = published[1]["images"][0]["pushed_at"]
        assert datetime.fromisoformat(copied) <= datetime.now(UTC)
        assert published == [
            {
                "tag": "v1.1.0",
                "images": [
                    {
                        "name": "refiner",
                        "source": f"{source}:v1.1.0",
                        "in_ecr": False,
                        "digest": None,
                        "pushed_at": None,
                    }
                ],
                "deployed": [],
            },
            {
                "tag": "v1.0.0",
                "images": [
                    {
                        "name": "refiner",
                        "source": f"{source}:v1.0.0",
                        "in_ecr": True,
                        "digest": held,
                        "pushed_at": copied,
                    }
                ],
                "deployed": ["account"],
            },
        ]
        assert "the release deployed in staging is unknown" in done.err

    def test_as_text(self, stage: Stage) -> None:
        stage.publish("v1.0.0", "v1.1.0", "v1.2.0")
        held = stage.put("v1.1.0", "one")
        stage.record(("v1.1.0", held))
        done = stage.run("releases", "--limit", "2")
        assert done.code == 0, done.err
        assert [line.split() for line in done.out.splitlines()] == [
            ["TAG", "IN", "ECR", "COPIED", "DEPLOYED"],
            ["v1.2.0", "no", "-", "-"],
            ["v1.1.0", held[:19], f"{datetime.now(UTC):%Y-%m-%d}", "account"],
            [],
            ["ENVIRONMENT", "RELEASE", "DEPLOYED", "AT", "BY"],
            ["account", "v1.1.0", "2026-03-01", "00:00Z", "alice"],
            ["staging", "unknown", "unknown", "unknown"],
        ]
        assert "1 older tags are not shown" in done.err
        assert "local" not in done.err
        assert "environment local is down: skipped" in stage.run("releases", "-v").err

    def test_new_prints_one_tag_per_line(self, stage: Stage) -> None:
        stage.publish("v1.0.0", "v1.10.0", "v1.9.0", "latest")
        stage.put("v1.0.0", "one")
        done = stage.run("releases", "--new")
        assert (done.code, done.out) == (5, "v1.10.0\nv1.9.0\n")
        done = stage.run("releases", "--new", "--output", "json")
        assert done.code == 5
        assert [item["tag"] for item in done.json()["releases"]] == ["v1.10.0", "v1.9.0"]
        stage.put("v1.10.0", "ten")
        assert stage.run("releases", "--new", "--limit", "1").code == 0

    def test_new_without_new_releases_prints_nothing(self, stage: Stage) -> None:
        stage.publish("v1.0.0")
        stage.put("v1.0.0", "one")
        done = stage.run("releases", "--new")
        assert (done.code, done.out) == (0, "")
        assert stage.run("releases", "--new", "--output", "json").json() == {"releases": []}

    def test_tags_of_several_pages(self, stage: Stage) -> None:
        made = stage.publish("v0.0.0")
        folder = _tags_folder(stage)
        for number in range(1, 1005):  # a request for each would take a minute
            link = folder / f"v0.0.{number}" / "current" / "link"
            link.parent.mkdir(parents=True)
            link.write_text(made.digest)
        done = stage.run("releases", "--new")
        assert len(done.out.splitlines()) == 1005
        assert done.out.startswith("v0.0.1004\nv0.0.1003\n")

    def test_every_release_is_new_without_the_ecr_repository(self, stage: Stage) -> None:
        stage.publish("v1.0.0")
        stage.session.client("ecr").delete_repository(repositoryName=stage.repository)
        done = stage.run("releases", "--new")
        assert (done.code, done.out) == (5, "v1.0.0\n")
        assert (
            "create it with `refinerctl deploy --stack registry` or `refinerctl sync --tag TAG --create-repository`"
            in done.err
        )

    def test_missing_source_repository_is_an_error(self, stage: Stage) -> None:
        done = stage.run("releases")
        assert (done.code, done.out) == (1, "")
        assert f"repository {stage.source.host}/{stage.repository} does not exist" in done.err


def _tags_folder(stage: Stage) -> Path:
    """Where the registry keeps tags: https://distribution.github.io/distribution/about/configuration/#filesystem"""
    (found,) = stage.source.folder.glob(f"**/repositories/{stage.repository}/_manifests/tags")
    return found


class TestList:
    def test_as_json(self, stage: Stage, unique: str) -> None:
        first, second = stage.put("v1.0.0", "one"), stage.put("v2.0.0", "two")
        stage.function(f"{unique}-refiner", first)
        stage.session.client("lambda").publish_version(FunctionName=f"{unique}-refiner")
        stage.session.client("lambda").create_alias(FunctionName=f"{unique}-refiner", Name="live", FunctionVersion="1")
        stage.record(("v2.0.0", second))
        done = stage.run("images", "list", "--output", "json")
        assert done.code == 0, done.err
        (listed,) = done.json()["repositories"]
        images = {image["digest"]: image for image in listed["images"]}
        assert listed["name"] == stage.repository
        assert images[first]["tags"] == ["v1.0.0"]
        assert images[first]["used_by"] == [
            {"kind": "function", "name": f"{unique}-refiner:$LATEST", "aliases": []},
            {"kind": "function", "name": f"{unique}-refiner:1", "aliases": ["live"]},
        ]
        assert [use["name"] for use in images[second]["used_by"]] == ["account:v2.0.0"]
        assert images[second]["media_type"] == OCI_MANIFEST

    def test_as_text(self, stage: Stage, unique: str) -> None:
        stage.put("v1.0.0", "one")
        stage.session.client("ecs").register_task_definition(
            family=f"{unique}-worker",
            containerDefinitions=[{"name": "w", "image": f"{HOST}/{stage.repository}:v1.0.0"}],
        )
        done = stage.run("images", "list")
        assert done.code == 0, done.err
        header, line = done.out.splitlines()
        assert header.split() == ["REPOSITORY", "DIGEST", "TAGS", "PUSHED", "SIZE", "USED", "BY"]
        assert line.endswith(f"task-definition {unique}-worker:1")

    def test_missing_repository_is_an_error(self, stage: Stage) -> None:
        stage.session.client("ecr").delete_repository(repositoryName=stage.repository)
        done = stage.run("images", "list")
        assert (done.code, done.out) == (1, "")
        assert f"ECR repository {stage.repository} does not exist" in done.err
        assert "refinerctl deploy --stack registry" in done.err

    def test_stack_without_images_is_an_error(self, stage: Stage) -> None:
        done = stage.run("images", "list", "--stack", "registry")
        assert done.code == 1
        assert "has no image of stack 'registry'" in done.err


class TestPrune:
    def test_unused_images_are_removed(self, stage: Stage, unique: str) -> None:
        names = [f"v1.{number}.0" for number in range(6)]
        held = {tag: stage.put(tag, tag) for tag in names}
        child, orphan = stage.put(None, "child"), stage.put(None, "orphan")
        index = stage.put("v2.0.0", "index", child)
        self._use(stage, unique, held)
        stage.record(*((tag, held[tag]) for tag in ("v1.3.0", "v1.4.0")))
        everything = stage.digests()

        done = stage.run(*PRUNE, "--keep", "1", "--min-age", "0")
        assert done.code == 0, done.err
        assert "this was a dry run; pass --yes to remove them" in done.err
        assert stage.digests() == everything
        gone = {held["v1.3.0"], held["v1.5.0"], orphan}
        assert {line.split()[1].partition("@")[2] for line in done.out.splitlines()} == gone

        done = stage.run(*PRUNE, "--keep", "1", "--min-age", "0", "--yes", "--output", "json")
        assert done.code == 0, done.err
        assert stage.digests() == everything - gone
        assert {index, child, held["v1.0.0"], held["v1.2.0"], held["v1.4.0"]} <= stage.digests()
        document = done.json()
        assert {item["digest"] for item in document["images"] if item["status"] == "removed"} == gone
        assert document["bytes_freed"] > 0
        kept = {item["digest"]: item["reasons"] for item in document["images"] if item["status"] == "kept"}
        assert f"function {unique}-old:1" in kept[held["v1.0.0"]]

        done = stage.run(*PRUNE, "--keep", "1", "--min-age", "0", "--yes")
        assert (done.code, done.out) == (0, "")

    def _use(self, stage: Stage, unique: str, held: dict[str, str]) -> None:
        """An old published version runs v1.0.0, the function itself v1.1.0, a task definition names v1.2.0."""
        functions = stage.session.client("lambda")
        stage.function(f"{unique}-old", held["v1.0.0"])
        functions.publish_version(FunctionName=f"{unique}-old")
        functions.update_function_code(FunctionName=f"{unique}-old", ImageUri=stage.uri(held["v1.1.0"]))
        for number in range(60):  # a page of Lambda's has 50
            stage.function(f"{unique}-{number:02}", held["v1.1.0"])
        stage.session.client("ecs").register_task_definition(
            family=f"{unique}-w", containerDefinitions=[{"name": "w", "image": f"{HOST}/{stage.repository}:v1.2.0"}]
        )

    def test_dry_run_takes_precedence_over_yes(self, stage: Stage) -> None:
        digest = stage.put(None, "one")
        done = stage.run(*PRUNE, "--min-age", "0", "--yes", "--dry-run", "--output", "json")
        assert (done.code, done.json()["bytes_freed"]) == (0, 0)
        assert done.json()["images"][0]["status"] == "would-remove"
        assert stage.digests() == {digest}

    @pytest.mark.parametrize(("answer", "left"), [("n", 1), ("y", 0)])
    def test_prompt_at_a_terminal(self, stage: Stage, answer: str, left: int) -> None:
        stage.put(None, "one")
        with _prompted() as terminal:
            terminal.sendline(answer)
        assert terminal.exitstatus == 0
        assert len(stage.digests()) == left

    def test_refused_if_the_ledger_of_another_environment_cannot_be_read(self, stage: Stage) -> None:
        digest = stage.put(None, "one")
        done = stage.run("images", "prune", "--min-age", "0", "--yes")
        assert done.code == 4
        assert "releases of staging, stack refiner: " in done.err
        assert stage.digests() == {digest}

    @pytest.mark.parametrize("name", ["stagging", "account"])
    def test_only_another_environment_can_be_ignored(self, stage: Stage, name: str) -> None:
        done = stage.run("images", "prune", "--ignore-environment", name)
        assert (done.code, done.out) == (2, "")
        assert f"'{name}' is not another environment" in done.err

    def test_image_used_during_the_prompt_is_kept(self, stage: Stage, unique: str) -> None:
        digest = stage.put(None, "one")
        with _prompted() as terminal:
            stage.function(f"{unique}-late", digest)
            terminal.sendline("y")
            terminal.expect("is now used, deleted or retagged; kept")
        assert stage.digests() == {digest}


@contextlib.contextmanager
def _prompted() -> Iterator[pexpect.spawn[str]]:
    """`prune` at a terminal, when it has asked whether to remove an image; it ends with the block."""
    arguments = ["-m", "refinerctl", *PRUNE, "--min-age", "0"]
    terminal = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=60)
    terminal.expect(r"Remove 1 image \(.*\) in the account at .*\? \[y/N\]")
    yield terminal
    terminal.expect(pexpect.EOF)
    terminal.close()


def test_task_definitions_of_several_pages(session: AwsSession, unique: str) -> None:
    ecs = session.client("ecs")
    for number in range(103):
        ecs.register_task_definition(
            family=f"{unique}-many", containerDefinitions=[{"name": "a", "image": f"app:v{number}"}]
        )
    ecs.deregister_task_definition(taskDefinition=f"{unique}-many:1")
    found = [use for use in task_images(session) if use.name.startswith(f"{unique}-many:")]
    assert len(found) == 102
    assert {use.image.tag for use in found} == {f"v{number}" for number in range(1, 103)}


DENIED = {
    "functions: access denied: ListFunctions": r"GET /2015-03-31/functions",
    "ECS task definitions: access denied: ListTaskDefinitions": r"POST /$",  # the first of the JSON services' calls
    "releases of account, stack refiner: access denied: GetObject": r"GET /state-.*/account/refiner.releases.json",
}


@pytest.mark.parametrize("lacking", DENIED)
def test_missing_permission_removes_nothing(stage: Stage, lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = stage.put("old", "one")
    headers, body = {"x-amzn-ErrorType": "AccessDeniedException"}, b'{"__type": "AccessDeniedException"}'
    if "GetObject" in lacking:
        body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    deny = Fault(Kind.STATUS, match=DENIED[lacking], status=403, headers=headers, body=body)
    upstream = str(stage.session.endpoint_url).removeprefix("http://")
    with faulty_proxy(upstream, deny) as proxy:
        monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", proxy.url)
        done = stage.run(*PRUNE, "--min-age", "0", "--yes")
        assert (done.code, done.out) == (4, "")
        assert lacking in done.err
        assert stage.digests() == {digest}

        deny.seen = 0
        done = stage.run("images", "list", "--output", "json")
        assert done.code == 0
        assert done.json()["repositories"][0]["images"][0]["tags"] == ["old"]
        assert lacking in done.json()["unknown"][0]
