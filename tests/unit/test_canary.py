"""A canary's result, and what is removed of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from refinerctl.aws.bucket_versions import BucketVersions
from refinerctl.errors import AccessDeniedError
from refinerctl.inputs.follow import Upload, UploadStatus
from refinerctl.insight.verify.canary import blocked, broken_off, content_of, judge, key_of, remove
from refinerctl.insight.verify.types import CheckResult, Status
from tests.unit.fakes import START
from tests.unit.pipeline_snapshots import ruleset

WRITTEN = START + timedelta(seconds=3)  # by S3's clock
RULESET = ruleset("RefinerInput", "RefinerInput/").names
DONE = Upload(
    "RefinerInput/c.txt",
    5,
    "v1",
    UploadStatus.COMPLETED,
    START,
    completion_key="RefinerComplete/c.txt.json",
    outputs=("RefinerOutput/1.txt", "RefinerOutput/2.txt"),
)


class Versions(BucketVersions):
    """Remembers what was deleted."""

    def __init__(self, *denied: str) -> None:
        self.denied = denied
        self.deleted: set[tuple[str, str]] = set()

    def oldest(self, bucket: str, key: str) -> datetime | None:
        if "list" in self.denied:
            raise AccessDeniedError("access denied: ListObjectVersions")
        return WRITTEN if key == DONE.key else None

    def delete_key(self, bucket: str, key: str, since: datetime | None = None) -> int:
        assert since == WRITTEN
        if key in self.denied:
            raise AccessDeniedError("access denied: DeleteObjects")
        self.deleted.add((bucket, key))
        return 1


def test_its_input_outputs_and_completion_are_removed_and_nothing_else() -> None:
    versions = Versions()
    assert remove(versions, "b", DONE) == []
    assert versions.deleted == {("b", key) for key in (DONE.key, DONE.completion_key, *DONE.outputs)}


def test_what_may_still_be_under_way_stays() -> None:
    versions = Versions()
    pending = replace(DONE, status=UploadStatus.PENDING, completion_key=None, outputs=(), error="no completion in time")
    assert remove(versions, "b", pending) == [DONE.key]
    assert versions.deleted == set()
    found = judge(RULESET, pending, 60, [DONE.key])
    assert found.status is Status.FAIL
    assert found.seen == (
        "RefinerInput/c.txt: no completion in time, after 60.0 s; left in the bucket: RefinerInput/c.txt"
    )


def test_a_failed_one_is_removed_too() -> None:
    versions = Versions()
    failed = replace(DONE, status=UploadStatus.FAILED, completion_key=None, outputs=(), error="its message is dead")
    assert remove(versions, "b", failed) == []
    assert versions.deleted == {("b", DONE.key)}
    assert judge(RULESET, failed, 1, []).status is Status.FAIL


def test_what_could_not_be_removed_is_a_warning() -> None:
    left = remove(Versions("RefinerOutput/2.txt"), "b", DONE)
    found = judge(RULESET, DONE, 1.25, left)
    assert (found.status, found.ruleset) == (Status.WARN, "RefinerInput")
    assert found.seen == "completed in 1.2 s, with 2 outputs; left in the bucket: RefinerOutput/2.txt"
    assert judge(RULESET, DONE, 1.25, []).status is Status.PASS


def test_where_versions_may_not_be_listed_all_of_it_is_left() -> None:
    versions = Versions("list")
    assert remove(versions, "b", DONE) == [*DONE.outputs, DONE.completion_key, DONE.key]
    assert versions.deleted == set()


def test_one_that_was_broken_off_says_why_and_where_it_is() -> None:
    found = broken_off(RULESET, DONE.key, AccessDeniedError("access denied: GetObject", hint="Ask for it."))
    assert (found.status, found.ruleset, found.fix) == (Status.FAIL, "RefinerInput", "Ask for it.")
    assert found.seen == "RefinerInput/c.txt: access denied: GetObject; it may still be in the bucket"


@pytest.mark.parametrize(("about", "is_blocked"), [(None, True), ("RefinerInput", True), ("Other", False)])
def test_none_is_sent_where_it_would_be_lost(about: str | None, is_blocked: bool) -> None:
    results = [
        CheckResult("rule", Status.FAIL, "", "", "", about),
        CheckResult("loops", Status.WARN, "", "", "", None),
    ]
    assert blocked(RULESET, results) == ("not sent, because of rule" if is_blocked else None)


def test_what_is_sent_instead_keeps_its_suffix() -> None:
    assert key_of(RULESET, "m", ".xml") == "RefinerInput/refinerctl-canary-m-RefinerInput.xml"


def test_two_rulesets_get_two_completions() -> None:
    other = replace(RULESET, name="Other", prefix="Other/")
    names = {key_of(item, "m").removeprefix(item.prefix) for item in (RULESET, other)}
    assert names == {"refinerctl-canary-m-RefinerInput.txt", "refinerctl-canary-m-Other.txt"}
    assert b"refinerctl verify --canary m for RefinerInput" in content_of(RULESET, "m")
