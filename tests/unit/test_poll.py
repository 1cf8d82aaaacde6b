"""Completions that are there, new ones, expected ones; and saving what they list."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.inputs import poll as operation
from refinerctl.inputs.completions import MAX_COMPLETION_BYTES, Completions
from refinerctl.inputs.poll import (
    WINDOW,
    Expectation,
    expect,
    expectation,
    follow,
    look,
    print_outputs,
    save_outputs,
    target_path,
)
from refinerctl.inputs.types import Output, PolledCompletion
from refinerctl.stacks.base import CompletionStatus
from refinerctl.stacks.settings import Pipeline
from tests.unit.fakes import START, Clock, FakeBucket, completions_of


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


def names(found: Any) -> list[str]:
    return [item.key.removeprefix("RefinerComplete/") for item in found]


def read_nothing(key: str) -> Output:
    return Output(key, 0, b"")


class TestLook:
    def test_all_that_are_there_in_the_order_of_their_keys(self, bucket: FakeBucket, completions: Completions) -> None:
        wanted = [f"{number:03}.json" for number in range(50)]
        for name in reversed(wanted):
            bucket.write(f"RefinerComplete/{name}", "[]")
        bucket.write("RefinerOutput/other", "[]")
        assert names(look(completions, None, read_nothing)) == wanted

    def test_those_since_a_moment_which_itself_counts(self, bucket: FakeBucket, completions: Completions) -> None:
        for hours in (0, 1, 2):
            bucket.write(f"RefinerComplete/{hours}", "[]", at=START + timedelta(hours=hours))
        assert names(look(completions, START + timedelta(hours=1), read_nothing)) == ["1", "2"]

    def test_a_folder_marker_is_no_completion(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/", b"")
        bucket.write("RefinerComplete/2026/", b"")
        assert names(look(completions, None, read_nothing)) == []

    def test_each_with_its_outputs(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerOutput/1", b"one")
        bucket.write("RefinerComplete/x.json", '["/RefinerOutput/1"]')
        (found,) = look(completions, None, print_outputs(bucket, 100))
        assert found == PolledCompletion(
            "RefinerComplete/x.json",
            CompletionStatus.COMPLETED,
            START,
            (Output("RefinerOutput/1", 3, b"one"),),
        )

    def test_a_missing_output_fails_its_completion_and_shows_the_others(
        self, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.write("RefinerOutput/1", b"one")
        bucket.write("RefinerComplete/x.json", '["RefinerOutput/0", "RefinerOutput/1"]')
        (found,) = look(completions, None, print_outputs(bucket, 100))
        assert found.status is CompletionStatus.FAILED
        assert "RefinerOutput/0" in str(found.error)
        assert found.outputs[1].content == b"one"

    def test_an_output_that_may_not_be_read_fails_its_completion_only(
        self, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.denied.add("RefinerOutput/1")
        bucket.write("RefinerComplete/a", '["RefinerOutput/1"]')
        bucket.write("RefinerComplete/b", "[]")
        first, second = look(completions, None, print_outputs(bucket, 100))
        assert first.status is CompletionStatus.FAILED
        assert "access denied" in str(first.error)
        assert second.status is CompletionStatus.COMPLETED

    def test_errors_and_malformed_ones_are_shown_as_such(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/a", '{"RefinerSkip": true, "Error": "why"}')
        bucket.write("RefinerComplete/b", "{")
        bucket.write("RefinerComplete/c", "[]")
        found = list(look(completions, None, read_nothing))
        assert [item.status.value for item in found] == ["failed", "malformed", "completed"]
        assert found[0].error == "why"

    def test_one_that_is_far_too_large_is_malformed(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/a", b"[" + b" " * MAX_COMPLETION_BYTES + b"]")
        (found,) = look(completions, None, read_nothing)
        assert found.status is CompletionStatus.MALFORMED
        assert str(MAX_COMPLETION_BYTES + 2) in str(found.error)

    def test_one_that_is_deleted_between_list_and_get_is_left_out(
        self, bucket: FakeBucket, completions: Completions
    ) -> None:
        for name in "abc":
            bucket.write(f"RefinerComplete/{name}", "[]")

        class Deleting(Completions):
            def since(self, moment: datetime | None) -> Iterator[Any]:
                for info in super().since(moment):
                    if info.key.endswith("b"):
                        bucket.delete(info.key)
                    yield info

        assert names(look(Deleting(bucket, Pipeline()), None, read_nothing)) == ["a", "c"]

    def test_no_more_is_fetched_than_is_asked_for_and_a_few_ahead(
        self, bucket: FakeBucket, completions: Completions
    ) -> None:
        for number in range(200):
            bucket.write(f"RefinerComplete/{number:03}", "[]")
        found = look(completions, None, read_nothing)
        assert names(itertools.islice(found, 3)) == ["000", "001", "002"]
        assert bucket.requests["get"] <= 3 + operation.AT_ONCE


class TestFollow:
    def run(
        self, completions: Completions, since: datetime | None = None, timeout_s: float = 30, interval_s: float = 2
    ) -> list[str]:
        return names(follow(completions, since, read_nothing, interval_s=interval_s, timeout_s=timeout_s))

    def test_only_those_that_come_from_now_on(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/old", "[]")
        clock.at(5, lambda: bucket.write("RefinerComplete/new", "[]"))
        clock.at(9, lambda: bucket.write("RefinerComplete/newer", "[]"))
        assert self.run(completions) == ["new", "newer"]

    def test_each_once_however_long_it_goes_on(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        minutes = 60
        for minute in range(minutes):
            clock.at(60 * minute + 1, lambda minute=minute: bucket.write(f"RefinerComplete/{minute:02}", "[]"))  # type: ignore[misc]
        assert self.run(completions, timeout_s=60 * minutes + 10) == [f"{minute:02}" for minute in range(minutes)]

    def test_several_at_one_look_come_in_the_order_of_their_times(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        for second, name in enumerate(["c", "a", "b"], start=11):
            clock.at(second, lambda name=name: bucket.write(f"RefinerComplete/{name}", "[]"))  # type: ignore[misc]
        assert self.run(completions, interval_s=10) == ["c", "a", "b"]

    def test_since_brings_those_before_now(self, bucket: FakeBucket, completions: Completions, clock: Clock) -> None:
        for hours in (1, 2, 3):
            bucket.write(f"RefinerComplete/{hours}", "[]", at=START - timedelta(hours=hours))
        clock.at(5, lambda: bucket.write("RefinerComplete/new", "[]"))
        assert self.run(completions, since=START - timedelta(hours=2)) == ["2", "1", "new"]

    @pytest.mark.parametrize("body", ["[]", '["RefinerOutput/other"]'])
    def test_a_rewritten_completion_is_seen_again(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, body: str
    ) -> None:
        bucket.write("RefinerComplete/x", "[]")
        clock.at(5, lambda: bucket.write("RefinerComplete/x", body))
        clock.at(15, lambda: bucket.write("RefinerComplete/x", body))
        assert self.run(completions) == ["x", "x"]

    def test_one_that_becomes_visible_late_is_not_missed(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        clock.at(100, lambda: bucket.write("RefinerComplete/on-time", "[]"))
        late = START + timedelta(seconds=100) - WINDOW
        clock.at(105, lambda: bucket.write("RefinerComplete/late", "[]", at=late))
        assert self.run(completions, timeout_s=110) == ["on-time", "late"]

    def test_a_malformed_one_does_not_end_it(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        clock.at(3, lambda: bucket.write("RefinerComplete/a", b"\xff"))
        clock.at(6, lambda: bucket.write("RefinerComplete/b", "[]"))
        assert self.run(completions) == ["a", "b"]

    def test_a_body_that_breaks_off_does_not_end_it(
        self, clock: Clock, bucket: FakeBucket, completions: Completions, tmp_path: Path
    ) -> None:
        bucket.write("RefinerOutput/1", b"x" * 1000)
        bucket.broken["RefinerOutput/1"] = 10
        clock.at(3, lambda: bucket.write("RefinerComplete/a", '["RefinerOutput/1"]'))
        clock.at(6, lambda: bucket.write("RefinerComplete/b", "[]"))
        found = list(follow(completions, None, save_outputs(bucket, tmp_path), interval_s=2, timeout_s=30))
        assert [item.status.value for item in found] == ["failed", "completed"]

    def test_without_a_timeout_it_goes_on_until_nobody_asks_any_more(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        for second in (10, 100_000):
            clock.at(second, lambda second=second: bucket.write(f"RefinerComplete/{second}", "[]"))  # type: ignore[misc]
        news = follow(completions, None, read_nothing, interval_s=60, timeout_s=None)
        assert names(itertools.islice(news, 2)) == ["10", "100000"]

    def test_it_ends_at_its_timeout(self, clock: Clock, completions: Completions) -> None:
        assert self.run(completions, timeout_s=7, interval_s=5) == []
        assert 7 <= clock.now < 8


class TestExpectation:
    @pytest.mark.parametrize(
        "asked", ["RefinerInput/a/x.txt", "/RefinerInput/a/x.txt", "a/x.txt", "RefinerComplete/a/x.txt"]
    )
    def test_an_inputs_key_a_completions_key_or_the_bare_name(self, asked: str) -> None:
        found = expectation(Pipeline(), asked)
        assert found.asked == asked
        assert found.candidates == ("RefinerComplete/a/x.txt.json", "RefinerComplete/a/x.txt")

    def test_a_completions_whole_key_is_that_one(self) -> None:
        assert expectation(Pipeline(), "RefinerComplete/x.json").candidates == ("RefinerComplete/x.json",)

    def test_an_input_that_is_called_json_has_a_completion_that_is_called_so_twice(self) -> None:
        expected = ("RefinerComplete/x.json.json", "RefinerComplete/x.json")
        assert expectation(Pipeline(), "RefinerInput/x.json").candidates == expected

    def test_the_bare_name_of_an_input_that_is_called_json(self) -> None:
        candidates = expectation(Pipeline(), "x.json").candidates
        assert set(candidates) == {"RefinerComplete/x.json.json", "RefinerComplete/x.json"}


class TestExpect:
    def run(
        self, completions: Completions, *asked: str, since: datetime | None = None, timeout_s: float = 30
    ) -> list[PolledCompletion | Expectation]:
        wanted = [expectation(completions.pipeline, key) for key in asked]
        return list(expect(completions, wanted, since, read_nothing, interval_s=2, timeout_s=timeout_s))

    def test_each_as_it_comes(self, clock: Clock, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/b", "[]")
        clock.at(3, lambda: bucket.write("RefinerComplete/a.json", "[]"))
        assert names(self.run(completions, "a", "b")) == ["b", "a.json"]
        assert clock.now < 5

    def test_those_that_did_not_come_are_last(self, bucket: FakeBucket, completions: Completions, clock: Clock) -> None:
        bucket.write("RefinerComplete/b", "[]")
        found = self.run(completions, "a", "b", "c", timeout_s=10)
        assert isinstance(found[0], PolledCompletion)
        assert [item.asked for item in found[1:] if isinstance(item, Expectation)] == ["a", "c"]
        assert 10 <= clock.now < 11

    def test_the_same_twice_is_one(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/a", "[]")
        assert names(self.run(completions, "a", "a")) == ["a"]

    def test_an_older_one_than_since_is_not_it(
        self, clock: Clock, bucket: FakeBucket, completions: Completions
    ) -> None:
        bucket.write("RefinerComplete/a.json", "[]", at=START - timedelta(hours=1))
        clock.at(4, lambda: bucket.write("RefinerComplete/a", "[]"))
        assert names(self.run(completions, "a", since=START)) == ["a"]

    def test_a_failed_one_is_an_answer(self, bucket: FakeBucket, completions: Completions) -> None:
        bucket.write("RefinerComplete/a", '{"Error": "x"}')
        (found,) = self.run(completions, "a")
        assert isinstance(found, PolledCompletion)
        assert found.status is CompletionStatus.FAILED

    def test_nothing_expected_ends_at_once(self, clock: Clock, completions: Completions) -> None:
        assert self.run(completions) == []
        assert clock.now == 0

    @pytest.mark.parametrize("history", [0, 3000])
    def test_its_cost_does_not_grow_with_history(self, clock: Clock, history: int) -> None:
        bucket = FakeBucket(clock)
        for number in range(history):
            bucket.write(f"RefinerComplete/old-{number}", "[]")
        self.run(completions_of(bucket), "a", timeout_s=20)
        assert bucket.requests["list"] == 0
        assert bucket.requests["get"] == 2 * 11


class TestPrintOutputs:
    @pytest.mark.parametrize(
        ("limit", "content", "truncated"),
        [(0, b"", True), (2, b"he", True), (5, b"hello", False), (9, b"hello", False)],
    )
    def test_at_most_so_much(self, bucket: FakeBucket, limit: int, content: bytes, truncated: bool) -> None:
        bucket.write("o", b"hello")
        assert print_outputs(bucket, limit)("o") == Output("o", 5, content, truncated)

    def test_nothing_of_nothing_is_not_truncated(self, bucket: FakeBucket) -> None:
        bucket.write("o", b"")
        assert print_outputs(bucket, 0)("o") == Output("o", 0, b"")


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


class TestSaveOutputs:
    def test_an_output_is_saved_under_its_key(self, bucket: FakeBucket, tmp_path: Path) -> None:
        key = "RefinerOutput/50% a+b/Übergröße 報告 🧪.txt"
        content = os.urandom(3_000_000)
        bucket.write(key, content)
        found = save_outputs(bucket, tmp_path / "new" / "folder")(key)
        assert found == Output(key, len(content), path=tmp_path / "new" / "folder" / key)
        assert found.path is not None
        assert found.path.read_bytes() == content

    def test_an_earlier_one_is_replaced(self, bucket: FakeBucket, tmp_path: Path) -> None:
        save = save_outputs(bucket, tmp_path)
        for content in (b"longer content", b"short"):
            bucket.write("o", content)
            save("o")
        assert (tmp_path / "o").read_bytes() == b"short"
        assert _files(tmp_path) == ["o"]

    def test_others_may_read_it_as_any_file_that_is_made_here(self, bucket: FakeBucket, tmp_path: Path) -> None:
        bucket.write("o", b"x")
        save_outputs(bucket, tmp_path)("o")
        (tmp_path / "plain").touch()
        assert (tmp_path / "o").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_a_stream_that_breaks_leaves_no_file(self, bucket: FakeBucket, tmp_path: Path) -> None:
        bucket.write("sub/o", b"x" * 1000)
        bucket.broken["sub/o"] = 100
        found = save_outputs(bucket, tmp_path)("sub/o")
        assert "connection lost" in str(found.error)
        assert found.path is None
        assert _files(tmp_path) == []

    def test_a_stream_that_breaks_leaves_the_earlier_file(self, bucket: FakeBucket, tmp_path: Path) -> None:
        (tmp_path / "o").write_bytes(b"earlier")
        bucket.write("o", b"x" * 1000)
        bucket.broken["o"] = 100
        assert save_outputs(bucket, tmp_path)("o").error
        assert (tmp_path / "o").read_bytes() == b"earlier"
        assert _files(tmp_path) == ["o"]

    def test_a_missing_output_makes_no_folders(self, bucket: FakeBucket, tmp_path: Path) -> None:
        assert "no such object" in str(save_outputs(bucket, tmp_path)("a/b").error)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "key",
        ["../x", "a/../../x", "..", ".", "a/./b", "a//b", "a/", "/etc/x", "", "a\0b", "a/..", "./x", "n" * 300],
    )
    def test_a_key_that_has_no_place_below_the_folder_is_an_error_of_that_output(
        self, bucket: FakeBucket, tmp_path: Path, key: str
    ) -> None:
        folder = tmp_path / "inside"
        folder.mkdir()
        bucket.write(key, b"bad")
        found = save_outputs(bucket, folder)(key)
        assert found.error
        assert found.path is None
        assert _files(tmp_path) == []

    def test_a_symbolic_link_does_not_lead_out(self, bucket: FakeBucket, tmp_path: Path) -> None:
        folder, outside = tmp_path / "inside", tmp_path / "outside"
        folder.mkdir()
        outside.mkdir()
        (outside / "file").write_bytes(b"theirs")
        (folder / "link").symlink_to(outside, target_is_directory=True)
        (folder / "file-link").symlink_to(outside / "file")
        for key in ("link/o", "link/file", "file-link"):
            bucket.write(key, b"bad")
            assert save_outputs(bucket, folder)(key).error
        assert _files(outside) == ["file"]
        assert (outside / "file").read_bytes() == b"theirs"

    def test_a_symbolic_link_that_stays_inside_is_followed(self, bucket: FakeBucket, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real", target_is_directory=True)
        bucket.write("link/o", b"fine")
        assert save_outputs(bucket, tmp_path)("link/o").error is None
        assert (tmp_path / "real" / "o").read_bytes() == b"fine"

    def test_one_output_in_the_way_of_another_is_an_error(self, bucket: FakeBucket, tmp_path: Path) -> None:
        save = save_outputs(bucket, tmp_path)
        for key in ("a", "a/b"):
            bucket.write(key, b"x")
        assert save("a").error is None
        assert save("a/b").error
        bucket.write("c/d", b"x")
        bucket.write("c", b"x")
        assert save("c/d").error is None
        assert save("c").error
        assert _files(tmp_path) == ["a", "c/d"]

    def test_who_may_not_read_it_has_an_error(self, bucket: FakeBucket, tmp_path: Path) -> None:
        bucket.denied.add("o")
        assert "access denied" in str(save_outputs(bucket, tmp_path)("o").error)


class TestTargetPath:
    @given(
        st.lists(st.sampled_from(["..", ".", "", "a", "link", "b c", "\0", "…", "\ud800"]) | st.text(), max_size=5).map(
            "/".join
        )
    )
    @example("link/../../x")
    @example("\ud800")
    def test_it_never_leaves_the_folder_whatever_the_key(
        self, tmp_path_factory: pytest.TempPathFactory, key: str
    ) -> None:
        base = tmp_path_factory.getbasetemp() / "targets"
        folder = base / "inside"
        if not folder.exists():
            folder.mkdir(parents=True)
            (base / "outside").mkdir()
            (folder / "link").symlink_to(base / "outside")
        try:
            target = target_path(folder, key)
        except RefinerctlError:
            return
        assert target.resolve().is_relative_to(folder.resolve())
        assert target.resolve() != folder.resolve()
        assert str(target.relative_to(folder)) == key


def test_a_completion_that_may_not_be_read_is_an_error_not_silence(
    bucket: FakeBucket, completions: Completions
) -> None:
    bucket.write("RefinerComplete/a", "[]")
    bucket.denied.add("RefinerComplete/a")
    with pytest.raises(AccessDeniedError):
        list(look(completions, None, read_nothing))
