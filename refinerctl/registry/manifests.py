"""Manifests and configs of images, and which image a service runs.

https://github.com/opencontainers/image-spec
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.images import INDEX_TYPES, MANIFEST_TYPES, Platform, RunsOn, is_digest

_CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
# What each service runs: https://docs.aws.amazon.com/lambda/latest/dg/images-create.html
_LAMBDA_LAYERS = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
_LAYERS = {
    RunsOn.LAMBDA: _LAMBDA_LAYERS,
    RunsOn.ECS: (*_LAMBDA_LAYERS, "application/vnd.oci.image.layer.v1.tar+zstd"),
}
# Uncompressed, all layers together: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
_MAX_BYTES = {RunsOn.LAMBDA: 10 * 1024**3}
_FOREIGN = ("foreign", "nondistributable")
# An annotation of eStargz; nothing else in a manifest tells a gzip layer's uncompressed size.
_UNCOMPRESSED_SIZE = "io.containers.estargz.uncompressed-size"


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
        """Whether an index's entry is an image. buildx adds attestations too, for platform unknown/unknown."""
        unknown = self.platform is not None and self.platform.os == "unknown"
        return not unknown and "vnd.docker.reference.type" not in self.annotations


@dataclass(frozen=True)
class Manifest:
    """A manifest. `raw` are its bytes as the registry stores them, `digest` is their hash.

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
        """The image's config and layers, each digest once."""
        every = (self.config, *self.layers) if self.config else self.layers
        return tuple({blob.digest: blob for blob in every}.values())

    @property
    def size(self) -> int:
        """Bytes of all blobs, as the registry stores them."""
        return sum(blob.size for blob in self.blobs)

    def platforms(self) -> tuple[Platform, ...]:
        """The platforms of an index's images, each once."""
        return tuple(dict.fromkeys(entry.platform for entry in self.manifests if entry.platform and entry.is_image))

    def entry(self, platform: Platform) -> Descriptor | None:
        """The image of an index for `platform`."""
        return next((entry for entry in self.manifests if entry.platform == platform and entry.is_image), None)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse_manifest(raw: bytes, content_type: str) -> Manifest:
    """Read a manifest. `content_type` is the response's, for documents without a media type.

    Raises RefinerctlError for other documents than images and indexes, and for schema 1.
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
        raise RefinerctlError(f"the registry sent an invalid manifest: {error!r}") from error
    raise RefinerctlError(
        f"manifests of media type {media_type!r} are not supported",
        hint="Build the image with a current docker, buildah or ko: OCI or Docker version 2, schema 2.",
    )


def _descriptor(entry: dict[str, Any]) -> Descriptor:
    platform = entry.get("platform")
    digest, size = str(entry["digest"]), int(entry["size"])
    if not is_digest(digest) or size < 0:  # it becomes part of a URL
        raise ValueError(f"{digest!r} of {size} bytes is not a descriptor")
    return Descriptor(
        media_type=str(entry["mediaType"]),
        digest=digest,
        size=size,
        platform=Platform(str(platform["os"]), str(platform["architecture"])) if platform else None,
        annotations={str(key): str(value) for key, value in (entry.get("annotations") or {}).items()},
        urls=tuple(entry.get("urls") or ()),
    )


def config_platform(config: bytes) -> Platform:
    """The platform that an image's config names. Raises RefinerctlError for a config that cannot be read."""
    try:
        document = json.loads(config)
        return Platform(str(document["os"]), str(document["architecture"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RefinerctlError(f"the image's config cannot be read: {error}") from error


def config_created(config: bytes) -> datetime | None:
    """When the image was built, in UTC; None if its config does not say."""
    try:
        moment = datetime.fromisoformat(str(json.loads(config)["created"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def config_base(config: bytes) -> str | None:
    """The image that it was built on, `name@digest` as far as its OCI labels say so; None without them."""
    try:
        labels = json.loads(config)["config"]["Labels"]
        name, digest = (str(labels.get(f"org.opencontainers.image.base.{what}") or "") for what in ("name", "digest"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return "@".join(filter(None, [name, digest if "@" not in name else ""])) or None


def unacceptable(manifest: Manifest, config: bytes | None, runs_on: RunsOn, platform: Platform) -> tuple[str, ...]:
    """Why `runs_on` cannot run the image on `platform`; empty if it can.

    Without `config` the architecture is not checked.
    """
    if manifest.is_index or manifest.config is None:
        return ("it is an index, not one image manifest",)
    problems = []
    if manifest.config.media_type not in _CONFIG_TYPES:
        problems.append(f"its config is {manifest.config.media_type}, not a container image's")
    for layer in manifest.layers:
        which = f"layer {layer.digest[:19]}…"
        if layer.urls or any(word in layer.media_type for word in _FOREIGN):
            problems.append(f"{which} is foreign ({layer.media_type}): it is not in the registry")
        elif layer.media_type not in _LAYERS[runs_on]:
            problems.append(f"{which} is {layer.media_type}")
    if config is not None and (found := config_platform(config)) != platform:
        problems.append(f"it is built for {found}, not for {platform}")
    if problem := too_large(_least_size(manifest), runs_on):
        problems.append(problem)
    return tuple(problems)


def too_large(size_bytes: int, runs_on: RunsOn) -> str | None:
    """What is wrong with an image of so many bytes, uncompressed; None if the service runs it."""
    limit = _MAX_BYTES.get(runs_on)
    if limit is None or size_bytes <= limit:
        return None
    return f"it has at least {size_bytes / 1e9:.1f} GB uncompressed; {runs_on.label} takes {limit / 1e9:.1f}"


def _least_size(manifest: Manifest) -> int:
    """Uncompressed bytes, at least: a gzip layer counts with its compressed size unless an annotation says more."""
    sizes = (layer.annotations.get(_UNCOMPRESSED_SIZE, "") for layer in manifest.layers)
    return sum(
        max(layer.size, int(size) if size.isdecimal() else 0)
        for layer, size in zip(manifest.layers, sizes, strict=True)
    )
