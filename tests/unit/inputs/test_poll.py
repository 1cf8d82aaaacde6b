"""Polling: existing, new and expected completions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refinerctl.errors import AccessDeniedError
from refinerctl.inputs.completions import MAX_COMPLETION_BYTES, Completions
from refinerctl.inputs.outputs import ListedOutput, ReadOutput, read_outputs, save_outputs
from refinerctl.inputs.poll import THREADS, WINDOW, Expectation, PolledCompletion, Poller, expectation
from refinerctl.stacks.base import CompletionStatus
from refinerctl.stacks.refiner import STACK
from tests.unit.fakes import START, STORAGE, Clock, FakeBucket, completions_of, pipeline_of


def names(found: Any) -> list[str]:
    return [item.key.removeprefix("RefinerComplete/") for item in found]


def read_nothing(key: str) -> ListedOutput:
    return ListedOutput(key, 0, b"")


def poller(completions: Completions, since: datetime | None = None, read: ReadOutput = read_nothing) -> Poller:
    assert isinstance(completions.bucket, FakeBucket)
    return Poller(completions, read, since, clock=completions.bucket.clock)


class TestExisting:
    def test_all_are_listed_in_the_order_of_their_keys(self, bucket: FakeBucket, completions: Completions) -> None:
        wanted = [f"{number:03}.json" for number in range(50)]
        for name in reversed(wanted):
            bucket.write(f"RefinerComplete/{name}", "[]")
        bucket.write("RefinerOutput/other", "[]")
        assert names(poller(completions).existing()) == wanted

    def test_since_is_inclusive(self, bucket: FakeBucket, completions: Completions) -> None:
        for hours in (0, 1, 2):
            bucket.write(f"RefinerComplete/{hours}", "[]", at=START + timedelta(hours=hours))
        assert names(poller(completions, START + timedelta(hours=1)).existing()) == ["1", "2"]

    def test_a_folder_marker_is_not_a_completion(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/", b"")
        bucket.write("RefinerComplete/2026/", b"")
        assert names(poller(completions).existing()) == []

    def test_a_completion_has_its_outputs(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerOutput/1", b"one")
        bucket.write("RefinerComplete/x.json", '["/RefinerOutput/1"]')
        (found,) = poller(completions, read=read_outputs(bucket, 100)).existing()
        assert found == PolledCompletion(
            "RefinerComplete/x.json",
            CompletionStatus.COMPLETED,
            START,
            (ListedOutput("RefinerOutput/1", 3, b"one"),),
        )

    def test_a_missing_output_fails_its_completion_and_the_others_are_read(
        self, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.write("RefinerOutput/1", b"one")
        bucket.write("RefinerComplete/x.json", '["RefinerOutput/0", "RefinerOutput/1"]')
        (found,) = poller(completions, read=read_outputs(bucket, 100)).existing()
        assert found.status is CompletionStatus.FAILED
        assert "RefinerOutput/0" in str(found.error)
        assert found.outputs[1].content == b"one"

    def test_an_unreadable_output_fails_only_its_completion(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.denied.add("RefinerOutput/1")
        bucket.write("RefinerComplete/a", '["RefinerOutput/1"]')
        bucket.write("RefinerComplete/b", "[]")
        first, second = poller(completions, read=read_outputs(bucket, 100)).existing()
        assert first.status is CompletionStatus.FAILED
        assert "access denied" in str(first.error)
        assert second.status is CompletionStatus.COMPLETED

    def test_failed_and_malformed_completions_are_reported(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/a", '{"RefinerSkip": true, "Error": "why"}')
        bucket.write("RefinerComplete/b", "{")
        bucket.write("RefinerComplete/c", "[]")
        found = list(poller(completions).existing())
        assert [item.status.value for item in found] == ["failed", "malformed", "completed"]
        assert found[0].error == "why"

    def test_a_completion_over_the_size_limit_is_malformed(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/a", b"[" + b" " * MAX_COMPLETION_BYTES + b"]")
        (found,) = poller(completions).existing()
        assert found.status is CompletionStatus.MALFORMED
        assert str(MAX_COMPLETION_BYTES + 2) in str(found.error)

    def test_a_completion_deleted_after_listing_is_skipped(self, bucket: FakeBucket, completions: Completions) -> None:
        for name in "abc":
            bucket.write(f"RefinerComplete/{name}", "[]")

        class Deleting(Completions):
            def since(self, moment: datetime | None) -> Iterator[Any]:
                for info in super().since(moment):
                    if info.key.endswith("b"):
                        bucket.delete(info.key)
                    yield info

        assert names(poller(Deleting(bucket, STORAGE, STACK, pipeline_of())).existing()) == ["a", "c"]

    def test_only_a_few_completions_are_fetched_ahead(self, bucket: FakeBucket, completions: Completions) -> None:
        for number in range(200):
            bucket.write(f"RefinerComplete/{number:03}", "[]")
        found = poller(completions).existing()
        assert names(itertools.islice(found, 3)) == ["000", "001", "002"]
        assert bucket.requests["get"] <= 3 + THREADS


class TestFollow:
    def run(
        self, completions: Completions, since: datetime | None = None, timeout_s: float = 30, interval_s: float = 2
    ) -> list[str]:
        return names(poller(completions, since).follow(interval_s=interval_s, timeout_s=timeout_s))

    def test_only_new_completions_are_reported(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.write("RefinerComplete/old", "[]")
        clock.at(5, lambda: bucket.write("RefinerComplete/new", "[]"))
        clock.at(9, lambda: bucket.write("RefinerComplete/newer", "[]"))
        assert self.run(completions) == ["new", "newer"]

    def test_each_completion_is_reported_once(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        minutes = 60
        for minute in range(minutes):
            clock.at(60 * minute + 1, lambda minute=minute: bucket.write(f"RefinerComplete/{minute:02}", "[]"))  # type: ignore[misc]
        assert self.run(completions, timeout_s=60 * minutes + 10) == [f"{minute:02}" for minute in range(minutes)]

    def test_completions_of_one_interval_are_sorted_by_time(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        for second, name in enumerate(["c", "a", "b"], start=11):
            clock.at(second, lambda name=name: bucket.write(f"RefinerComplete/{name}", "[]"))  # type: ignore[misc]
        assert self.run(completions, interval_s=10) == ["c", "a", "b"]

    def test_since_reports_earlier_completions_first(
        self, bucket: FakeBucket, completions: Completions, clock: Clock
    ) -> None:
        for hours in (1, 2, 3):
            bucket.write(f"RefinerComplete/{hours}", "[]", at=START - timedelta(hours=hours))
        clock.at(5, lambda: bucket.write("RefinerComplete/new", "[]"))
        assert self.run(completions, since=START - timedelta(hours=2)) == ["2", "1", "new"]

    @pytest.mark.parametrize("body", ["[]", '["RefinerOutput/other"]'])
    def test_a_rewritten_completion_is_reported_again(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, body: str
    ) -> None:
        bucket.write("RefinerComplete/x", "[]")
        clock.at(5, lambda: bucket.write("RefinerComplete/x", body))
        clock.at(15, lambda: bucket.write("RefinerComplete/x", body))
        assert self.run(completions) == ["x", "x"]

    def test_a_completion_that_becomes_visible_late_is_reported(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        clock.at(100, lambda: bucket.write("RefinerComplete/on-time", "[]"))
        late = START + timedelta(seconds=100) - WINDOW
        clock.at(105, lambda: bucket.write("RefinerComplete/late", "[]", at=late))
        assert self.run(completions, timeout_s=110) == ["on-time", "late"]

    def test_a_malformed_completion_does_not_stop_following(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        clock.at(3, lambda: bucket.write("RefinerComplete/a", b"\xff"))
        clock.at(6, lambda: bucket.write("RefinerComplete/b", "[]"))
        assert self.run(completions) == ["a", "b"]

    def test_a_lost_connection_does_not_stop_following(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, tmp_path: Path
    ) -> None:
        bucket.write("RefinerOutput/1", b"x" * 1000)
        bucket.broken["RefinerOutput/1"] = 10
        clock.at(3, lambda: bucket.write("RefinerComplete/a", '["RefinerOutput/1"]'))
        clock.at(6, lambda: bucket.write("RefinerComplete/b", "[]"))
        found = list(poller(completions, read=save_outputs(bucket, tmp_path)).follow(interval_s=2, timeout_s=30))
        assert [item.status.value for item in found] == ["failed", "completed"]

    def test_without_a_timeout_following_is_unlimited(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        for second in (10, 100_000):
            clock.at(second, lambda second=second: bucket.write(f"RefinerComplete/{second}", "[]"))  # type: ignore[misc]
        news = poller(completions).follow(interval_s=60, timeout_s=None)
        assert names(itertools.islice(news, 2)) == ["10", "100000"]

    def test_following_stops_at_the_timeout(self, clock: Clock, completions: Completions) -> None:
        assert self.run(completions, timeout_s=7, interval_s=5) == []
        assert 7 <= clock.now < 8


TWO_RULESETS = {name: {"prefix": f"{name}/", "image_uri": "repo"} for name in ("RefinerInput", "Lab")}


class TestExpectation:
    @pytest.mark.parametrize(
        "asked", ["RefinerInput/a/x.txt", "/RefinerInput/a/x.txt", "a/x.txt", "RefinerComplete/a/x.txt"]
    )
    def test_an_input_key_a_completion_key_or_a_bare_name(self, asked: str) -> None:
        found = expectation(completions_of(FakeBucket()), asked)
        assert found.asked == asked
        assert found.candidates == ("RefinerComplete/a/x.txt.json", "RefinerComplete/a/x.txt")

    def test_a_completion_key_with_its_suffix_is_exact(self) -> None:
        assert expectation(completions_of(FakeBucket()), "RefinerComplete/x.json").candidates == (
            "RefinerComplete/x.json",
        )

    def test_an_input_named_json_has_a_completion_with_two_suffixes(self) -> None:
        expected = ("RefinerComplete/x.json.json", "RefinerComplete/x.json")
        assert expectation(completions_of(FakeBucket()), "RefinerInput/x.json").candidates == expected

    def test_a_key_of_any_stage_is_an_inputs(self) -> None:
        found = expectation(completions_of(FakeBucket(), TWO_RULESETS), "Lab/x")
        assert (found.input_key, found.candidates[0]) == ("Lab/x", "RefinerComplete/Lab/x.completion")
        below = expectation(completions_of(FakeBucket(), TWO_RULESETS), "Lab/x", "RefinerInput/")
        assert below.input_key == "RefinerInput/Lab/x"

    def test_a_completion_key_of_another_stage(self) -> None:
        completions = completions_of(FakeBucket(), TWO_RULESETS)
        key = "RefinerComplete/Lab/x.completion"
        assert expectation(completions, key).candidates == (key,)
        assert key in expectation(completions, "RefinerComplete/Lab/x").candidates

    @pytest.mark.parametrize("name", ["A", "Z"])
    def test_a_completion_key_without_suffix_is_rather_that_of_the_longest_prefix(self, name: str) -> None:
        rulesets = {
            "M": {"prefix": "RefinerInput/", "image_uri": "repo"},
            name: {"prefix": "Lab/", "image_uri": "repo"},
        }
        found = expectation(completions_of(FakeBucket(), rulesets), "RefinerComplete/Lab/x")
        assert found.candidates[0] == "RefinerComplete/Lab/x.completion"

    def test_the_bare_name_of_an_input_named_json(self) -> None:
        candidates = expectation(completions_of(FakeBucket()), "x.json").candidates
        assert set(candidates) == {"RefinerComplete/x.json.json", "RefinerComplete/x.json"}


class TestExpect:
    def run(
        self, completions: Completions, *asked: str, since: datetime | None = None, timeout_s: float = 30
    ) -> list[PolledCompletion | Expectation]:
        wanted = [expectation(completions, key) for key in asked]
        return list(poller(completions, since).expect(wanted, interval_s=2, timeout_s=timeout_s))

    def test_a_completion_of_another_input_is_not_the_expected_one(self, bucket: FakeBucket) -> None:
        completions = completions_of(bucket, TWO_RULESETS)
        source = {"source-bucket-key": "data-repository/Lab/a"}
        bucket.write("RefinerComplete/a.json", "[]", source)
        (found,) = self.run(completions, "RefinerInput/a")
        assert isinstance(found, Expectation)
        assert found.other == "RefinerComplete/a.json is the completion of data-repository/Lab/a"
        (found,) = self.run(completions, "RefinerComplete/a.json")
        assert isinstance(found, PolledCompletion)

    def test_a_completion_that_does_not_name_its_input_belongs_to_the_stage_with_its_prefix(
        self, bucket: FakeBucket
    ) -> None:
        completions = completions_of(bucket, TWO_RULESETS)
        bucket.write("RefinerComplete/Lab/a", '{"RefinerOutputFiles": []}')
        assert [type(found) for found in self.run(completions, "Lab/a", "RefinerInput/Lab/a")] == [
            PolledCompletion,
            Expectation,
        ]

    def test_an_older_completion_of_this_repositorys_image_does_not_name_its_input(self, bucket: FakeBucket) -> None:
        bucket.write("RefinerComplete/Lab/a.json", "[]", {"source-version": "v1"})
        (found,) = self.run(completions_of(bucket, TWO_RULESETS), "RefinerInput/Lab/a")
        assert isinstance(found, PolledCompletion)

    @pytest.mark.parametrize("versioned", [True, False])
    def test_an_older_completion_that_names_no_version_of_the_input_is_another_inputs(self, versioned: bool) -> None:
        """Of rulesets that wrote to one key."""
        bucket = FakeBucket(versioned=versioned)
        completions = completions_of(bucket, TWO_RULESETS)
        ours, other = bucket.write("RefinerInput/a", "ours"), bucket.write("Lab/a", "other")
        for info, expected in ((other, Expectation), (ours, PolledCompletion)):
            version = info.version_id or info.etag.strip('"')
            bucket.write("RefinerComplete/a.json", "[]", {"source-version": version})
            (found,) = self.run(completions, "RefinerInput/a")
            assert isinstance(found, expected)

    def test_an_older_completion_of_an_input_that_was_overwritten(self, bucket: FakeBucket) -> None:
        bucket.write("RefinerComplete/a.json", "[]", {"source-version": "v1"})
        bucket.write("RefinerInput/a", at=START + timedelta(hours=1))
        (found,) = self.run(completions_of(bucket, TWO_RULESETS), "RefinerInput/a")
        assert isinstance(found, PolledCompletion)

    def test_completions_are_reported_as_they_appear(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.write("RefinerComplete/b", "[]")
        clock.at(3, lambda: bucket.write("RefinerComplete/a.json", "[]"))
        assert names(self.run(completions, "a", "b")) == ["b", "a.json"]
        assert clock.now < 5

    def test_expectations_that_timed_out_are_last(
        self, bucket: FakeBucket, completions: Completions, clock: Clock
    ) -> None:
        bucket.write("RefinerComplete/b", "[]")
        found = self.run(completions, "a", "b", "c", timeout_s=10)
        assert isinstance(found[0], PolledCompletion)
        assert [item.asked for item in found[1:] if isinstance(item, Expectation)] == ["a", "c"]
        assert 10 <= clock.now < 11

    def test_duplicates_are_reported_once(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/a", "[]")
        assert names(self.run(completions, "a", "a")) == ["a"]

    def test_a_completion_older_than_since_is_ignored(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.write("RefinerComplete/a.json", "[]", at=START - timedelta(hours=1))
        clock.at(4, lambda: bucket.write("RefinerComplete/a", "[]"))
        assert names(self.run(completions, "a", since=START)) == ["a"]

    def test_a_failed_completion_is_reported(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/a", '{"Error": "x"}')
        (found,) = self.run(completions, "a")
        assert isinstance(found, PolledCompletion)
        assert found.status is CompletionStatus.FAILED

    def test_nothing_expected_returns_at_once(self, clock: Clock, completions: Completions) -> None:
        assert self.run(completions) == []
        assert clock.now == 0

    @pytest.mark.parametrize("history", [0, 3000])
    def test_requests_do_not_grow_with_the_history_of_the_bucket(self, clock: Clock, history: int) -> None:
        bucket = FakeBucket(clock)
        for number in range(history):
            bucket.write(f"RefinerComplete/old-{number}", "[]")
        self.run(completions_of(bucket), "a", timeout_s=20)
        assert bucket.requests["list"] == 0
        assert bucket.requests["get"] == 2 * 11


def test_a_completion_that_cannot_be_read_is_an_error(bucket: FakeBucket, completions: Completions) -> None:
    bucket.write("RefinerComplete/a", "[]")
    bucket.denied.add("RefinerComplete/a")
    with pytest.raises(AccessDeniedError):
        list(poller(completions).existing())
