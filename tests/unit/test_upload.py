"""Uploading, and following to completion, against an in-memory bucket and a clock that nobody waits for."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from refinerctl.aws.messages import Message
from refinerctl.console import Silent
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.inputs import upload as operation
from refinerctl.inputs.completions import Completions
from refinerctl.inputs.types import Upload, UploadSource, UploadStatus
from refinerctl.inputs.upload import Baseline, DeadLetters, follow, look_before, upload
from tests.unit.fakes import START, Clock, FakeBucket, FakeQueues, Recorder, completions_of

DLQ = "dibbs-ecr-RefinerInput-dlq"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(operation, "time", clock)
    return clock


@pytest.fixture
def bucket(clock: Clock) -> FakeBucket:
    return FakeBucket(clock)


@pytest.fixture
def completions(bucket: FakeBucket) -> Completions:
    return completions_of(bucket)


def files(folder: Path, *names: str) -> list[UploadSource]:
    sources = []
    for name in names:
        (folder / name).write_text(f"content of {name}")
        sources.append(UploadSource(f"RefinerInput/{name}", folder / name, (folder / name).stat().st_size))
    return sources


class TestUpload:
    def test_each_comes_back_with_its_version_and_size_in_the_order_given(
        self, bucket: FakeBucket, tmp_path: Path
    ) -> None:
        sources = files(tmp_path, *(f"{number}.txt" for number in range(20)))
        progress = Recorder()
        done = upload(bucket, sources, progress)
        assert [item.key for item in done] == [source.key for source in sources]
        assert all(item.status is UploadStatus.UPLOADED for item in done)
        assert [item.size for item in done] == [source.size for source in sources]
        for item in done:
            found = bucket.head(item.key)
            assert found is not None
            assert item.version_id == found.version_id
        assert progress.done == sum(source.size or 0 for source in sources)

    def test_standard_input_is_read_to_its_end(self, bucket: FakeBucket, monkeypatch: pytest.MonkeyPatch) -> None:
        reading, writing = os.pipe()
        monkeypatch.setattr("sys.stdin", os.fdopen(reading))
        threading.Thread(target=_write_slowly, args=(writing, [b"x" * 50_000, b"y" * 50_000])).start()
        (item,) = upload(bucket, [UploadSource("RefinerInput/x", None, None)], Silent())
        assert item.size == 100_000
        assert bucket.content("RefinerInput/x") == b"x" * 50_000 + b"y" * 50_000

    def test_one_that_fails_does_not_keep_the_others_from_trying(self, bucket: FakeBucket, tmp_path: Path) -> None:
        sources = files(tmp_path, "a", "b", "c", "d")
        bucket.denied.add("RefinerInput/b")
        (tmp_path / "c").unlink()
        done = upload(bucket, sources, Silent())
        assert [item.status.value for item in done] == ["uploaded", "failed", "failed", "uploaded"]
        assert "access denied" in str(done[1].error)
        assert "No such file" in str(done[2].error)
        assert done[1].version_id is None

    def test_without_the_bucket_nothing_is_tried(self, bucket: FakeBucket, tmp_path: Path) -> None:
        bucket.exists = False
        with pytest.raises(NotFoundError):
            upload(bucket, files(tmp_path, "a"), Silent())
        assert bucket.requests["put"] == 0

    def test_an_interrupt_stops_what_runs_and_what_has_not_begun(self, bucket: FakeBucket) -> None:
        """Each of these would go on for ever: only the interrupt can end them."""
        sources = [UploadSource(f"RefinerInput/{number}", Path("/dev/zero"), None) for number in range(200)]
        once = threading.Lock()

        def interrupt(_key: str) -> None:
            if once.acquire(blocking=False):
                os.kill(os.getpid(), signal.SIGINT)

        bucket.on_put = interrupt
        with pytest.raises(KeyboardInterrupt):
            upload(bucket, sources, Silent())
        assert bucket.requests["put"] < len(sources)


def uploaded(bucket: FakeBucket, name: str = "x", content: bytes = b"input") -> Upload:
    info = bucket.write(f"RefinerInput/{name}", content)
    return Upload(info.key, info.size, info.version_id, UploadStatus.UPLOADED, info.last_modified)


def wait_for(
    completions: Completions,
    *items: Upload,
    baseline: Baseline | None = None,
    timeout_s: float = 60,
    dead_letters: DeadLetters | None = None,
    prefix: str = "RefinerInput/",
) -> list[Upload]:
    return follow(
        completions,
        items,
        baseline or Baseline(),
        prefix=prefix,
        timeout_s=timeout_s,
        progress=Silent(),
        dead_letters=dead_letters,
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

    def test_the_order_given_is_kept_whichever_comes_first(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        items = [uploaded(bucket, name) for name in "abc"]
        for second, name in enumerate("cab", start=1):
            clock.at(second, completes(bucket, f"{name}.json"))
        done = wait_for(completions, *items)
        assert [item.key[-1] for item in done] == ["a", "b", "c"]
        assert all(item.status is UploadStatus.COMPLETED for item in done)

    def test_a_completion_below_another_prefix(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        info = bucket.write("team/In/sub/x")
        item = Upload(info.key, 0, info.version_id, UploadStatus.UPLOADED, info.last_modified)
        clock.at(1, completes(bucket, "sub/x.json"))
        (done,) = wait_for(completions, item, prefix="team/In/")
        assert done.status is UploadStatus.COMPLETED

    def test_a_refiners_error_fails_the_upload(
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

    def test_a_listed_output_that_is_missing_fails_the_upload(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        bucket.write("RefinerOutput/1")
        clock.at(1, completes(bucket, "x.json", '["RefinerOutput/1", "RefinerOutput/2"]'))
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.FAILED
        assert "RefinerOutput/2" in str(done.error)
        assert "RefinerOutput/1" not in str(done.error)

    def test_what_does_not_come_is_pending(self, bucket: FakeBucket, completions: Completions, clock: Clock) -> None:
        (done,) = wait_for(completions, uploaded(bucket), timeout_s=60)
        assert (done.status, done.error) == (UploadStatus.PENDING, "no completion in time")
        assert 60 <= clock.now < 61

    def test_no_time_at_all_is_still_one_look(self, bucket: FakeBucket, completions: Completions) -> None:
        item = uploaded(bucket)
        completes(bucket, "x.json")()
        assert wait_for(completions, item, timeout_s=0)[0].status is UploadStatus.COMPLETED

    def test_the_last_look_is_at_the_deadline(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        item = uploaded(bucket)
        clock.at(59.9, completes(bucket, "x.json"))
        assert wait_for(completions, item, timeout_s=60)[0].status is UploadStatus.COMPLETED

    def test_a_failed_upload_is_handed_through(self, bucket: FakeBucket, completions: Completions) -> None:
        failed = Upload("RefinerInput/f", 0, None, UploadStatus.FAILED, START, error="denied")
        item = uploaded(bucket)
        completes(bucket, "x.json")()
        completes(bucket, "f.json")()
        assert wait_for(completions, failed, item)[0] == failed

    def test_an_input_overwritten_meanwhile_says_so(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, lambda: bucket.write(item.key, b"other"))
        (done,) = wait_for(completions, item, timeout_s=5)
        assert done.status is UploadStatus.PENDING
        assert "overwritten meanwhile (version v2)" in str(done.error)

    def test_an_input_that_is_gone_says_so(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        item = uploaded(bucket)
        clock.at(1, lambda: bucket.delete(item.key))
        assert "gone meanwhile" in str(wait_for(completions, item, timeout_s=5)[0].error)

    def test_who_may_not_look_at_the_input_again_still_gets_an_answer(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        item = uploaded(bucket)
        clock.at(1, lambda: bucket.denied.add(item.key))
        (done,) = wait_for(completions, item, timeout_s=5)
        assert (done.status, done.error) == (UploadStatus.PENDING, "no completion in time")


class TestEarlierCompletion:
    """The same key was uploaded before, and its completion is still there."""

    def test_without_metadata_one_that_was_there_before_does_not_count(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        completes(bucket, "x.json")()
        baseline = look_before(completions, [UploadSource("RefinerInput/x", None, 1)], "RefinerInput/")
        item = uploaded(bucket)
        assert wait_for(completions, item, baseline=baseline, timeout_s=5)[0].status is UploadStatus.PENDING
        clock.at(clock.now + 2, completes(bucket, "x.json"))
        assert wait_for(completions, item, baseline=baseline)[0].status is UploadStatus.COMPLETED

    def test_without_versioning_a_later_write_of_the_same_content_counts(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket = FakeBucket(clock, versioned=False)
        completions = completions_of(bucket)
        completes(bucket, "x.json")()
        baseline = look_before(completions, [UploadSource("RefinerInput/x", None, 1)], "RefinerInput/")
        item = uploaded(bucket)
        assert item.version_id is None
        assert wait_for(completions, item, baseline=baseline, timeout_s=5)[0].status is UploadStatus.PENDING
        clock.at(clock.now + 2, completes(bucket, "x.json"))
        assert wait_for(completions, item, baseline=baseline)[0].status is UploadStatus.COMPLETED

    def test_one_about_another_version_does_not_count_even_when_it_is_written_anew(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        """The message of the earlier upload is delivered only now."""
        item = uploaded(bucket)
        clock.at(1, completes(bucket, "x.json", source_version="v0"))
        clock.at(4, completes(bucket, "x.json", source_version=str(item.version_id)))
        (done,) = wait_for(completions, item, timeout_s=3)
        assert done.status is UploadStatus.PENDING
        (done,) = wait_for(completions, item)
        assert done.status is UploadStatus.COMPLETED

    def test_one_that_the_image_was_told_of_under_our_version_counts(
        self, bucket: FakeBucket, completions: Completions
    ) -> None:
        """Overwritten before the image read it: the event was ours, the content that it read was not."""
        item = uploaded(bucket)
        completes(bucket, "x.json", source_version="v9", source_event_version=str(item.version_id))()
        assert wait_for(completions, item)[0].status is UploadStatus.COMPLETED

    def test_the_one_without_json_is_looked_at_when_the_other_is_old(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        completes(bucket, "x.json")()
        baseline = look_before(completions, [UploadSource("RefinerInput/x", None, 1)], "RefinerInput/")
        item = uploaded(bucket)
        clock.at(1, completes(bucket, "x"))
        (done,) = wait_for(completions, item, baseline=baseline)
        assert done.completion_key == "RefinerComplete/x"


def dead(item: Upload, version: str | None, *, bucket: str = "data-repository", minutes_ago: float = 0) -> Message:
    extra = f', "version-id": "{version}"' if version else ""
    body = f'{{"detail": {{"bucket": {{"name": "{bucket}"}}, "object": {{"key": "{item.key}"{extra}}}}}}}'
    return Message(body, item.uploaded_at - timedelta(minutes=minutes_ago), 5)


class TestDeadLetters:
    @pytest.fixture
    def queues(self) -> FakeQueues:
        queues = FakeQueues()
        queues.messages[DLQ] = []
        return queues

    @pytest.fixture
    def letters(self, queues: FakeQueues) -> DeadLetters:
        return DeadLetters(queues, lambda: DLQ, "data-repository")

    def test_an_input_whose_message_is_dead_has_failed(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, queues: FakeQueues, letters: DeadLetters
    ) -> None:
        items = [uploaded(bucket, "a"), uploaded(bucket, "b")]
        clock.at(4, lambda: queues.messages[DLQ].append(dead(items[0], items[0].version_id)))
        clock.at(20, completes(bucket, "b.json"))
        done = wait_for(completions, *items, dead_letters=letters)
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
    def test_others_messages_do_not_matter(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, letters: DeadLetters, message: Message
    ) -> None:
        queues.messages[DLQ].append(message)
        (done,) = wait_for(completions, uploaded(bucket), dead_letters=letters, timeout_s=10)
        assert done.status is UploadStatus.PENDING

    def test_another_version_and_another_bucket_do_not_matter(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, letters: DeadLetters
    ) -> None:
        item = uploaded(bucket)
        queues.messages[DLQ] += [dead(item, "v0"), dead(item, item.version_id, bucket="other")]
        assert wait_for(completions, item, dead_letters=letters, timeout_s=10)[0].status is UploadStatus.PENDING

    @pytest.mark.parametrize(("minutes_ago", "status"), [(0, "failed"), (0.5, "failed"), (10, "pending")])
    def test_without_versioning_the_time_tells_an_old_message_from_ours(
        self, clock: Clock, queues: FakeQueues, letters: DeadLetters, minutes_ago: float, status: str
    ) -> None:
        bucket = FakeBucket(clock, versioned=False)
        item = uploaded(bucket)
        queues.messages[DLQ].append(dead(item, None, minutes_ago=minutes_ago))
        (done,) = wait_for(completions_of(bucket), item, dead_letters=letters, timeout_s=10)
        assert done.status == status

    def test_a_message_that_is_there_twice_fails_its_input_once(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, letters: DeadLetters
    ) -> None:
        item = uploaded(bucket)
        queues.messages[DLQ] += [dead(item, item.version_id)] * 2
        assert [done.status.value for done in wait_for(completions, item, dead_letters=letters)] == ["failed"]

    @pytest.mark.parametrize(
        "error", [AccessDeniedError("access denied"), NotFoundError("no queue"), RefinerctlError("x")]
    )
    def test_who_may_not_see_the_queue_waits_without_it_and_asks_once(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, letters: DeadLetters, error: Exception
    ) -> None:
        assert isinstance(error, RefinerctlError)
        queues.error = error
        (done,) = wait_for(completions, uploaded(bucket), dead_letters=letters, timeout_s=60)
        assert done.status is UploadStatus.PENDING
        assert queues.requests["depth"] == 1

    def test_an_empty_queue_is_not_received_from(
        self, bucket: FakeBucket, completions: Completions, queues: FakeQueues, letters: DeadLetters
    ) -> None:
        wait_for(completions, uploaded(bucket), dead_letters=letters, timeout_s=60)
        assert queues.requests["peek"] == 0
        assert 4 <= queues.requests["depth"] <= 15  # less and less often


class TestCost:
    @pytest.mark.parametrize("history", [0, 3000])
    def test_it_does_not_grow_with_history(self, clock: Clock, history: int) -> None:
        bucket = FakeBucket(clock)
        for number in range(history):
            bucket.write(f"RefinerComplete/old-{number}.json", "[]")
        completions = completions_of(bucket)
        sources = [UploadSource("RefinerInput/x", None, 1)]
        baseline = look_before(completions, sources, "RefinerInput/")
        item = uploaded(bucket)
        clock.at(60, completes(bucket, "x.json"))
        wait_for(completions, item, baseline=baseline, timeout_s=120)
        assert bucket.requests["list"] == 0
        assert bucket.requests["head"] == 2
        assert bucket.requests["get"] <= 45

    def test_looks_become_rarer(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        wait_for(completions, uploaded(bucket), timeout_s=300)
        first = bucket.requests["get"]
        wait_for(completions, uploaded(bucket), timeout_s=600)
        assert bucket.requests["get"] - first < first * 2
        assert first <= 2 * (300 / 5 + 10)


def _write_slowly(descriptor: int, chunks: list[bytes]) -> None:
    with os.fdopen(descriptor, "wb", buffering=0) as pipe:
        for chunk in chunks:
            time.sleep(0.3)  # longer than one look at the pipe
            pipe.write(chunk)
