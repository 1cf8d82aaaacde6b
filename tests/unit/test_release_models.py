"""Releases as models: the ledger's document, which release is in place, which one is before it, what loses data."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import RefinerctlError
from refinerctl.releases.model import (
    HOLDS_DATA,
    Action,
    Change,
    ImageChange,
    Plan,
    Release,
    ReleaseAction,
    StateVersion,
    deployed,
    dump_releases,
    last_deploy,
    load_releases,
    previous,
    unfinished,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def release(minute: int, tag: str | None, digest: str = "a", action: ReleaseAction = ReleaseAction.DEPLOY) -> Release:
    images = {"In": f"repo@sha256:{digest * 64}"} if digest else {}
    return Release(action, tag, images, "c0ffee", "alice", START + timedelta(minutes=minute))


TEXT = st.text(max_size=20)
RELEASES = st.builds(
    Release,
    action=st.sampled_from(ReleaseAction),
    tag=st.none() | TEXT,
    images=st.dictionaries(TEXT, TEXT, max_size=3),
    commit=st.none() | TEXT,
    who=TEXT,
    at=st.datetimes(timezones=st.just(UTC)),
)


class TestLedgerDocument:
    @given(st.lists(RELEASES, max_size=5))
    def test_what_is_written_is_read_back(self, releases: list[Release]) -> None:
        assert load_releases(dump_releases(releases)) == tuple(releases)

    @pytest.mark.parametrize(
        "document",
        [
            b"",
            b"[]",
            b"{}",
            b'{"version": 1}',
            b'{"version": 1, "releases": [{}]}',
            dump_releases([release(1, "v1")]).replace(b'"deploy"', b'"sell"'),
            dump_releases([release(1, "v1")]).replace(b"2026-03-01T", b"yesterday"),
        ],
    )
    def test_anything_else_is_refused_in_a_sentence(self, document: bytes) -> None:
        with pytest.raises(RefinerctlError, match="ledger of releases cannot be read"):
            load_releases(document)

    def test_a_newer_version_says_so(self) -> None:
        with pytest.raises(RefinerctlError, match="version 2") as caught:
            load_releases(json.dumps({"version": 2, "releases": []}).encode())
        assert "newer refinerctl" in str(caught.value.hint)


@st.composite
def ledgers(draw: st.DrawFn) -> list[Release]:
    """Deployments of few different images, by runners whose clocks say anything."""
    digests = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
    minutes = draw(st.lists(st.integers(0, 9), min_size=len(digests), max_size=len(digests)))
    return [release(minute, f"v-{digest}", digest) for minute, digest in zip(minutes, digests, strict=True)]


def rolled_back(target: Release, **more: str) -> Release:
    """What a rollback to `target` records, where rulesets have come since."""
    return replace(target, action=ReleaseAction.ROLLBACK, images={**target.images, **more}, at=START)


class TestWhichRelease:
    def test_the_last_entry_is_in_place_whatever_the_clocks_say(self) -> None:
        first, second = release(2, "v1"), release(1, "v2")
        assert deployed([first, second]) == second
        assert deployed([]) is None

    def test_after_a_destruction_none_is(self) -> None:
        assert deployed([release(1, "v1"), release(0, None, "", ReleaseAction.DESTROY)]) is None

    def test_the_one_before_has_other_images(self) -> None:
        first, second, again = release(3, "v1", "a"), release(2, "v2", "b"), release(1, "v2-again", "b")
        assert previous([first, second, again]) == first

    def test_none_before_the_first_and_none_with_the_same_images(self) -> None:
        first, again = release(1, "v1"), release(2, "v1")
        assert previous([]) is None
        assert previous([first]) is None
        assert previous([first, again]) is None

    def test_a_ruleset_that_came_makes_no_other_release(self) -> None:
        first, second = release(1, "v1", "a"), release(2, "v2", "b")
        grown = replace(second, images={**second.images, "New": "repo@sha256:new"})
        assert previous([first, second, grown]) == first

    def test_an_entry_without_images_is_nothing_to_go_back_to(self) -> None:
        empty, current = release(1, "local", ""), release(2, "v1")
        assert previous([empty, current]) is None

    def test_a_tag_that_moved_means_what_it_meant_last(self) -> None:
        first, moved, other = release(3, "v1", "a"), release(2, "v1", "b"), release(1, "v2", "c")
        assert last_deploy([first, moved, other], "v1") == moved
        assert last_deploy([first], "v9") is None

    @pytest.mark.parametrize("more", [{}, {"New": "repo@sha256:new"}])
    def test_what_was_rolled_back_is_not_gone_back_to(self, more: dict[str, str]) -> None:
        oldest, first, second = release(1, "v0", "0"), release(2, "v1", "a"), release(3, "v2", "b")
        ledger = [oldest, first, second, rolled_back(first, **more)]
        assert previous(ledger[1:]) is None
        assert previous(ledger) == oldest
        ledger.append(rolled_back(oldest, **more))
        assert previous(ledger) is None
        ledger.append(release(4, "v3", "c"))
        assert previous(ledger) == ledger[-2]

    def test_who_names_a_release_that_was_rolled_back_gets_it_and_can_go_back_from_it(self) -> None:
        first, second = release(1, "v1", "a"), release(2, "v2", "b")
        ledger = [first, second, rolled_back(first), rolled_back(second)]
        assert previous(ledger) == ledger[2]

    @given(ledgers())
    def test_going_back_again_and_again_goes_back_and_ends(self, ledger: list[Release]) -> None:
        """Each step takes an earlier deployment than the one before, until there is no other image before it."""
        deployments = list(ledger)
        position = len(deployments) - 1
        while (target := previous(ledger)) is not None:
            earlier = [n for n in range(position) if deployments[n].images != deployments[position].images]
            assert dict(target.images) == dict(deployments[earlier[-1]].images)
            position = earlier[-1]
            ledger.append(rolled_back(target))
        assert not [other for other in deployments[:position] if other.images != deployments[position].images]


class TestLosses:
    @pytest.mark.parametrize("action", Action)
    def test_only_what_is_destroyed_or_replaced_loses_data(self, action: Action) -> None:
        change = Change("aws_s3_bucket.this", "aws_s3_bucket", action)
        assert change.loses_data == (action in (Action.DESTROY, Action.REPLACE))

    def test_a_function_holds_none(self) -> None:
        assert not Change("aws_lambda_function.this", "aws_lambda_function", Action.REPLACE).loses_data

    @given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
    def test_each_address_has_to_be_allowed_by_itself(self, lost: set[int], allowed: set[int]) -> None:
        kind = sorted(HOLDS_DATA)[0]
        changes = tuple(Change(f"{kind}.n{number}", kind, Action.DESTROY) for number in sorted(lost))
        plan = Plan("e", "s", None, changes)
        left = {change.address for change in plan.losses(f"{kind}.n{number}" for number in allowed)}
        assert left == {f"{kind}.n{number}" for number in lost - allowed}

    def test_allowing_the_start_of_an_address_allows_nothing(self) -> None:
        change = Change('module.rulesets["A"].aws_sqs_queue.this', "aws_sqs_queue", Action.DESTROY)
        assert Plan("e", "s", None, (change,)).losses(['module.rulesets["A"]', "aws_sqs_queue.this"]) == (change,)


def test_the_ruleset_of_an_address() -> None:
    assert Change('module.rulesets["A-1"].aws_sqs_queue.this', "aws_sqs_queue", Action.CREATE).ruleset == "A-1"
    assert Change('module.other.module.rulesets["A"].x.y', "x", Action.CREATE).ruleset is None


class TestStateVersion:
    @given(st.text("0123456789abcdef-", min_size=1, max_size=36), st.integers(0, 10**9))
    def test_from_the_head_of_a_state(self, lineage: str, serial: int) -> None:
        state = {
            "version": 4,
            "terraform_version": "1.11.4",
            "serial": serial,
            "lineage": lineage,
            "outputs": {"serial": {"value": '"serial": 77,\n  "lineage": "x"'}, "lineage": {"value": "other"}},
        }
        assert StateVersion.read(json.dumps(state, indent=2).encode()[:200]) == StateVersion(lineage, serial)

    def test_no_state_yet(self) -> None:
        assert StateVersion.read(b"") == StateVersion("", 0)


class TestUnfinished:
    """What runs something else than the ledger says."""

    @pytest.mark.parametrize(
        ("before", "rulesets"),
        [
            ("account.ecr/repo@sha256:" + "a" * 64, ()),
            ("account.ecr/repo@sha256:" + "b" * 64, ("In",)),
            ("account.ecr/repo:local", ("In",)),
            (None, ()),
        ],
    )
    def test_by_digest_wherever_the_repository_is(self, before: str | None, rulesets: tuple[str, ...]) -> None:
        assert unfinished(release(0, "v1"), [ImageChange("In", before, "after")]) == rulesets

    def test_a_ruleset_that_was_not_recorded_is_nobodys_business(self) -> None:
        assert unfinished(release(0, "v1"), [ImageChange("New", "repo@sha256:" + "b" * 64, None)]) == ()
