"""What a destruction refuses, warns about and deletes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import pytest

from refinerctl.aws.bucket_versions import BucketVersions
from refinerctl.aws.ecr import DeleteFailure, EcrImage, EcrRegistry
from refinerctl.aws.sqs import QueueState
from refinerctl.console import Silent
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError
from refinerctl.releases.destroy import (
    delete_images,
    empty_buckets,
    filled_buckets,
    filled_repositories,
    waiting_messages,
)


@dataclass
class FakeVersions:
    """Buckets in memory: how many versions each holds."""

    buckets: dict[str, int]

    def any_in(self, bucket: str) -> bool:
        return self.buckets[bucket] > 0

    def delete_all(self, bucket: str, on_deleted: Callable[[int], None]) -> int:
        count, self.buckets[bucket] = self.buckets[bucket], 0
        on_deleted(count)
        return count

    @property
    def client(self) -> BucketVersions:
        return cast(BucketVersions, self)


class TestBuckets:
    def test_bucket_with_objects_is_refused_and_unchanged(self) -> None:
        versions = FakeVersions({"full": 3, "empty": 0})
        with pytest.raises(RefusedError, match=r"^full holds objects") as caught:
            filled_buckets(["full", "empty"], versions.client, empty=False)
        assert "--empty-bucket" in str(caught.value.hint)
        assert versions.buckets["full"] == 3

    def test_empty_bucket_is_accepted(self) -> None:
        assert filled_buckets(["empty"], FakeVersions({"empty": 0}).client, empty=False) == ()

    def test_option_empties_buckets_with_objects(self) -> None:
        versions = FakeVersions({"full": 3, "empty": 0})
        full = filled_buckets(["full", "empty"], versions.client, empty=True)
        assert full == ("full",)
        assert empty_buckets(full, versions.client, Silent()) == 3
        assert not versions.any_in("full")


@dataclass
class FakeEcr:
    """ECR in memory: deletes an index before what it refers to. `kept` are digests that it does not delete at all."""

    content: dict[str, list[str]]
    kept: tuple[str, ...] = ()

    def images(self, repository: str) -> Iterator[EcrImage]:
        if repository not in self.content:
            raise NotFoundError(repository)
        for digest in self.content[repository]:
            yield EcrImage(repository, digest, (), datetime.now(UTC), 1)

    def delete(self, repository: str, digests: Sequence[str]) -> list[DeleteFailure]:
        there = self.content[repository]
        stay = {digest for digest in digests if digest in self.kept or (digest == "part" and "index" in there)}
        self.content[repository] = [digest for digest in there if digest in stay or digest not in digests]
        return [DeleteFailure(repository, digest, "ImageReferencedByManifestList", "why") for digest in sorted(stay)]

    @property
    def client(self) -> EcrRegistry:
        return cast(EcrRegistry, self)


class TestRepositories:
    def test_repository_with_images_is_refused_and_unchanged(self) -> None:
        ecr = FakeEcr({"full": ["a"], "empty": []})
        with pytest.raises(RefusedError, match=r"^full holds images") as caught:
            filled_repositories(["full", "empty", "gone"], ecr.client, empty=False)
        assert "--empty-repositories" in str(caught.value.hint)
        assert ecr.content["full"] == ["a"]
        assert filled_repositories(["empty", "gone"], ecr.client, empty=False) == ()

    def test_option_deletes_images_that_refer_to_each_other(self) -> None:
        ecr = FakeEcr({"full": ["part", "index", "a"]})
        assert filled_repositories(["full"], ecr.client, empty=True) == ("full",)
        assert delete_images(["full"], ecr.client, Silent()) == 3
        assert ecr.content["full"] == []

    def test_image_that_ecr_keeps_is_an_error(self) -> None:
        with pytest.raises(RefinerctlError, match=r"did not delete a of full: .*why"):
            delete_images(["full"], FakeEcr({"full": ["a", "b"]}, kept=("a",)).client, Silent())


def test_warnings_name_queues_with_messages_and_unknown_ones() -> None:
    def depth(name: str) -> QueueState:
        if name == "gone":
            raise NotFoundError(name)
        if name == "secret":
            raise AccessDeniedError("access denied")
        return QueueState(name, visible=2 if name == "full" else 0, in_flight=1 if name == "full" else 0, delayed=0)

    assert waiting_messages(["full", "empty", "gone", "secret"], depth) == (
        "queue full holds about 3 messages, which will be lost",
        "it is unknown whether queue secret holds messages: access denied",
    )
