"""What a destruction warns about and deletes first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import pytest

from refinerctl.aws.ecr import EcrImage, EcrRegistry
from refinerctl.aws.sqs import QueueState
from refinerctl.console import Progress
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.releases.destroy import delete_images, waiting_messages


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

    def delete(self, repository: str, digests: Sequence[str]) -> dict[str, str]:
        there = self.content[repository]
        stay = {digest for digest in digests if digest in self.kept or (digest == "part" and "index" in there)}
        self.content[repository] = [digest for digest in there if digest in stay or digest not in digests]
        return dict.fromkeys(sorted(stay), "ImageReferencedByManifestList: why")

    @property
    def client(self) -> EcrRegistry:
        return cast(EcrRegistry, self)


class TestRepositories:
    def test_option_deletes_images_that_refer_to_each_other(self) -> None:
        ecr = FakeEcr({"full": ["part", "index", "a"]})
        assert delete_images(["full", "gone"], ecr.client, Progress()) == 3
        assert ecr.content["full"] == []

    def test_image_that_ecr_keeps_is_an_error(self) -> None:
        with pytest.raises(RefinerctlError, match=r"did not delete a of full: .*why"):
            delete_images(["full"], FakeEcr({"full": ["a", "b"]}, kept=("a",)).client, Progress())


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
