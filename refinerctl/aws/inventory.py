"""What a private registry holds, and who uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.images import INDEX_TYPES, ImageReference

# How tools that know no referrers API attach a signature or an attestation to an image:
# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema
_REFERRER_TAG = re.compile(r"sha256-([0-9a-f]{64})(?:\..+)?", re.ASCII)


@dataclass(frozen=True)
class RepositorySettings:
    """What stack `registry` gives its repositories; the defaults are those of its variables.

    `kms_key_arn` None encrypts with AES-256.
    """

    untagged_expiry_days: int = 30
    kms_key_arn: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, variables: Mapping[str, Any]) -> RepositorySettings:
        """From the stack's variables; raises RefinerctlError for values that it would not take."""
        days, key, tags = (variables.get(name) for name in ("untagged_expiry_days", "kms_key_arn", "tags"))
        try:
            return cls(
                untagged_expiry_days=cls.untagged_expiry_days if days is None else int(days),
                kms_key_arn=key or None,
                tags={name: str(value) for name, value in (tags or {}).items()},
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise RefinerctlError(f"the variables of stack registry make no sense: {error}") from error


@dataclass(frozen=True)
class EcrImage:
    """An image, index or artifact of an ECR repository, with times in UTC.

    `subject` is the digest of the image that it is attached to, as a signature is.
    """

    repository: str
    digest: str
    tags: tuple[str, ...] = ()
    pushed_at: datetime = datetime.min
    size_bytes: int = 0
    media_type: str = ""
    last_pull: datetime | None = None
    subject: str | None = None

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def subjects(self) -> frozenset[str]:
        """Digests of the images that this one says something about: it is of no use without them, and part of them."""
        by_tag = (_REFERRER_TAG.fullmatch(tag) for tag in self.tags)
        found = {f"sha256:{match[1]}" for match in by_tag if match}
        return frozenset(found | {self.subject}) if self.subject else frozenset(found)


@dataclass(frozen=True)
class DeleteFailure:
    """An image that ECR did not delete. `code` is ECR's ImageFailureCode."""

    repository: str
    digest: str
    code: str
    reason: str


class UseKind(StrEnum):
    FUNCTION = "function"
    TASK_DEFINITION = "task-definition"
    TASK = "task"
    RELEASE = "release"


@dataclass(frozen=True)
class ImageUse:
    """Who uses which image: `name` is `function:version`, `family:revision` (a task's, too), or `environment:tag`."""

    kind: UseKind
    name: str
    image: ImageReference
    aliases: tuple[str, ...] = ()

    def is_of(self, image: EcrImage) -> bool:
        """Whether this is the image in use.

        By repository and digest, whatever the registry's host: it has several names. Without a digest by tag.
        """
        if self.image.repository != image.repository:
            return False
        if self.image.digest:
            return self.image.digest == image.digest
        return (self.image.tag or "latest") in image.tags


@dataclass(frozen=True)
class ImageUsage:
    """Who uses images; `unknown` says of whom that could not be read, and why."""

    uses: tuple[ImageUse, ...] = ()
    unknown: tuple[str, ...] = ()

    def of(self, image: EcrImage) -> tuple[ImageUse, ...]:
        return tuple(use for use in self.uses if use.is_of(image))


@dataclass(frozen=True)
class ListedImage:
    """An image and who uses it."""

    image: EcrImage
    used_by: tuple[ImageUse, ...]


@dataclass(frozen=True)
class KeptImage:
    """An image that is not to be removed, and why."""

    image: EcrImage
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class PrunePlan:
    """What to remove, in an order in which ECR does it: an index goes before the images that it refers to."""

    remove: tuple[EcrImage, ...]
    keep: tuple[KeptImage, ...]


@dataclass(frozen=True)
class PruneResult:
    """What was removed and what was not."""

    removed: tuple[EcrImage, ...]
    failures: tuple[DeleteFailure, ...]


@dataclass(frozen=True)
class TagImage:
    """One image of a tag: `source` is its reference where releases are published, `digest` the one in ECR."""

    name: str
    source: str
    in_ecr: bool
    digest: str | None = None


@dataclass(frozen=True)
class TagStatus:
    """A tag of the source registry: its images, and the environments that have it deployed."""

    tag: str
    images: tuple[TagImage, ...]
    deployed: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether an image of it is yet to be copied to ECR."""
        return not all(image.in_ecr for image in self.images)


@dataclass(frozen=True)
class EnvironmentRelease:
    """What an environment has deployed; `error` says why that is not known (None). A release may have no tag."""

    name: str
    is_deployed: bool | None = False
    tag: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class ReleaseOverview:
    """Tags, newest first, `left_out` of them not looked at; `missing` are repositories that ECR does not have."""

    tags: tuple[TagStatus, ...]
    environments: tuple[EnvironmentRelease, ...] = ()
    missing: tuple[str, ...] = ()
    left_out: int = 0
