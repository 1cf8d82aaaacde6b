"""The ledger's document, which release is current, which one is previous, and who made it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.images import Build
from refinerctl.ledger.entries import (
    Release,
    ReleaseAction,
    deployed,
    dump_releases,
    load_releases,
    operator,
    previous,
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
    bases=st.dictionaries(TEXT, TEXT, max_size=3),
    builds=st.dictionaries(TEXT, st.builds(Build, TEXT, TEXT, TEXT, TEXT, TEXT), max_size=2),
)


class TestLedgerDocument:
    @given(st.lists(RELEASES, max_size=5))
    def test_written_ledger_is_read_back(self, releases: list[Release]) -> None:
        assert load_releases(dump_releases(releases), "here") == tuple(releases)

    def test_entries_of_older_versions_have_no_base_images_and_no_builds(self) -> None:
        document = json.loads(dump_releases([release(1, "v1")]))
        del document["releases"][0]["bases"], document["releases"][0]["builds"]
        assert load_releases(json.dumps(document).encode(), "here") == (release(1, "v1"),)

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
            dump_releases([release(1, "v1")]).replace(b'"builds": {}', b'"builds": {"In": 1}'),
        ],
    )
    def test_invalid_document_is_an_error(self, document: bytes) -> None:
        with pytest.raises(RefinerctlError, match="here: cannot read the ledger of releases"):
            load_releases(document, "here")

    def test_newer_version_is_an_error(self) -> None:
        with pytest.raises(RefinerctlError, match="version 2") as caught:
            load_releases(json.dumps({"version": 2, "releases": []}).encode(), "here")
        assert "newer version" in str(caught.value.hint)


@st.composite
def ledgers(draw: st.DrawFn) -> list[Release]:
    """Deployments of few different images, from machines with wrong clocks."""
    digests = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=8))
    minutes = draw(st.lists(st.integers(0, 9), min_size=len(digests), max_size=len(digests)))
    return [release(minute, f"v-{digest}", digest) for minute, digest in zip(minutes, digests, strict=True)]


def rolled_back(target: Release, **more: str) -> Release:
    """What a rollback to `target` records, if stages were added since."""
    return replace(target, action=ReleaseAction.ROLLBACK, images={**target.images, **more}, at=START)


class TestWhichRelease:
    def test_last_entry_is_current_whatever_the_clocks_say(self) -> None:
        first, second = release(2, "v1"), release(1, "v2")
        assert deployed([first, second]) == second
        assert deployed([]) is None

    def test_no_release_is_current_after_a_destruction(self) -> None:
        assert deployed([release(1, "v1"), release(0, None, "", ReleaseAction.DESTROY)]) is None

    def test_added_stage_does_not_make_another_release(self) -> None:
        first, second = release(1, "v1", "a"), release(2, "v2", "b")
        grown = replace(second, images={**second.images, "New": "repo@sha256:new"})
        assert previous([first, second, grown]) == first

    def test_entry_without_images_is_not_previous(self) -> None:
        empty, current = release(1, "local", ""), release(2, "v1")
        assert previous([empty, current]) is None

    @pytest.mark.parametrize("more", [{}, {"New": "repo@sha256:new"}])
    def test_release_that_was_rolled_back_is_not_previous(self, more: dict[str, str]) -> None:
        oldest, first, second = release(1, "v0", "0"), release(2, "v1", "a"), release(3, "v2", "b")
        ledger = [oldest, first, second, rolled_back(first, **more)]
        assert previous(ledger[1:]) is None
        assert previous(ledger) == oldest
        ledger.append(rolled_back(oldest, **more))
        assert previous(ledger) is None
        ledger.append(release(4, "v3", "c"))
        assert previous(ledger) == ledger[-2]

    @given(ledgers())
    def test_repeated_rollbacks_go_back_and_end(self, ledger: list[Release]) -> None:
        """Each step takes an earlier deployment than the one before, until there is no other image before it."""
        deployments = list(ledger)
        position = len(deployments) - 1
        while (target := previous(ledger)) is not None:
            earlier = [n for n in range(position) if deployments[n].images != deployments[position].images]
            assert dict(target.images) == dict(deployments[earlier[-1]].images)
            position = earlier[-1]
            ledger.append(rolled_back(target))
        assert not [other for other in deployments[:position] if other.images != deployments[position].images]


class TestOperator:
    def test_operator_in_a_gitlab_job_is_its_user(self) -> None:
        environ = {"CI_JOB_URL": "https://gitlab.example/jobs/7", "GITLAB_USER_LOGIN": "alice"}
        assert operator(environ, lambda: "arn") == "alice (https://gitlab.example/jobs/7)"

    def test_operator_is_the_aws_identity(self) -> None:
        assert operator({}, lambda: "arn:aws:sts::1:assumed-role/x/alice") == "arn:aws:sts::1:assumed-role/x/alice"

    def test_operator_is_the_local_user_without_an_aws_identity(self) -> None:
        def denied() -> str:
            raise AccessDeniedError("no")

        assert "@" in operator({}, denied)
        assert operator({}, denied) == operator({}, None)
