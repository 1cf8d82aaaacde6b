"""Around an apply: credentials, readiness, what to go back to, locks and buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from refinerctl.aws.ecr import DeleteFailure, EcrImage
from refinerctl.aws.messages import QueueDepth
from refinerctl.console import Silent
from refinerctl.errors import (
    AccessDeniedError,
    NotFoundError,
    RefinerctlError,
    RefusedError,
    TimedOutError,
    UsageError,
)
from refinerctl.releases.deploy import check_credentials, wait_until_ready
from refinerctl.releases.destroy import (
    check_buckets,
    check_repositories,
    empty_buckets,
    empty_repositories,
    waiting_messages,
)
from refinerctl.releases.drift import find_drift
from refinerctl.releases.model import (
    Action,
    Change,
    DeployedFunction,
    ImageChange,
    Plan,
    Release,
    ReleaseAction,
    StateLock,
)
from refinerctl.releases.operator import operator
from refinerctl.releases.rollback import check_in_place, choose
from refinerctl.releases.unlock import LockState, lock_to_free

LEAST = timedelta(minutes=15)


class TestCredentials:
    def test_those_that_last_or_never_end_will_do(self) -> None:
        check_credentials(None, LEAST)
        check_credentials(datetime.now(UTC) + timedelta(minutes=16), LEAST)

    @pytest.mark.parametrize(("minutes", "left"), [(14.5, 14), (-3, 0)])
    def test_others_are_refused_with_what_is_left(self, minutes: float, left: int) -> None:
        with pytest.raises(RefusedError, match=f"expire in {left} min; an apply wants 15 min") as caught:
            check_credentials(datetime.now(UTC) + timedelta(minutes=minutes), LEAST)
        assert "--min-credential-lifetime" in str(caught.value.hint)


@dataclass
class Lambda:
    """Gives each answer once, the last one for ever."""

    answers: dict[str, list[str]]
    asked: list[str] = field(default_factory=list)

    def function(self, name: str) -> str:
        return self._next(name)

    def mapping(self, uuid: str) -> str:
        return self._next(uuid)

    def _next(self, name: str) -> str:
        self.asked.append(name)
        answers = self.answers[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == "failed":
            raise RefinerctlError(f"function {name} has not taken the update: no image")
        return answer


FUNCTIONS = [DeployedFunction("A", "f-a", "m-a"), DeployedFunction("B", "f-b")]


class TestReadiness:
    def test_it_waits_for_functions_and_mappings(self) -> None:
        updates = Lambda({"f-a": ["pending", "ready"], "m-a": ["pending", "ready"], "f-b": ["ready"]})
        wait_until_ready(FUNCTIONS, updates, 10, Silent())
        assert sorted(updates.asked) == ["f-a", "f-a", "f-b", "f-b", "m-a", "m-a"]

    def test_what_is_not_ready_in_time_is_named(self) -> None:
        updates = Lambda({"f-a": ["ready"], "m-a": ["pending"], "f-b": ["ready"]})
        with pytest.raises(TimedOutError, match=r"applied, but not in effect after 0\.1 s: the mapping of f-a$"):
            wait_until_ready(FUNCTIONS, updates, 0.1, Silent())

    def test_without_time_it_still_looks_once(self) -> None:
        wait_until_ready(FUNCTIONS, Lambda({"f-a": ["ready"], "m-a": ["ready"], "f-b": ["ready"]}), 0, Silent())

    def test_an_update_that_failed_is_not_waited_for(self) -> None:
        updates = Lambda({"f-a": ["failed"], "m-a": ["pending"], "f-b": ["pending"]})
        with pytest.raises(RefinerctlError, match="f-a has not taken the update: no image"):
            wait_until_ready(FUNCTIONS, updates, 60, Silent())

    def test_a_stack_without_functions_is_ready(self) -> None:
        wait_until_ready([], Lambda({}), 0, Silent())


def release(minute: int, tag: str, letter: str, action: ReleaseAction = ReleaseAction.DEPLOY) -> Release:
    return Release(action, tag, {"In": letter}, at=datetime(2026, 3, 1, 12, minute, tzinfo=UTC))


class TestRollback:
    FIRST, SECOND, THIRD = release(1, "v1", "a"), release(2, "v2", "b"), release(3, "v3", "b")

    def test_to_the_newest_with_other_images(self) -> None:
        chosen = choose([self.FIRST, self.SECOND, self.THIRD], None)
        assert (chosen.current, chosen.target) == (self.THIRD, self.FIRST)

    def test_twice_does_not_go_forth_again(self) -> None:
        back = release(4, "v1", "a", ReleaseAction.ROLLBACK)
        with pytest.raises(RefusedError, match="before v1") as caught:
            choose([self.FIRST, self.SECOND, back], None)
        assert "--to TAG" in str(caught.value.hint)
        assert choose([self.FIRST, self.SECOND, back], "v2").target == self.SECOND

    def test_half_a_deployment_is_no_release_to_go_back_from(self) -> None:
        """The ledger knows v1 only: to go back from that is not what somebody wants whose v2 has failed."""
        before = [ImageChange("In", "123.dkr.ecr.us-east-1.amazonaws.com/r@sha256:b", "r@sha256:0")]
        with pytest.raises(RefusedError, match="In does not run the image of v1"):
            check_in_place(release(1, "v1", "r@sha256:a"), before)
        check_in_place(release(1, "v1", "r@sha256:b"), before)
        check_in_place(release(1, "v1", "r@sha256:a"), [ImageChange("In", None, "x"), ImageChange("New", "y", "z")])

    def test_to_a_tag(self) -> None:
        assert choose([self.FIRST, self.SECOND, self.THIRD], "v2").target == self.SECOND

    def test_to_a_tag_that_was_never_here(self) -> None:
        with pytest.raises(NotFoundError, match="v9 was never deployed here") as caught:
            choose([self.FIRST, self.SECOND], "v9")
        assert caught.value.hint == "Recorded: v2, v1."

    def test_nothing_before_and_nothing_at_all(self) -> None:
        with pytest.raises(RefusedError, match="before v1"):
            choose([self.FIRST], None)
        with pytest.raises(RefusedError, match="no release is recorded"):
            choose([], "v1")


class TestUnlock:
    LOCK = StateLock("id-1", "alice")

    def test_the_lock_that_is_held(self) -> None:
        assert lock_to_free(LockState(True, self.LOCK), None) == "id-1"
        assert lock_to_free(LockState(True, self.LOCK), "id-1") == "id-1"

    def test_another_than_was_named_is_left_alone(self) -> None:
        with pytest.raises(RefusedError, match="has id id-1, not id-2"):
            lock_to_free(LockState(True, self.LOCK), "id-2")

    def test_a_backend_that_tells_no_id_needs_it(self) -> None:
        assert lock_to_free(LockState(True), "id-2") == "id-2"
        with pytest.raises(UsageError, match="does not tell"):
            lock_to_free(LockState(True), None)


@dataclass
class Versions:
    """Buckets in memory: how many versions each holds."""

    buckets: dict[str, int]

    def any_in(self, bucket: str) -> bool:
        return self.buckets[bucket] > 0

    def delete_all(self, bucket: str, on_deleted: Callable[[int], None]) -> int:
        count, self.buckets[bucket] = self.buckets[bucket], 0
        on_deleted(count)
        return count


class TestBuckets:
    def test_one_that_holds_something_is_refused_and_left_alone(self) -> None:
        versions = Versions({"full": 3, "empty": 0})
        with pytest.raises(RefusedError, match=r"^full holds objects") as caught:
            check_buckets(["full", "empty"], versions, empty=False)
        assert "--empty-bucket" in str(caught.value.hint)
        assert versions.buckets["full"] == 3

    def test_empty_ones_are_no_reason(self) -> None:
        assert check_buckets(["empty"], Versions({"empty": 0}), empty=False) == ()

    def test_told_to_only_the_full_ones_are_emptied(self) -> None:
        versions = Versions({"full": 3, "empty": 0})
        full = check_buckets(["full", "empty"], versions, empty=True)
        assert full == ("full",)
        assert empty_buckets(full, versions, Silent()) == 3
        assert not versions.any_in("full")


@dataclass
class Repositories:
    """ECR: an index has to go before what it refers to. `kept` are digests that ECR does not delete at all."""

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


class TestRepositories:
    def test_one_that_holds_images_is_refused_and_left_alone(self) -> None:
        ecr = Repositories({"full": ["a"], "empty": []})
        with pytest.raises(RefusedError, match=r"^full holds images") as caught:
            check_repositories(["full", "empty", "gone"], ecr, empty=False)
        assert "--empty-repositories" in str(caught.value.hint)
        assert ecr.content["full"] == ["a"]
        assert check_repositories(["empty", "gone"], ecr, empty=False) == ()

    def test_told_to_everything_goes_though_images_hang_together(self) -> None:
        ecr = Repositories({"full": ["part", "index", "a"]})
        assert check_repositories(["full"], ecr, empty=True) == ("full",)
        assert empty_repositories(["full"], ecr, Silent()) == 3
        assert ecr.content["full"] == []

    def test_what_ecr_keeps_ends_it(self) -> None:
        with pytest.raises(RefinerctlError, match=r"did not delete a of full: .*why"):
            empty_repositories(["full"], Repositories({"full": ["a", "b"]}, kept=("a",)), Silent())


class Depths:
    def depth(self, name: str) -> QueueDepth:
        if name == "gone":
            raise NotFoundError(name)
        if name == "secret":
            raise AccessDeniedError("not for you")
        return QueueDepth(name, visible=2 if name == "full" else 0, in_flight=1 if name == "full" else 0, delayed=0)


def test_messages_that_will_be_lost_are_told() -> None:
    assert waiting_messages(["full", "empty", "gone", "secret"], Depths()) == (
        "queue full holds about 3 messages, which will be lost",
        "whether queue secret holds messages is not known: not for you",
    )


def test_drift_tells_each_resource_once() -> None:
    outside = Change("a.by_hand", "a", Action.UPDATE, ("x",))
    reverts = Change("a.by_hand", "a", Action.UPDATE, ("x",))
    edited = Change("a.edited", "a", Action.UPDATE, ("y",))
    found = find_drift(Plan("e", "s", "v1", (reverts, edited), drift=(outside,), outputs=("o",)))
    assert (found.outside, found.configuration, found.outputs) == ((outside,), (edited,), ("o",))
    assert find_drift(Plan("e", "s", None)).is_empty


class TestOperator:
    def test_in_a_gitlab_job(self) -> None:
        environ = {"CI_JOB_URL": "https://gitlab.example/jobs/7", "GITLAB_USER_LOGIN": "alice"}
        assert operator(environ, lambda: "arn") == "alice (https://gitlab.example/jobs/7)"

    def test_by_aws(self) -> None:
        assert operator({}, lambda: "arn:aws:sts::1:assumed-role/x/alice") == "arn:aws:sts::1:assumed-role/x/alice"

    def test_by_the_machine_where_aws_does_not_tell(self) -> None:
        def denied() -> str:
            raise AccessDeniedError("no")

        assert "@" in operator({}, denied)
        assert operator({}, denied) == operator({}, None)
