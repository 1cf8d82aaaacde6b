"""What `images prune` removes, and what it must keep."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.ecr import EcrImage, EcrRegistry
from refinerctl.errors import NotFoundError
from refinerctl.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, ImageReference, ImageUse, UseKind
from refinerctl.releases.prune import PrunePlan, make_plan, remove, still_unused

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = NOW - timedelta(days=30)
HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def image(number: int, *tags: str, repository: str = "app", media_type: str = OCI_MANIFEST, **more: object) -> EcrImage:
    given = {"pushed_at": OLD, "size_bytes": 10, **more}
    return EcrImage(repository, digest(number), tags, media_type=media_type, **given)  # type: ignore[arg-type]


def index_of(*children: int) -> bytes:
    entries = [{"mediaType": OCI_MANIFEST, "digest": digest(child), "size": 1} for child in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


@dataclass
class FakeEcr:
    """A registry that refuses what ECR refuses: to delete what an index of the repository refers to."""

    content: list[EcrImage]
    kept_manifests: dict[str, bytes] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    deleted: list[str] = field(default_factory=list)

    def images(self, repository: str) -> Iterable[EcrImage]:
        found = [image for image in self.content if image.repository == repository]
        if not found:
            raise NotFoundError(f"ECR repository {repository!r} does not exist")
        return found

    def manifests(self, repository: str, digests: Sequence[str]) -> Mapping[str, bytes]:
        return {digest: self.kept_manifests[digest] for digest in digests if digest in self.kept_manifests}

    def delete(self, repository: str, digests: Sequence[str]) -> dict[str, str]:
        if repository in self.denied:
            return dict.fromkeys(digests, "AccessDenied: access denied")
        failures = {}
        for item in digests:
            if any(item.encode() in raw for raw in self.kept_manifests.values()):
                failures[item] = "ImageReferencedByManifestList: it is"
            else:
                self.kept_manifests.pop(item, None)
                self.deleted.append(item)
        return failures


def use(reference: str, kind: UseKind = "function", name: str = "refiner:1") -> ImageUse:
    return ImageUse(kind, name, ImageReference.parse(reference))


def planned(
    ecr: FakeEcr, *uses: ImageUse, keep: int = 1, min_age_h: float = 24, of: Sequence[str] = ("app",)
) -> PrunePlan:
    return make_plan(cast("EcrRegistry", ecr), of, uses, keep, NOW - timedelta(hours=min_age_h))


def numbers(images: Iterable[EcrImage]) -> set[int]:
    return {int(image.digest.removeprefix("sha256:"), 16) for image in images}


def removed(ecr: FakeEcr, found: PrunePlan) -> list[str]:
    """The failures of `remove`."""
    return list(remove(cast("EcrRegistry", ecr), found).values())


def reasons(found: PrunePlan, number: int) -> str:
    return next("; ".join(why) for image, why in found.keep if image.digest == digest(number))


class TestKept:
    def test_newest_releases_by_version(self) -> None:
        ecr = FakeEcr(
            [
                image(1, "v1.9.0"),
                image(2, "v1.10.0", pushed_at=OLD - timedelta(days=9)),
                image(3, "v1.10.0-rc.1"),
                image(4, "latest"),
                image(5),
            ]
        )
        found = planned(ecr, keep=2)
        assert numbers(found.remove) == {1, 4, 5}
        assert reasons(found, 2) == "one of the newest 2 release tags: v1.10.0"

    def test_image_of_an_old_function_version(self) -> None:
        ecr = FakeEcr([image(1, "v1.0.0"), image(2, "v2.0.0")])
        found = planned(ecr, use(f"{HOST}/app@{digest(1)}", name="refiner:1"))
        assert found.remove == ()
        assert reasons(found, 1) == "function refiner:1"

    def test_image_of_a_task_definition_by_tag(self) -> None:
        ecr = FakeEcr([image(1, "v1.0.0"), image(2, "latest"), image(3, "other"), image(4, "v2.0.0")])
        definitions = [use(f"{HOST}/app:v1.0.0", "task-definition"), use("app", "task-definition")]
        assert numbers(planned(ecr, *definitions).remove) == {3}

    def test_use_of_another_repository_does_not_count(self) -> None:
        ecr = FakeEcr([image(1, "x"), image(2, "v2.0.0")])
        assert numbers(planned(ecr, use(f"{HOST}/other@{digest(1)}")).remove) == {1}

    def test_use_by_another_name_of_the_registry(self) -> None:
        ecr = FakeEcr([image(1, "x"), image(2, "v2.0.0")])
        name = "123456789012.dkr-ecr.us-east-1.on.aws"
        assert planned(ecr, use(f"{name}/app@{digest(1)}")).remove == ()

    def test_recently_pushed_images(self) -> None:
        young = NOW - timedelta(hours=1)
        ecr = FakeEcr([image(1, pushed_at=young), image(2, "v2.0.0")])
        assert planned(ecr).remove == ()
        assert numbers(planned(ecr, min_age_h=1).remove) == {1}

    def test_parts_of_an_index_at_every_level(self) -> None:
        content = [image(1, "v2.0.0", media_type=OCI_INDEX), image(2, media_type=DOCKER_LIST), *map(image, (3, 4, 5))]
        ecr = FakeEcr(content, {digest(1): index_of(2, 3), digest(2): index_of(4)})
        found = planned(ecr)
        assert numbers(found.remove) == {5}
        assert reasons(found, 4) == f"part of {digest(2)}"

    def test_artifacts_attached_to_a_kept_image(self) -> None:
        signature = f"sha256-{digest(1).removeprefix('sha256:')}.sig"
        lost = f"sha256-{digest(8).removeprefix('sha256:')}"
        ecr = FakeEcr(
            [
                image(1, "v2.0.0"),
                image(2, signature),
                image(3, subject=digest(1)),
                image(4, lost),
                image(5, subject=digest(3)),
            ]
        )
        found = planned(ecr)
        assert numbers(found.remove) == {4}
        assert reasons(found, 2) == f"attached to {digest(1)}"

    def test_untagged_images_beside_an_unknown_media_type(self) -> None:
        ecr = FakeEcr([image(1, "x", media_type="application/vnd.future"), image(2), image(3, "y"), image(4, "v2.0.0")])
        found = planned(ecr)
        assert numbers(found.remove) == {3}
        assert "application/vnd.future" in reasons(found, 1)
        assert reasons(found, 2) == "may be part of an index that cannot be read"

    @pytest.mark.parametrize("raw", [None, b"{", b'{"mediaType": "application/vnd.oci.image.index.v1+json"}'])
    def test_untagged_images_beside_an_unreadable_index(self, raw: bytes | None) -> None:
        content = [image(1, "v2.0.0", media_type=OCI_INDEX), image(2), image(3, "x")]
        assert numbers(planned(FakeEcr(content, {digest(1): raw} if raw else {})).remove) == {3}

    def test_untagged_images_beside_an_unreadable_part(self) -> None:
        content = [image(1, "v2.0.0", media_type=OCI_INDEX), image(2, "x", media_type=OCI_INDEX), image(3)]
        assert planned(FakeEcr(content, {digest(1): index_of(2)})).remove == ()

    def test_missing_repository_is_skipped(self) -> None:
        found = planned(FakeEcr([image(1)]), of=["app", "later"])
        assert numbers(found.remove) == {1}
        with pytest.raises(NotFoundError):
            planned(FakeEcr([image(1)]), of=["later"])

    @given(st.data())
    def test_used_images_and_their_parts(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(2, 8))
        some = st.sets(st.integers(1, count))
        kinds = data.draw(
            st.lists(st.sampled_from([OCI_MANIFEST, DOCKER_MANIFEST, OCI_INDEX]), min_size=count, max_size=count)
        )
        content = [image(number, media_type=kind) for number, kind in enumerate(kinds, 1)]
        children = {item.digest: data.draw(some) for item in content if item.is_index}
        used = data.draw(some)
        ecr = FakeEcr(content, {name: index_of(*parts) for name, parts in children.items()})

        removed = numbers(planned(ecr, *(use(f"app@{digest(number)}") for number in used)).remove)

        stays = set(range(1, count + 1)) - removed
        assert used <= stays
        for name, parts in children.items():
            if int(name.removeprefix("sha256:"), 16) in stays:
                assert parts <= stays
        if not used:
            assert stays == set()


class TestRemoved:
    def test_images_used_since_the_first_plan_are_kept(self) -> None:
        ecr = FakeEcr([image(1, "x"), image(2, "y"), image(3, "z"), image(4, "v2.0.0")])
        first = planned(ecr)
        ecr.content[1] = image(2, "y", "v1.5.0")
        unused, used = still_unused(first, planned(ecr, use(f"{HOST}/app@{digest(1)}")))
        assert (numbers(unused.remove), numbers(used)) == ({3}, {1, 2})

    def test_indexes_are_removed_before_their_parts(self) -> None:
        content = [image(1), image(2), image(3, "x", media_type=OCI_INDEX), image(4, "v2.0.0")]
        ecr = FakeEcr(content, {digest(3): index_of(1, 2)})
        assert removed(ecr, planned(ecr)) == []
        assert ecr.deleted == [digest(3), digest(1), digest(2)]

    def test_refused_deletion_is_reported(self) -> None:
        ecr = FakeEcr([image(1, "x"), image(2, "y"), image(4, "v2.0.0")])
        found = planned(ecr)
        ecr.kept_manifests[digest(9)] = index_of(1)  # pushed since
        assert removed(ecr, found) == ["ImageReferencedByManifestList: it is"]
        assert ecr.deleted == [digest(2)]

    def test_failure_in_one_repository_does_not_stop_the_others(self) -> None:
        ecr = FakeEcr([image(1, repository="one"), image(2, repository="two")], denied=frozenset({"one"}))
        assert removed(ecr, planned(ecr, of=["one", "two"])) == ["AccessDenied: access denied"]
        assert ecr.deleted == [digest(2)]
