"""Following uploads to their completions, against an in-memory bucket and a clock that does not wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

import pytest

from refinerctl.aws.messages import Message
from refinerctl.aws.s3 import ObjectInfo
from refinerctl.console import Progress
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, TransientError
from refinerctl.inputs.completions import Completions
from refinerctl.inputs.follow import Dlqs, Upload, UploadStatus, existing_completions, follow
from tests.unit.fakes import START, Clock, FakeBucket, FakeQueues, completions_of

DLQ = "dibbs-ecr-RefinerInput-dlq"


def uploaded(bucket: FakeBucket, name: str = "x", content: bytes = b"input") -> Upload:
    info = bucket.write(f"RefinerInput/{name}", content)
    return Upload(info.key, info.size, info.version_id, UploadStatus.UPLOADED, info.last_modified)


def wait_for(
    completions: Completions,
    *items: Upload,
    existing: Mapping[str, ObjectInfo] | None = None,
    timeout_s: float = 60,
    dlqs: Dlqs | None = None,
) -> list[Upload]:
    assert isinstance(completions.bucket, FakeBucket)
    return follow(
        completions,
        items,
        existing=existing or {},
        timeout_s=timeout_s,
        progress=Progress(),
        dlqs=dlqs,
        clock=completions.bucket.clock,
    )


def completes(bucket: FakeBucket, name: str, body: str = "[]", **metadata: str) -> Callable[[], object]:
    given = {key.replace("_", "-"): value for key, value in metadata.items()}
    return lambda: bucket.write(f"RefinerComplete/{name}", body, given)


class TestFollow:
    @pytest.mark.parametrize("completion", ["x.json", "x"])
    def test_an_input_completes_with_its_outputs(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, completion: str
    ) -> None:
        item = uploaded(bucket)
        bucket.write("RefinerOutput/1")
        clock.at(3, completes(bucket, completion, '["/RefinerOutput/1"]'))
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.COMPLETED
        assert done.completion_key == f"RefinerComplete/{completion}"
        assert done.outputs == ("RefinerOutput/1",)
        assert done.error is None
        assert (done.key, done.version_id) == (item.key, item.version_id)

    def test_results_have_the_order_of_the_uploads(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        items = [uploaded(bucket, name) for name in "abc"]
        for second, name in enumerate("cab", start=1):
            clock.at(second, completes(bucket, f"{name}.json"))
        done = wait_for(completions, *items)
        assert [item.key[-1] for item in done] == ["a", "b", "c"]
        assert all(item.status is UploadStatus.COMPLETED for item in done)

    def test_an_input_below_another_prefix_completes(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        info = bucket.write("team/In/sub/x")
        item = Upload(info.key, 0, info.version_id, UploadStatus.UPLOADED, info.last_modified)
        clock.at(1, completes(bucket, "team/In/sub/x.completion"))
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.COMPLETED

    def test_a_completion_of_another_input_is_not_this_ones(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        """As an image that is not this repository's may write it."""
        item = uploaded(bucket)
        metadata = {"source-bucket-key": "data-repository/Lab/x%20y", "source-version": item.version_id or ""}
        clock.at(1, lambda: bucket.write("RefinerComplete/x.json", "[]", metadata))
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.PENDING
        other = "RefinerComplete/x.json is the completion of data-repository/Lab/x y"
        assert done.error == f"timed out without a completion: {other}"

    def test_a_completion_that_names_its_input_completes_it(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket, "x y")
        metadata = {"source-bucket-key": "data-repository/RefinerInput/x%20y", "source-version": item.version_id or ""}
        clock.at(1, lambda: bucket.write("RefinerComplete/x y.json", "[]", metadata))
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.COMPLETED

    def test_a_completion_with_an_error_fails_the_upload(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, completes(bucket, "x", '{"RefinerSkip": true, "Error": "no condition"}'))
        (done,) = wait_for(completions, item)
        assert (done.status, done.error) == (UploadStatus.FAILED, "no condition")
        assert done.completion_key == "RefinerComplete/x"

    def test_a_malformed_completion_fails_the_upload(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, completes(bucket, "x.json", "{"))
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.FAILED
        assert "not JSON" in str(done.error)

    def test_a_listed_output_that_does_not_exist_fails_the_upload(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        bucket.write("RefinerOutput/1")
        clock.at(1, completes(bucket, "x.json", '["RefinerOutput/1", "RefinerOutput/2"]'))
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.FAILED
        assert "RefinerOutput/2" in str(done.error)
        assert "RefinerOutput/1" not in str(done.error)

    def test_an_upload_without_a_completion_is_pending_after_the_timeout(
        self, bucket: FakeBucket, completions: Completions, clock: Clock
    ) -> None:
        (done,) = wait_for(completions, uploaded(bucket), timeout_s=60)
        assert (done.status, done.error) == (UploadStatus.PENDING, "timed out without a completion")
        assert 60 <= clock.now < 61

    def test_a_timeout_of_zero_still_polls_once(self, bucket: FakeBucket, completions: Completions) -> None:
        item = uploaded(bucket)
        completes(bucket, "x.json")()
        assert wait_for(completions, item, timeout_s=0)[0].status is UploadStatus.COMPLETED

    def test_the_last_poll_is_at_the_deadline(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        item = uploaded(bucket)
        clock.at(59.9, completes(bucket, "x.json"))
        assert wait_for(completions, item, timeout_s=60)[0].status is UploadStatus.COMPLETED

    def test_a_failed_upload_is_returned_unchanged(self, bucket: FakeBucket, completions: Completions) -> None:
        failed = Upload("RefinerInput/f", 0, None, UploadStatus.FAILED, START, error="denied")
        item = uploaded(bucket)
        completes(bucket, "x.json")()
        completes(bucket, "f.json")()
        assert wait_for(completions, failed, item)[0] == failed

    def test_an_overwritten_input_without_a_completion_says_so_after_the_timeout(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, lambda: bucket.write(item.key, b"other"))
        (done,) = wait_for(completions, item, timeout_s=5)
        assert done.status is UploadStatus.SUPERSEDED
        assert done.error == "overwritten by version v2 before it was processed"

    def test_a_deleted_input_is_pending_with_the_reason(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, lambda: bucket.delete(item.key))
        assert "deleted after the upload" in str(wait_for(completions, item, timeout_s=5)[0].error)

    def test_an_input_that_cannot_be_read_again_is_pending(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, lambda: bucket.denied.add(item.key))
        (done,) = wait_for(completions, item, timeout_s=5)
        assert (done.status, done.error) == (UploadStatus.PENDING, "timed out without a completion")


class TestEarlierCompletion:
    """The same key was uploaded before, and its completion is still there."""

    def test_an_existing_completion_without_metadata_is_ignored(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        completes(bucket, "x.json")()
        existing = existing_completions(completions, ["RefinerInput/x"])
        item = uploaded(bucket)
        assert wait_for(completions, item, existing=existing, timeout_s=5)[0].status is UploadStatus.PENDING
        clock.at(clock.now + 2, completes(bucket, "x.json"))
        assert wait_for(completions, item, existing=existing)[0].status is UploadStatus.COMPLETED

    def test_without_versioning_a_later_write_of_the_same_content_completes(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket = FakeBucket(clock, versioned=False)
        completions = completions_of(bucket)
        completes(bucket, "x.json")()
        existing = existing_completions(completions, ["RefinerInput/x"])
        item = uploaded(bucket)
        assert item.version_id is None
        assert wait_for(completions, item, existing=existing, timeout_s=5)[0].status is UploadStatus.PENDING
        clock.at(clock.now + 2, completes(bucket, "x.json"))
        assert wait_for(completions, item, existing=existing)[0].status is UploadStatus.COMPLETED

    def test_a_new_completion_of_another_version_is_ignored(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        """The message of the earlier upload is delivered late."""
        item = uploaded(bucket)
        clock.at(1, completes(bucket, "x.json", source_version="v0"))
        clock.at(4, completes(bucket, "x.json", source_version=str(item.version_id)))
        (done,) = wait_for(completions, item, timeout_s=3)
        assert done.status is UploadStatus.PENDING
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.COMPLETED

    def test_a_late_completion_of_an_earlier_version_is_ignored_although_its_event_came_first(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, completes(bucket, "x.json", source_version="v0", source_event_version="v0"))
        clock.at(2, completes(bucket, "x.json", source_version=str(item.version_id), source_event_version="v0"))
        assert wait_for(completions, item)[0].status is UploadStatus.COMPLETED

    def test_the_second_candidate_completes_if_the_first_is_old(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        completes(bucket, "x.json")()
        existing = existing_completions(completions, ["RefinerInput/x"])
        item = uploaded(bucket)
        clock.at(1, completes(bucket, "x"))
        (done,) = wait_for(completions, item, existing=existing)
        assert done.completion_key == "RefinerComplete/x"


class TestOverwritten:
    """The content that was uploaded was overwritten before the image read it."""

    @pytest.mark.parametrize("event_version", ["v1", "v2"])
    def test_a_completion_of_the_newer_version_makes_the_upload_overwritten(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, event_version: str
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, lambda: bucket.write(item.key, b"other"))
        clock.at(2, completes(bucket, "x.json", source_version="v2", source_event_version=event_version))
        (done,) = wait_for(completions, item)
        assert (done.status, done.completion_key, done.outputs) == (UploadStatus.SUPERSEDED, None, ())
        assert done.error == "overwritten by version v2 before it was processed"
        assert clock.now < 10

    def test_an_upload_that_was_read_before_it_was_overwritten_completes(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, lambda: bucket.write(item.key, b"other"))
        clock.at(2, completes(bucket, "x.json", source_version=str(item.version_id)))
        assert wait_for(completions, item)[0].status is UploadStatus.COMPLETED

    @pytest.mark.parametrize(("overwritten_at", "status"), [(1, "superseded"), (4.5, "completed")])
    def test_without_recorded_versions_the_times_decide(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, overwritten_at: float, status: str
    ) -> None:
        """Polls are at 0.25, 0.6, 1.2, 2, 3.3 and 5.1 seconds."""
        item = uploaded(bucket)
        clock.at(overwritten_at, lambda: bucket.write(item.key, b"other"))
        clock.at(3.4, completes(bucket, "x.json"))
        (done,) = wait_for(completions, item)
        assert done.status == status
        assert ("RefinerComplete/x.json may belong to that version" in str(done.error)) is (status == "superseded")

    @pytest.mark.parametrize("metadata", [{}, {"source_version": "v0"}])
    def test_an_input_that_cannot_be_read_does_not_count_as_overwritten(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, metadata: dict[str, str]
    ) -> None:
        item = uploaded(bucket)
        bucket.denied.add(item.key)
        clock.at(1, completes(bucket, "x.json", **metadata))
        (done,) = wait_for(completions, item, timeout_s=5)
        assert done.status is (UploadStatus.PENDING if metadata else UploadStatus.COMPLETED)


def dead_message(
    item: Upload, version: str | None, *, bucket: str = "data-repository", minutes_ago: float = 0
) -> Message:
    extra = f', "version-id": "{version}"' if version else ""
    body = f'{{"detail": {{"bucket": {{"name": "{bucket}"}}, "object": {{"key": "{item.key}"{extra}}}}}}}'
    return Message(body, item.uploaded_at - timedelta(minutes=minutes_ago), 5)


class TestDlqs:
    @pytest.fixture
    def queues(self) -> FakeQueues:
        queues = FakeQueues()
        queues.messages[DLQ] = []
        return queues

    @pytest.fixture
    def dlqs(self, queues: FakeQueues, clock: Clock) -> Dlqs:
        return Dlqs(queues, lambda _key: DLQ, "data-repository", clock=clock)

    def test_an_input_whose_message_is_in_the_dlq_has_failed(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs
    ) -> None:
        items = [uploaded(bucket, "a"), uploaded(bucket, "b")]
        clock.at(4, lambda: queues.messages[DLQ].append(dead_message(items[0], items[0].version_id)))
        clock.at(20, completes(bucket, "b.json"))
        done = wait_for(completions, *items, dlqs=dlqs)
        assert done[0].status is UploadStatus.FAILED
        assert DLQ in str(done[0].error)
        assert done[1].status is UploadStatus.COMPLETED

    @pytest.mark.parametrize(
        "message",
        [
            Message("no event", START, 1),
            Message(
                '{"detail": {"bucket": {"name": "data-repository"}, "object": {"key": "RefinerInput/y"}}}', START, 1
            ),
        ],
    )
    def test_messages_of_other_inputs_are_ignored(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs, message: Message
    ) -> None:
        queues.messages[DLQ].append(message)
        (done,) = wait_for(completions, uploaded(bucket), dlqs=dlqs, timeout_s=10)
        assert done.status is UploadStatus.PENDING

    def test_messages_of_other_versions_and_buckets_are_ignored(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs
    ) -> None:
        item = uploaded(bucket)
        queues.messages[DLQ] += [dead_message(item, "v0"), dead_message(item, item.version_id, bucket="other")]
        assert wait_for(completions, item, dlqs=dlqs, timeout_s=10)[0].status is UploadStatus.PENDING

    @pytest.mark.parametrize(("minutes_ago", "status"), [(0, "failed"), (0.5, "failed"), (10, "pending")])
    def test_without_versioning_a_message_sent_before_the_upload_is_ignored(
        self, clock: Clock, queues: FakeQueues, dlqs: Dlqs, minutes_ago: float, status: str
    ) -> None:
        bucket = FakeBucket(clock, versioned=False)
        item = uploaded(bucket)
        queues.messages[DLQ].append(dead_message(item, None, minutes_ago=minutes_ago))
        (done,) = wait_for(completions_of(bucket), item, dlqs=dlqs, timeout_s=10)
        assert done.status == status

    def test_a_duplicate_message_fails_its_input_once(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs
    ) -> None:
        item = uploaded(bucket)
        queues.messages[DLQ] += [dead_message(item, item.version_id)] * 2
        assert [done.status.value for done in wait_for(completions, item, dlqs=dlqs)] == ["failed"]

    @pytest.mark.parametrize(
        "error", [AccessDeniedError("access denied"), NotFoundError("no queue"), RefinerctlError("x")]
    )
    def test_a_dlq_that_cannot_be_read_is_asked_once_and_the_wait_continues(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs, error: Exception
    ) -> None:
        assert isinstance(error, RefinerctlError)
        queues.error = error
        (done,) = wait_for(completions, uploaded(bucket), dlqs=dlqs, timeout_s=60)
        assert done.status is UploadStatus.PENDING
        assert queues.requests["state"] == 1

    def test_a_dlq_is_read_again_after_a_lost_connection(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs
    ) -> None:
        item = uploaded(bucket)
        queues.messages[DLQ].append(dead_message(item, item.version_id))
        queues.error = TransientError("connection lost")
        clock.at(30, lambda: setattr(queues, "error", None))
        (done,) = wait_for(completions, item, dlqs=dlqs, timeout_s=120)
        assert done.status is UploadStatus.FAILED

    def test_an_input_has_failed_however_many_messages_are_before_its_own(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs
    ) -> None:
        items = [uploaded(bucket, "a"), uploaded(bucket, "b")]
        queues.messages[DLQ] += [dead_message(items[0], "v0")] * 5000
        for second, item in ((5, items[0]), (30, items[1])):
            clock.at(second, partial(queues.messages[DLQ].append, dead_message(item, item.version_id)))
        done = wait_for(completions, *items, dlqs=dlqs, timeout_s=300)
        assert [item.status for item in done] == [UploadStatus.FAILED] * 2
        assert clock.now < 60

    def test_a_dlq_is_received_from_again_only_after_its_number_of_messages_has_changed_and_at_the_end(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs
    ) -> None:
        item = uploaded(bucket)
        queues.messages[DLQ] += [dead_message(item, "v0")] * 3
        clock.at(60, lambda: queues.messages[DLQ].append(dead_message(item, "v0")))
        # At once one arrives and another one is deleted.
        clock.at(200, lambda: queues.messages[DLQ].__setitem__(0, dead_message(item, item.version_id)))
        (done,) = wait_for(completions, item, dlqs=dlqs, timeout_s=300)
        assert done.status is UploadStatus.FAILED
        assert queues.requests["peek"] == 3

    @pytest.mark.parametrize("is_last", [False, True])
    def test_reads_of_a_large_dlq_take_longer_and_the_last_one_is_complete(
        self, clock: Clock, bucket: FakeBucket, *, is_last: bool
    ) -> None:
        """Messages are invisible meanwhile, and no completion is read."""

        class Slow(FakeQueues):
            """Each message takes a second."""

            def peek_each(self, name: str, take: Callable[[Message], object], limit: int, workers: int = 1) -> int:
                def later(message: Message) -> object:
                    clock.sleep(1)
                    return take(message)

                return super().peek_each(name, later, limit, workers)

        slow, item = Slow(), uploaded(bucket)
        slow.messages[DLQ] = [*[dead_message(item, "v0")] * 20, dead_message(item, item.version_id)]
        dlqs = Dlqs(slow, lambda _key: DLQ, "data-repository", clock=clock)
        clock.sleep(10)
        assert dlqs.failed([item], clock.now) == []
        assert clock.now < 15
        for _ in range(1 if is_last else 4):
            clock.sleep(60)
            found = dlqs.failed([item], clock.now, is_last=is_last)
        assert [failed.status for failed in found] == [UploadStatus.FAILED]

    def test_an_empty_dlq_is_not_received_from(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, dlqs: Dlqs
    ) -> None:
        wait_for(completions, uploaded(bucket), dlqs=dlqs, timeout_s=60)
        assert queues.requests["peek"] == 0
        assert 4 <= queues.requests["state"] <= 15  # at growing intervals


class TestCost:
    @pytest.mark.parametrize("history", [0, 3000])
    def test_requests_do_not_grow_with_the_history_of_the_bucket(self, clock: Clock, history: int) -> None:
        bucket = FakeBucket(clock)
        for number in range(history):
            bucket.write(f"RefinerComplete/old-{number}.json", "[]")
        completions = completions_of(bucket)
        existing = existing_completions(completions, ["RefinerInput/x"])
        item = uploaded(bucket)
        clock.at(60, completes(bucket, "x.json"))
        wait_for(completions, item, existing=existing, timeout_s=120)
        assert bucket.requests["list"] == 0
        assert bucket.requests["head"] == 3
        assert bucket.requests["get"] <= 45

    def test_polls_become_rarer(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        wait_for(completions, uploaded(bucket), timeout_s=300)
        first = bucket.requests["get"]
        wait_for(completions, uploaded(bucket), timeout_s=600)
        assert bucket.requests["get"] - first < first * 2
        assert first <= 2 * (300 / 5 + 10)
