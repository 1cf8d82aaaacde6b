"""Which release a rollback deploys."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from refinerctl.errors import NotFoundError, RefusedError
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.releases.rollback import check_finished, choose
from refinerctl.terraform.plan_json import ImageChange


def release(minute: int, tag: str, letter: str, action: ReleaseAction = ReleaseAction.DEPLOY) -> Release:
    return Release(action, tag, {"In": letter}, at=datetime(2026, 3, 1, 12, minute, tzinfo=UTC))


FIRST, SECOND, THIRD = release(1, "v1", "a"), release(2, "v2", "b"), release(3, "v3", "b")


def test_rollback_chooses_the_newest_with_other_images() -> None:
    assert choose([FIRST, SECOND, THIRD], None) == (THIRD, FIRST)


def test_second_rollback_does_not_return_to_what_was_rolled_back() -> None:
    back = release(4, "v1", "a", ReleaseAction.ROLLBACK)
    with pytest.raises(RefusedError, match="before v1") as caught:
        choose([FIRST, SECOND, back], None)
    assert "--to TAG" in str(caught.value.hint)
    assert choose([FIRST, SECOND, back], "v2")[1] == SECOND


def test_rollback_is_refused_after_an_interrupted_deployment() -> None:
    """The ledger knows v1 only: the release before v1 is not what the user of a failed v2 wants."""
    before = [ImageChange("In", "123.dkr.ecr.us-east-1.amazonaws.com/r@sha256:b", "r@sha256:0")]
    for images in (before, [ImageChange("In", "account.ecr/r:local", "after")]):
        with pytest.raises(RefusedError, match="In does not run the image of v1") as caught:
            check_finished(release(1, "v1", "r@sha256:a"), images, "refinerctl deploy --env e")
        assert "`refinerctl deploy --env e`" in str(caught.value.hint)
    check_finished(release(1, "v1", "r@sha256:b"), before, "")
    check_finished(release(1, "v1", "r@sha256:a"), [ImageChange("In", None, "x"), ImageChange("New", "y", "z")], "")


def test_rollback_to_a_tag_is_one_to_its_last_deployment() -> None:
    moved = release(4, "v2", "c")
    assert choose([FIRST, SECOND, THIRD], "v2")[1] == SECOND
    assert choose([FIRST, SECOND, moved, THIRD], "v2")[1] == moved


def test_unknown_tag_is_an_error_that_lists_the_recorded_ones() -> None:
    with pytest.raises(NotFoundError, match="v9 was never deployed here") as caught:
        choose([FIRST, SECOND], "v9")
    assert caught.value.hint == "Recorded releases: v2, v1."


def test_rollback_without_an_earlier_release_is_refused() -> None:
    for ledger in ([FIRST], [FIRST, release(2, "v1", "a")]):
        with pytest.raises(RefusedError, match="before v1"):
            choose(ledger, None)
    with pytest.raises(RefusedError, match="no release is recorded"):
        choose([], "v1")
