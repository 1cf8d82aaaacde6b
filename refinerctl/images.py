"""Container images as registries and functions see them: references, manifests, what a service will run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from refinerctl.errors import RefinerctlError, UsageError

# https://github.com/distribution/reference: a first component with a dot or a colon, or localhost, is the registry.
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:\[[0-9a-fA-F:]+\](?::\d+)?|[a-zA-Z0-9.-]*[.:][a-zA-Z0-9.:-]+|localhost)"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>{_HOST})/)?(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
# https://docs.aws.amazon.com/general/latest/gr/ecr.html. Whoever has a longer name gets no login.
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

_CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_PLAIN_LAYERS = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
_GZIP_LAYERS = ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
_ZSTD_LAYERS = ("application/vnd.oci.image.layer.v1.tar+zstd",)
_FOREIGN = ("foreign", "nondistributable")
# eStargz says so in its annotations; nothing else in a manifest tells a gzip layer's size on disk.
_UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 10 GB uncompressed, all layers together.
LAMBDA_MAX_BYTES = 10 * 1024**3


@dataclass(frozen=True)
class ImageReference:
    """`[registry/]repository[:tag][@digest]`; without a registry it depends on who reads it which one is meant."""

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
                hint="It is [registry/]repository[:tag][@sha256:…] in lower case.",
            )
        return cls(match["repository"], match["registry"], match["tag"], match["digest"])

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def ecr(self) -> tuple[str, str] | None:
        """Account and region, if the registry is an ECR private one by its name."""
        match = _ECR_HOST.fullmatch(self.registry or "")
        return (match["account"], match["region"]) if match else None

    def at(self, digest: str) -> str:
        """The same repository by digest: `repository@sha256:…`."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def is_tag(text: str) -> bool:
    """https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests"""
    return _TAG.fullmatch(text) is not None


def check_tag(tag: str) -> str:
    """Return `tag` if it is an OCI tag; raises UsageError otherwise."""
    if not is_tag(tag):
        raise UsageError(
            f"{tag!r} is not a tag", hint="1 to 128 letters, digits, dots, hyphens and underscores; no leading . or -."
        )
    return tag


_RELEASE_TAG = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?", re.ASCII)


def release_order(tag: str) -> tuple[Any, ...] | None:
    """What release tags sort by, oldest first (https://semver.org, section 11); None for a tag that is no release."""
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
            raise UsageError(f"{text!r} is not a platform", hint="It is one like linux/amd64 or linux/arm64.")
        return cls(system, architecture)

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


DEFAULT_PLATFORM = Platform("linux", "amd64")


@dataclass(frozen=True)
class Descriptor:
    """A blob or manifest by digest. https://github.com/opencontainers/image-spec/blob/main/descriptor.md"""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Of an index's entries: not one of the attestations that buildx adds, for platform unknown/unknown."""
        unknown = self.platform is not None and self.platform.os == "unknown"
        return not unknown and "vnd.docker.reference.type" not in self.annotations


@dataclass(frozen=True)
class Manifest:
    """A manifest as the registry keeps it. `raw` are its very bytes, whose hash `digest` is.

    An index has `manifests` and no `config`; an image has `config` and `layers`.
    """

    media_type: str
    digest: str
    raw: bytes
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Everything that the image consists of, each digest once, the config first."""
        every = (self.config, *self.layers) if self.config else self.layers
        return tuple({blob.digest: blob for blob in every}.values())

    @property
    def size(self) -> int:
        """Bytes of all blobs, as the registry keeps them."""
        return sum(blob.size for blob in self.blobs)

    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of an index, each once, attestation manifests left out."""
        return tuple(dict.fromkeys(entry.platform for entry in self.manifests if entry.platform and entry.is_image))

    def entry(self, platform: Platform) -> Descriptor | None:
        """The manifest of an index that is for `platform`."""
        return next((entry for entry in self.manifests if entry.platform == platform and entry.is_image), None)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def parse_manifest(raw: bytes, content_type: str) -> Manifest:
    """Read a manifest. `content_type` is the registry's word, used where the document has none of its own.

    Raises RefinerctlError for what is neither an image nor an index, schema 1 among it.
    """
    try:
        document: dict[str, Any] = json.loads(raw)
        media_type = str(document.get("mediaType") or content_type.partition(";")[0].strip())
        if media_type in INDEX_TYPES:
            entries = tuple(_descriptor(entry) for entry in document["manifests"])
            return Manifest(media_type, digest_of(raw), raw, manifests=entries)
        if media_type in MANIFEST_TYPES:
            layers = tuple(_descriptor(entry) for entry in document["layers"])
            return Manifest(media_type, digest_of(raw), raw, config=_descriptor(document["config"]), layers=layers)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise RefinerctlError(f"the registry sent a manifest that cannot be read: {error!r}") from error
    raise RefinerctlError(
        f"manifests of media type {media_type!r} are not supported",
        hint="Build the image with a current docker, buildah or ko: OCI or Docker version 2, schema 2.",
    )


