"""Following many uploads, whose completions are found by listing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from refinerctl.aws.s3 import ObjectInfo
from refinerctl.inputs.completions import Completions
from refinerctl.inputs.follow import UploadStatus, existing_completions
from tests.unit.fakes import Clock, FakeBucket, completions_of
from tests.unit.inputs.test_follow import completes, uploaded, wait_for


class TestMany:
    """The completions of many inputs are found by listing."""

    NAMES = tuple(f"n{number:03}" for number in range(200))

    def test_each_completion_is_requested_once_and_no_other_object(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        existing = existing_completions(completions, [f"RefinerInput/{name}" for name in self.NAMES])
        items = [uploaded(bucket, name) for name in self.NAMES]
        for number, name in enumerate(self.NAMES):
            bucket.write(f"RefinerOutput/{name}")
            version = str(items[number].version_id)
            clock.at(
                1 + number / 10, completes(bucket, f"{name}.json", f'["RefinerOutput/{name}"]', source_version=version)
            )
        done = wait_for(completions, *items, existing=existing)
        assert {item.status for item in done} == {UploadStatus.COMPLETED}
        assert clock.now < 1 + len(self.NAMES) / 10 / 0.9
        alone = 20  # the last ones are requested by their keys
        assert bucket.requests["get"] <= len(self.NAMES) + 2 * alone * 10
        assert bucket.requests["head"] <= len(self.NAMES)
        assert bucket.requests["page"] <= 100

    def test_the_last_completions_are_found_soon_however_long_a_listing_takes(self, clock: Clock) -> None:
        class Slow(FakeBucket):
            def page(self, prefix: str, after: str = "") -> tuple[list[ObjectInfo], bool]:
                clock.sleep(1)
                return super().page(prefix, after)

        bucket = Slow(clock)
        items = [uploaded(bucket, name) for name in self.NAMES]
        for number, name in enumerate(self.NAMES):
            clock.at(number / 30, completes(bucket, f"{name}.json"))
        done = wait_for(completions_of(bucket), *items)
        assert {item.status for item in done} == {UploadStatus.COMPLETED}
        assert clock.now < len(self.NAMES) / 30 + 1.5

    def test_earlier_completions_are_not_taken_for_new_ones(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        for name in self.NAMES:
            completes(bucket, f"{name}.json")()
        existing = existing_completions(completions, [f"RefinerInput/{name}" for name in self.NAMES])
        clock.sleep(600)
        items = [uploaded(bucket, name) for name in self.NAMES]
        assert {item.status for item in wait_for(completions, *items, existing=existing)} == {UploadStatus.PENDING}
        assert bucket.requests["get"] == 0
        clock.at(clock.now + 2, lambda: [completes(bucket, f"{name}.json")() for name in self.NAMES])
        assert {item.status for item in wait_for(completions, *items, existing=existing)} == {UploadStatus.COMPLETED}

    def test_a_completion_that_replaces_an_equal_one_of_the_same_second_is_found(
        self, completions: Completions
    ) -> None:
        bucket = completions.bucket
        assert isinstance(bucket, FakeBucket)
        now = datetime.now(UTC).replace(microsecond=0)
        for name in self.NAMES:
            bucket.write(f"RefinerComplete/{name}.json", "[]", at=now)
        existing = existing_completions(completions, [f"RefinerInput/{name}" for name in self.NAMES])
        items = [replace(uploaded(bucket, name), uploaded_at=now) for name in self.NAMES]
        for name in self.NAMES:
            bucket.write(f"RefinerComplete/{name}.json", "[]", at=now)
        assert {item.status for item in wait_for(completions, *items, existing=existing)} == {UploadStatus.COMPLETED}

    def test_a_missing_output_fails_its_input_only(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        items = [uploaded(bucket, name) for name in self.NAMES]
        for name in self.NAMES:
            completes(bucket, f"{name}.json", f'["RefinerOutput/{name}"]')()
            if name != "n007":
                bucket.write(f"RefinerOutput/{name}")
        done = wait_for(completions, *items)
        (failed,) = [item for item in done if item.status is not UploadStatus.COMPLETED]
        assert (failed.key, failed.error) == ("RefinerInput/n007", "listed outputs do not exist: RefinerOutput/n007")

    def test_inputs_that_are_far_apart_in_a_long_listing_are_requested_by_their_keys(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.page_size = 10
        for name in self.NAMES:
            for number in range(30):
                bucket.write(f"RefinerComplete/{name}-{number}", "[]")
        items = [uploaded(bucket, name) for name in self.NAMES]
        clock.at(1, lambda: [completes(bucket, f"{name}.json")() for name in self.NAMES])
        assert {item.status for item in wait_for(completions, *items)} == {UploadStatus.COMPLETED}
        assert bucket.requests["page"] <= 2 * len(self.NAMES) // 20 + 1

    def test_without_permission_to_list_keys_are_requested_one_by_one(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.denied.add("RefinerComplete/n")  # the prefix
        items = [uploaded(bucket, name) for name in self.NAMES]
        clock.at(1, lambda: [completes(bucket, f"{name}.json")() for name in self.NAMES])
        assert {item.status for item in wait_for(completions, *items)} == {UploadStatus.COMPLETED}
