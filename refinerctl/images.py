"""Container images: references, tags, platforms, which service runs one, and who has to have built it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from refinerctl.errors import UsageError

# https://github.com/distribution/reference: a first component with a dot or a colon, or localhost, is the registry.
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:\[[0-9a-fA-F:]+\](?::\d+)?|[a-zA-Z0-9.-]*[.:][a-zA-Z0-9.:-]+|localhost)"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>{_HOST})/)?(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_LONG_DIGEST = re.compile(r"(sha256[:-][0-9a-f]{12})[0-9a-f]{52}", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
# https://docs.aws.amazon.com/general/latest/gr/ecr.html. A host with a longer name gets no login.
_ECR_HOST = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\."
    r"(?:amazonaws\.(?:com(?:\.cn)?|eu)|on\.(?:aws|amazonwebservices\.(?:com\.cn|eu))"
    r"|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)",
    re.ASCII,
)

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)


@dataclass(frozen=True)
class ImageReference:
    """`[registry/]repository[:tag][@digest]`. What a missing registry means depends on the reader."""

    repository: str
    registry: str | None = None
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Raises UsageError for other text."""
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise UsageError(
                f"{text!r} is not an image reference",
                hint="Use the form [registry/]repository[:tag][@sha256:…], in lower case.",
            )
        return cls(match["repository"], match["registry"], match["tag"], match["digest"])

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def ecr(self) -> tuple[str, str] | None:
        """Account and region, if the registry has the name of a private ECR registry."""
        match = _ECR_HOST.fullmatch(self.registry or "")
        return (match["account"], match["region"]) if match else None

    @property
    def version(self) -> str:
        """The digest, else the tag, else `latest`: by it a registry finds the image."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> str:
        """The same repository by digest: `repository@sha256:…`."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def short_digests(text: str) -> str:
    """The text with only the first digits of each digest, for messages."""
    return _LONG_DIGEST.sub(r"\1…", text)


def is_tag(text: str) -> bool:
    """https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests"""
    return _TAG.fullmatch(text) is not None


def check_tag(tag: str) -> str:
    """Return `tag` if it is an OCI tag; raises UsageError otherwise."""
    if not is_tag(tag):
        raise UsageError(
            f"{tag!r} is not a tag",
            hint="A tag has 1 to 128 letters, digits, dots, hyphens and underscores, and does not start with . or -.",
        )
    return tag


_RELEASE_TAG = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?", re.ASCII)


def release_order(tag: str) -> tuple[Any, ...] | None:
    """The sort key of a release tag, oldest first (https://semver.org, section 11); None for other tags."""
    match = _RELEASE_TAG.fullmatch(tag)
    if match is None:
        return None
    numbers = tuple(int(part) for part in match.groups()[:3])
    if match[4] is None:
        return (*numbers, 1, ())
    parts = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in match[4].split("."))
    return (*numbers, 0, parts)


def newest_first(tags: list[str]) -> list[str]:
    """Release tags by version, newest first, then the others by name."""
    releases = sorted(
        (tag for tag in tags if release_order(tag)), key=lambda tag: release_order(tag) or (), reverse=True
    )
    return releases + sorted(tag for tag in tags if not release_order(tag))


@dataclass(frozen=True)
class Platform:
    """`linux/amd64`, `linux/arm64`."""

    os: str
    architecture: str

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Raises UsageError for other text."""
        system, _, architecture = text.partition("/")
        if not system or not architecture or "/" in architecture:
            raise UsageError(f"{text!r} is not a platform", hint="Use a platform such as linux/amd64 or linux/arm64.")
        return cls(system, architecture)

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


DEFAULT_PLATFORM = Platform("linux", "amd64")


@dataclass(frozen=True)
class BuildContext:
    """What an image is built from: the folder that the build sees, and the Dockerfile's path in it."""

    folder: Path
    dockerfile: str = "Dockerfile"

    @property
    def dockerfile_path(self) -> Path:
        return self.folder / self.dockerfile

    @property
    def own_folder(self) -> Path:
        """The folder of the Dockerfile, with what only this image has."""
        return self.dockerfile_path.parent


_REQUIREMENT = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<workflow>[^@\s]+))?", re.ASCII)
WORKFLOWS_FOLDER = ".github/workflows/"


@dataclass(frozen=True)
class BuiltBy:
    """Who has to have built an image: a GitHub repository, and a workflow in it by its path, None for any."""

    repository: str
    workflow: str | None = None

    @classmethod
    def parse(cls, text: str) -> BuiltBy:
        """From `OWNER/REPO[@WORKFLOW]`; a workflow without folder is one in .github/workflows. Raises UsageError."""
        match = _REQUIREMENT.fullmatch(text)
        if match is None:
            raise UsageError(
                f"{text!r} is not a GitHub repository with a workflow",
                hint="Use OWNER/REPO or OWNER/REPO@WORKFLOW, such as example/app@.github/workflows/release.yml.",
            )
        workflow = match["workflow"]
        if workflow and "/" not in workflow:
            workflow = WORKFLOWS_FOLDER + workflow
        return cls(match["repository"], workflow)

    def __str__(self) -> str:
        return self.repository + (f"@{self.workflow}" if self.workflow else "")


@dataclass(frozen=True)
class Build:
    """The workflow run that built an image, by its verified certificate. `ref` is as refs/tags/v1.2.3."""

    repository: str
    workflow: str
    ref: str
    commit: str
    run_url: str

    def __str__(self) -> str:
        return f"{self.repository}/{self.workflow} at {self.ref.removeprefix('refs/tags/')}, commit {self.commit[:12]}"


class RunsOn(StrEnum):
    """The service that runs an image: each accepts other forms."""

    LAMBDA = "lambda"
    ECS = "ecs"

    @property
    def label(self) -> str:
        """Its name in messages."""
        return {RunsOn.LAMBDA: "Lambda", RunsOn.ECS: "ECS"}[self]


@dataclass(frozen=True)
class ImageSettings:
    """An image of this project: its ECR repository and what it is built from.

    `source` is the repository that releases are published to; `stack` deploys it on `platform`, in service `runs_on`.
    An image of no stack ("") is deployed by none, and runs in no service. Releases have it for `other_platforms`, too.
    `built_by`: only images that this workflow has verifiably built are copied; None: any.
    """

    name: str
    repository: str
    context: BuildContext
    source: ImageReference | None = None
    stack: str = ""
    platform: Platform = DEFAULT_PLATFORM
    other_platforms: tuple[Platform, ...] = ()
    runs_on: RunsOn | None = None
    built_by: BuiltBy | None = None

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """All platforms that releases have it for."""
        return (self.platform, *self.other_platforms)


UseKind = Literal["function", "task-definition", "task", "release"]


@dataclass(frozen=True)
class ImageUse:
    """A user of an image: `name` is `function:version`, `family:revision` (a task's, too), or `environment:tag`."""

    kind: UseKind
    name: str
    image: ImageReference
    aliases: tuple[str, ...] = ()

    def is_of(self, repository: str, digest: str, tags: tuple[str, ...]) -> bool:
        """Whether it uses this image: by digest, else by tag. The registry does not count: it has several names."""
        if self.image.repository != repository:
            return False
        return self.image.digest == digest if self.image.digest else (self.image.tag or "latest") in tags
