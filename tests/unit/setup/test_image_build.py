"""`refinerctl image build`: what would be built, and what is refused before an engine is asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from refinerctl.setup.image_build import base_images
from tests.command import Command

TOML = """
[images.app]
repository = "team/app"
context = "images"
dockerfile = "app/Dockerfile"
source = "ghcr.io/team/app"

[images.tools]
repository = "team/tools"
context = "."
source = "ghcr.io/team/tools"
stack = ""
other_platforms = ["linux/arm64"]

[images.private]
repository = "team/private"
context = "images/app"
"""


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "refinerctl.toml").write_text(TOML)
    for folder in (".", "images/app"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "Dockerfile").write_text("ARG BASE=example.com/base:1\nFROM ${BASE}\n")
    monkeypatch.chdir(tmp_path)
    # Nothing here may need an engine.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    return tmp_path


@pytest.fixture
def commit(project: Path) -> str:
    """The project's commit."""
    git(project, "init", "--quiet")
    git(project, "remote", "add", "origin", "https://ci-token:s3cret@git.example.com/team/app.git")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "first")
    return git(project, "rev-parse", "HEAD")


def test_dry_run_is_what_the_release_workflow_reads(refinerctl: Command, commit: str) -> None:
    arguments = ["--tag", "v1.2.3", "--build-arg", "NPM_TOKEN=s3cret", "--dry-run", "--output", "json"]
    done = refinerctl("image", "build", "app", "tools", *arguments)

    assert done.code == 0, done.err
    app, tools = done.json()["images"]
    assert app == {
        "name": "app",
        "source": "ghcr.io/team/app",
        "target": "ghcr.io/team/app:v1.2.3",
        "status": "would-build",
        "context": "images",
        "dockerfile": "images/app/Dockerfile",
        "platform": "linux/amd64",
        "platforms": ["linux/amd64"],
        "bases": {"BASE": "example.com/base:1"},
        "labels": {
            "org.opencontainers.image.version": "v1.2.3",
            "org.opencontainers.image.revision": commit,
            "org.opencontainers.image.source": "https://git.example.com/team/app",
        },
        "arguments": {"VERSION": "v1.2.3", "REVISION": commit},
        "build_args": ["NPM_TOKEN"],
        "digest": None,
    }
    assert (tools["context"], tools["dockerfile"]) == (".", "Dockerfile")
    assert tools["platforms"] == ["linux/amd64", "linux/arm64"]
    assert "s3cret" not in done.out + done.err


def test_base_images_are_those_that_an_argument_can_replace() -> None:
    dockerfile = """
ARG BASE=python:3.12
ARG TOOLS=example.com/tools:1
ARG VERSION=dev
FROM --platform=linux/amd64 ${TOOLS} AS tools
FROM ${BASE}
FROM scratch
"""
    assert base_images(dockerfile) == {"TOOLS": "example.com/tools:1", "BASE": "python:3.12"}


def test_tag_is_the_commit(refinerctl: Command, project: Path, commit: str) -> None:
    assert f"ghcr.io/team/app:{commit}\n" in refinerctl("image", "build", "app", "--dry-run").out
    (project / "images" / "new.py").touch()
    assert f"ghcr.io/team/app:{commit}-dirty\n" in refinerctl("image", "build", "app", "--dry-run").out


def test_image_without_git_has_no_revision(refinerctl: Command, project: Path) -> None:
    (image,) = refinerctl("image", "build", "private", "--dry-run", "--output", "json").json()["images"]

    assert (image["target"], image["labels"]) == ("team/private:dev", {"org.opencontainers.image.version": "dev"})


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nope",), 2, "no image 'nope'\n  Images: app, tools, private."),
        ((), 2, "name the images to build, or pass --all\n  Images of refinerctl.toml: app, tools, private."),
        (("app", "--all"), 2, "NAME and --all are mutually exclusive"),
        (("app", "--platform", "linux/arm64"), 2, "not published for linux/arm64\n  Its platforms"),
        (("app", "--build-arg", "BASE"), 2, "'BASE' is not NAME=VALUE"),
        (("private", "--push"), 2, "image 'private' has no source"),
        (("app",), 1, "nobody.sock: No such file or directory\n  Start the engine"),
    ],
)
def test_invalid_requests(refinerctl: Command, commit: str, words: tuple[str, ...], code: int, message: str) -> None:
    done = refinerctl("image", "build", *words)

    assert (done.code, done.out) == (code, "")
    assert message in done.err


def test_outside_of_a_project(refinerctl: Command, tmp_path: Path) -> None:
    done = refinerctl("image", "build", "app", cwd=tmp_path)

    assert done.code == 1
    assert "`refinerctl init DIR` creates one" in done.err


def test_missing_dockerfile(refinerctl: Command, project: Path) -> None:
    (project / "images/app/Dockerfile").unlink()

    done = refinerctl("image", "build", "app", "--dry-run")

    assert done.code == 1
    assert f"{project}/images/app/Dockerfile cannot be read: No such file" in done.err
    assert "[images.app]" in done.err


def test_only_committed_files_are_published(refinerctl: Command, project: Path) -> None:
    outside = refinerctl("image", "build", "app", "--push", "--dry-run")
    assert outside.code == 4
    assert f"{project}/images is not in a commit of a git repository" in outside.err


def test_files_that_are_not_committed_are_not_published(refinerctl: Command, project: Path, commit: str) -> None:
    (project / "images" / "new.py").touch()

    done = refinerctl("image", "build", "app", "--push", "--dry-run")

    assert done.code == 4
    assert f"files in {project}/images are not committed" in done.err
