"""What `releases` shows of published tags, ECR and ledgers; and which images releases use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from refinerctl.aws.ecr import EcrImage, EcrRegistry
from refinerctl.errors import AccessDeniedError, NotFoundError
from refinerctl.images import Build, BuildContext, ImageReference, ImageSettings
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.releases.images import read_uses, release_uses
from refinerctl.releases.releases import ReleaseOverview, release_overview

AT = datetime(2026, 3, 1, tzinfo=UTC)
HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def settings(name: str) -> ImageSettings:
    return ImageSettings(
        name, f"ecr/{name}", BuildContext(Path(name)), source=ImageReference.parse(f"ghcr.io/org/{name}")
    )


APP, WORKER = settings("app"), settings("worker")


@dataclass
class FakeEcr:
    tags: dict[str, dict[str, int]]

    def images(self, repository: str) -> Iterable[EcrImage]:
        if repository not in self.tags:
            raise NotFoundError(f"ECR repository {repository!r} does not exist")
        return [EcrImage(repository, digest(number), (tag,)) for tag, number in self.tags[repository].items()]


def release(tag: str | None, *numbers: int, day: int = 0, action: ReleaseAction = ReleaseAction.DEPLOY) -> Release:
    images = {f"ruleset-{number}": f"{HOST}/ecr/app@{digest(number)}" for number in numbers}
    return Release(action, tag, images, who="alice", at=AT + timedelta(days=day))


def look(
    published: dict[str, list[str]],
    in_ecr: dict[str, dict[str, int]],
    ledgers: dict[str, Callable[[], tuple[Release, ...]]] | None = None,
    **options: Any,
) -> ReleaseOverview:
    images = [image for image in (APP, WORKER) if image.name in published]
    return release_overview(
        images,
        lambda source: published[source.repository.removeprefix("org/")],
        cast("EcrRegistry", FakeEcr(in_ecr)),
        ledgers or {},
        **options,
    )


class TestTags:
    def test_releases_newest_first(self) -> None:
        found = look({"app": ["latest", "v1.9.0", "v1.10.0", "sha-1234567", "v1.10.0-rc.2"]}, {"ecr/app": {}})
        assert [status.tag for status in found.tags] == ["v1.10.0", "v1.10.0-rc.2", "v1.9.0"]

    def test_every_tag(self) -> None:
        found = look({"app": ["latest", "v1.0.0"]}, {"ecr/app": {}}, every_tag=True)
        assert [status.tag for status in found.tags] == ["v1.0.0", "latest"]

    def test_limit_skips_the_oldest(self) -> None:
        published = [f"v1.{number}.0" for number in range(1500)]
        found = look({"app": published}, {"ecr/app": {}}, limit=2)
        assert [status.tag for status in found.tags] == ["v1.1499.0", "v1.1498.0"]
        assert found.skipped == 1498

    def test_release_is_new_until_every_image_is_in_ecr(self) -> None:
        found = look(
            {"app": ["v1.0.0", "v2.0.0", "v3.0.0"], "worker": ["v2.0.0", "v1.0.0"]},
            {"ecr/app": {"v1.0.0": 1, "v2.0.0": 2}, "ecr/worker": {"v1.0.0": 3}},
        )
        assert {status.tag: status.is_new for status in found.tags} == {"v1.0.0": False, "v2.0.0": True, "v3.0.0": True}
        app, worker = found.tags[1].images
        assert (app.name, app.source, app.in_ecr, app.digest) == ("app", "ghcr.io/org/app:v2.0.0", True, digest(2))
        assert (worker.name, worker.in_ecr, worker.digest) == ("worker", False, None)
        assert [image.name for image in found.tags[0].images] == ["app"]


class TestDeployed:
    def test_last_entry_of_a_ledger_is_deployed(self) -> None:
        ledgers: dict[str, Callable[[], tuple[Release, ...]]] = {
            "production": lambda: (release("v1.0.0", 1), release("v2.0.0", 2, day=1)),
            "staging": lambda: (release("v2.0.0", 2, day=3),),
            "fresh": lambda: (),
            "gone": lambda: (release("v1.0.0", 1), release(None, day=2, action=ReleaseAction.DESTROY)),
        }
        found = look({"app": ["v1.0.0", "v2.0.0"]}, {"ecr/app": {}}, ledgers)
        assert [status.deployed for status in found.tags] == [("production", "staging"), ()]
        assert [(item.at, item.who) for item in found.environments[:2]] == [
            (AT + timedelta(days=1), "alice"),
            (AT + timedelta(days=3), "alice"),
        ]
        assert {item.name: item.is_deployed for item in found.environments} == {
            "production": True,
            "staging": True,
            "fresh": False,
            "gone": False,
        }

    def test_base_images_and_builds_of_the_deployed_release_are_shown(self) -> None:
        bases = {"In": "base:22@sha256:b"}
        builds = {"In": Build("example/app", "release.yml", "refs/tags/v1.0.0", "c0ffee", "https://run")}
        ledgers: dict[str, Callable[[], tuple[Release, ...]]] = {
            "p": lambda: (replace(release("v1.0.0", 1), bases=bases, builds=builds),),
            "old": lambda: (release("v1.0.0", 1),),
        }
        found = look({"app": ["v1.0.0"]}, {"ecr/app": {}}, ledgers)
        assert {item.name: item.bases for item in found.environments} == {"p": bases, "old": {}}
        assert {item.name: item.builds for item in found.environments} == {"p": builds, "old": {}}

    def test_release_without_a_tag_is_found_by_its_digests(self) -> None:
        found = look({"app": ["v1.0.0", "v2.0.0"]}, {"ecr/app": {"v1.0.0": 1}}, {"p": lambda: (release(None, 1),)})
        assert [status.deployed for status in found.tags] == [(), ("p",)]
        found = look({"app": ["v2.0.0"]}, {"ecr/app": {}}, {"p": lambda: (release(None, 9),)})
        (environment,) = found.environments
        assert (environment.is_deployed, environment.tag) == (True, None)

    def test_unreadable_ledger_is_reported(self) -> None:
        def denied() -> tuple[Release, ...]:
            raise AccessDeniedError("access denied: GetObject on s3://state/ledger")

        found = look({"app": ["v1.0.0"]}, {"ecr/app": {}}, {"p": denied, "q": lambda: (release("v1.0.0", 1),)})
        assert found.tags[0].deployed == ("q",)
        assert found.environments[0].error == "access denied: GetObject on s3://state/ledger"


class TestReleaseUses:
    def test_last_releases_by_their_images(self) -> None:
        ledger = (
            release("v1.0.0", 1, day=1),
            release("v2.0.0", 2, 3, day=2),
            release("v3.0.0", 4, day=3),
            release("v2.0.0", 2, 3, day=4, action=ReleaseAction.ROLLBACK),
            release(None, day=5, action=ReleaseAction.DESTROY),
        )
        found = release_uses("production", ledger, 2)
        assert {(use.name, use.image.digest) for use in found} == {
            ("production:v2.0.0", digest(2)),
            ("production:v2.0.0", digest(3)),
            ("production:v3.0.0", digest(4)),
        }
        assert {use.kind for use in found} == {"release"}
        assert len(release_uses("production", ledger)) == 4

    def test_image_of_several_stages_counts_once(self) -> None:
        one = Release(ReleaseAction.DEPLOY, None, dict.fromkeys(("a", "b"), f"{HOST}/ecr/app@{digest(1)}"), at=AT)
        (use,) = release_uses("p", (one,))
        assert use.name == "p:2026-03-01T00:00:00Z"


def test_unreadable_use_is_reported() -> None:
    def denied() -> tuple[()]:
        raise AccessDeniedError("access denied: ListFunctions")

    uses, unknown = read_uses({"functions": denied, "releases": lambda: release_uses("p", (release("v1.0.0", 1),))})
    assert unknown == ["functions: access denied: ListFunctions"]
    assert [use.name for use in uses] == ["p:v1.0.0"]