def _descriptor(entry: dict[str, Any]) -> Descriptor:
    platform = entry.get("platform")
    digest, size = str(entry["digest"]), int(entry["size"])
    if not is_digest(digest) or size < 0:  # it becomes part of a URL
        raise ValueError(f"{digest!r} of {size} bytes is no descriptor")
    return Descriptor(
        media_type=str(entry["mediaType"]),
        digest=digest,
        size=size,
        platform=Platform(str(platform["os"]), str(platform["architecture"])) if platform else None,
        annotations={str(key): str(value) for key, value in (entry.get("annotations") or {}).items()},
        urls=tuple(entry.get("urls") or ()),
    )


class RunsOn(StrEnum):
    """The service that is to run an image: each takes other forms."""

    LAMBDA = "lambda"
    ECS = "ecs"


def config_platform(config: bytes) -> Platform:
    """The platform that an image's config names. Raises RefinerctlError for a config that cannot be read."""
    try:
        document = json.loads(config)
        return Platform(str(document["os"]), str(document["architecture"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RefinerctlError(f"the image's config cannot be read: {error}") from error


def config_created(config: bytes) -> datetime | None:
    """When the image was built, in UTC; None where its config does not say."""
    try:
        moment = datetime.fromisoformat(str(json.loads(config)["created"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def unacceptable(manifest: Manifest, config: bytes | None, runs_on: RunsOn, platform: Platform) -> tuple[str, ...]:
    """Why `runs_on` would not run the image on `platform`; empty if it would.

    `config` None leaves the architecture unchecked.
    https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
    """
    if manifest.is_index or manifest.config is None:
        return ("it is an index, not one image manifest",)
    problems = []
    if manifest.config.media_type not in _CONFIG_TYPES:
        problems.append(f"its config is {manifest.config.media_type}, not a container image's")
    for layer in manifest.layers:
        problems += _layer_problems(layer, runs_on)
    if config is not None and (found := config_platform(config)) != platform:
        problems.append(f"it is built for {found}, not for {platform}")
    if runs_on is RunsOn.LAMBDA and (size := _least_size(manifest)) > LAMBDA_MAX_BYTES:
        problems.append(f"it has at least {size / 1e9:.1f} GB uncompressed; Lambda takes {LAMBDA_MAX_BYTES / 1e9:.1f}")
    return tuple(problems)


def _layer_problems(layer: Descriptor, runs_on: RunsOn) -> list[str]:
    which = f"layer {layer.digest[:19]}…"
    if layer.urls or any(word in layer.media_type for word in _FOREIGN):
        return [f"{which} is foreign ({layer.media_type}): it is not in the registry"]
    accepted = (*_PLAIN_LAYERS, *_GZIP_LAYERS, *(_ZSTD_LAYERS if runs_on is RunsOn.ECS else ()))
    return [] if layer.media_type in accepted else [f"{which} is {layer.media_type}"]


def _least_size(manifest: Manifest) -> int:
    """Uncompressed bytes, at least: a gzip layer counts with what it has compressed unless it says more."""
    sizes = (layer.annotations.get(_UNCOMPRESSED_SIZE, "") for layer in manifest.layers)
    return sum(
        max(layer.size, int(size) if size.isdecimal() else 0)
        for layer, size in zip(manifest.layers, sizes, strict=True)
    )


class CopyStatus(StrEnum):
    COPIED = "copied"
    UP_TO_DATE = "up-to-date"
    WOULD_COPY = "would-copy"


@dataclass(frozen=True)
class ImageCopy:
    """What became of one image. `source` and `target` are references with tag; counts are of blobs, config included.

    In a dry run the counts say what the run would do.
    """

    name: str
    source: str
    target: str
    source_digest: str
    target_digest: str | None
    platform: str | None
    status: CopyStatus
    bytes_copied: int = 0
    blobs_copied: int = 0
    blobs_mounted: int = 0
    blobs_skipped: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
