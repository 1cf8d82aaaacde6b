"""A canary's result, and what is removed of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from refinerctl.aws.bucket_versions import BucketVersions
from refinerctl.errors import AccessDeniedError
from refinerctl.inputs.follow import Upload, UploadStatus
from refinerctl.insight.findings import Status
from refinerctl.insight.verify.canary import blocked, content_of, judge, key_of, remove
from refinerctl.insight.verify.checks import CheckResult
from refinerctl.stacks.base import EventRule, Function, Service, Stage
from tests.unit.fakes import START

WRITTEN = START + timedelta(seconds=3)  # by S3's clock
STAGE = Stage("RefinerInput", source=EventRule("r", "bus", "RefinerInput/"), consumer=Function("f"))
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


def test_a_completed_canary_is_removed_with_its_outputs_and_completion_and_nothing_else() -> None:
    versions = Versions()
    assert remove(versions, "b", DONE) == []
    assert versions.deleted == {("b", key) for key in (DONE.key, DONE.completion_key, *DONE.outputs)}


def test_a_pending_canary_is_not_removed() -> None:
    versions = Versions()
    pending = replace(DONE, status=UploadStatus.PENDING, completion_key=None, outputs=(), error="no completion in time")
    assert remove(versions, "b", pending) == [DONE.key]
    assert versions.deleted == set()
    found = judge(STAGE, pending, 60, [DONE.key])
    assert found.status is Status.FAIL
    assert found.seen == (
        "RefinerInput/c.txt: no completion in time, after 60.0 s; still in the bucket: RefinerInput/c.txt"
    )


def test_a_failed_canary_is_removed() -> None:
    versions = Versions()
    failed = replace(DONE, status=UploadStatus.FAILED, completion_key=None, outputs=(), error="its message is in q-dlq")
    assert remove(versions, "b", failed) == []
    assert versions.deleted == {("b", DONE.key)}
    assert judge(STAGE, failed, 1, []).status is Status.FAIL


def test_a_remaining_object_is_a_warning() -> None:
    left = remove(Versions("RefinerOutput/2.txt"), "b", DONE)
    found = judge(STAGE, DONE, 1.25, left)
    assert (found.status, found.stage) == (Status.WARN, "RefinerInput")
    assert found.seen == "completed in 1.2 s with 2 outputs; still in the bucket: RefinerOutput/2.txt"
    assert judge(STAGE, DONE, 1.25, []).status is Status.PASS


def test_nothing_is_removed_if_versions_cannot_be_listed() -> None:
    versions = Versions("list")
    assert remove(versions, "b", DONE) == [*DONE.outputs, DONE.completion_key, DONE.key]
    assert versions.deleted == set()


@pytest.mark.parametrize(("stage", "is_blocked"), [(None, True), ("RefinerInput", True), ("Other", False)])
def test_a_failed_check_of_the_stage_or_of_all_stages_blocks_a_canary(stage: str | None, is_blocked: bool) -> None:
    results = [
        CheckResult("rule", Status.FAIL, "", "", "", stage),
        CheckResult("loops", Status.WARN, "", "", "", None),
    ]
    assert blocked(STAGE, results) == ("not sent, because of rule" if is_blocked else None)


def test_a_given_file_keeps_its_suffix() -> None:
    assert key_of(STAGE, "m", ".xml") == "RefinerInput/refinerctl-canary-m-RefinerInput.xml"


def test_two_stages_get_two_completions() -> None:
    other = replace(STAGE, name="Other", source=EventRule("r", "bus", "Other/"))
    names = {key_of(stage, "m").removeprefix(str(stage.prefix)) for stage in (STAGE, other)}
    assert names == {"refinerctl-canary-m-RefinerInput.txt", "refinerctl-canary-m-Other.txt"}
    assert b"refinerctl verify --canary m for RefinerInput" in content_of(STAGE, "m")


def test_no_canary_is_sent_through_a_service() -> None:
    worker = Stage("worker", consumer=Service("w", "c", "/aws/ecs/w"), input_prefix="in/")
    assert blocked(worker, ()) == "not sent: the outputs of a service may be merged with those of other inputs"
