"""Inputs with their completions, from two listings of an in-memory bucket."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import RefinerctlError
from refinerctl.inputs.listing import LONGEST_TIMEOUT_S, SETTLED, InputCount, count_incomplete, list_inputs
from tests.unit.fakes import START, FakeBucket, completions_of

IN, COMPLETE = "RefinerInput/", "RefinerComplete/"
LATER = START + timedelta(seconds=LONGEST_TIMEOUT_S) + SETTLED


def listed(bucket: FakeBucket, prefix: str = IN) -> dict[str, str | None]:
    """The inputs' names and the names of their completions."""
    return {
        item.info.key.removeprefix(IN): item.completion.key.removeprefix(COMPLETE) if item.completion else None
        for item in list_inputs(completions_of(bucket), prefix)
    }


def bucket_with(*names: str, completions: tuple[str, ...] = (), page_size: int = 1000) -> FakeBucket:
    bucket = FakeBucket()
    bucket.page_size = page_size
    for name in names:
        bucket.write(f"{IN}{name}")
    for name in completions:
        bucket.write(f"{COMPLETE}{name}")
    return bucket


def test_completions_are_found_with_and_without_suffix() -> None:
    bucket = bucket_with("a", "b", "c", "d/e", completions=("a.json", "c", "d/e.json", "z.json"))
    assert listed(bucket) == {"a": "a.json", "b": None, "c": "c", "d/e": "d/e.json"}


def test_completions_are_looked_up_below_the_prefix_of_their_stage() -> None:
    bucket = FakeBucket()
    own = {"prefix": "Own/", "image_uri": "repo", "environment": {"REFINER_COMPLETE_PREFIX": "OwnComplete/"}}
    completions = completions_of(bucket, {"Lab": {"prefix": "Lab/", "image_uri": "repo"}, "Own": own})
    for key in (
        "Lab/a",
        "Lab/b",
        "Own/a",
        "RefinerComplete/Lab/a.completion",
        "RefinerComplete/b.json",
        "OwnComplete/a",
    ):
        bucket.write(key)
    found = [item for prefix in ("Lab/", "Own/") for item in list_inputs(completions, prefix)]
    assert {item.info.key: item.completion and item.completion.key for item in found} == {
        "Lab/a": "RefinerComplete/Lab/a.completion",
        "Lab/b": None,
        "Own/a": "OwnComplete/a",
    }


def test_only_inputs_below_the_prefix_are_listed() -> None:
    bucket = bucket_with("2025/a", "2026/a", "b", completions=("2026/a.json",))
    assert listed(bucket, f"{IN}2026/") == {"2026/a": "2026/a.json"}


def test_folders_of_the_console_are_not_inputs() -> None:
    bucket = bucket_with("", "folder/")
    bucket.write(f"{IN}not-empty/", "content")
    assert listed(bucket) == {"not-empty/": None}


def test_a_completion_that_is_older_than_its_input_is_of_an_earlier_version() -> None:
    bucket = FakeBucket()
    for name, age in (("same-second", 0), ("older", 1), ("newer", -1)):
        bucket.write(f"{IN}{name}", at=START)
        bucket.write(f"{COMPLETE}{name}.json", at=START - timedelta(seconds=age))
    found = {item.info.key: item for item in list_inputs(completions_of(bucket), IN)}
    assert {key: item.completion is not None for key, item in found.items()} == {
        f"{IN}same-second": True,
        f"{IN}older": False,
        f"{IN}newer": True,
    }
    assert [key for key, item in found.items() if item.has_older_completion] == [f"{IN}older"]


def test_a_newer_completion_at_the_other_key_counts() -> None:
    bucket = FakeBucket()
    bucket.write(f"{COMPLETE}a.json", at=START - timedelta(days=1))
    bucket.write(f"{IN}a", at=START)
    bucket.write(f"{COMPLETE}a", at=START)
    assert listed(bucket) == {"a": "a"}


@pytest.mark.parametrize("prefix", [IN, f"{IN}a.json"])
def test_a_completion_of_another_input_whose_name_lacks_the_suffix_does_not_count(prefix: str) -> None:
    """`a.json` is where the completions of `a` and, by an image that appends no suffix, of `a.json` are."""
    bucket = bucket_with("a", "a.json", "b.json", completions=("b.json",))
    bucket.write(f"{COMPLETE}a.json", metadata={"source-bucket-key": f"{bucket.name}/{IN}a"})
    expected = {"a": "a.json", "a.json": None, "b.json": "b.json"}
    assert listed(bucket, prefix) == {name: key for name, key in expected.items() if f"{IN}{name}".startswith(prefix)}
    assert bucket.requests["get"] == 1

    bucket.write(f"{COMPLETE}a.json", metadata={"source-bucket-key": f"{bucket.name}/{IN}a.json"})
    assert listed(bucket, f"{IN}a.json") == {"a.json": "a.json"}


# Names of which one begins with another one: with the suffix their order is another one.
NAMES = st.lists(st.text("ab-./+", min_size=1, max_size=4).filter(lambda name: not name.endswith("/")), max_size=30)


@given(NAMES, NAMES, st.booleans(), st.integers(1, 5))
def test_each_input_gets_the_completion_that_it_has(
    names: list[str], completed: list[str], suffix: bool, page_size: int
) -> None:
    ends = ".json" if suffix else ""
    bucket = bucket_with(*names, completions=tuple(name + ends for name in completed), page_size=page_size)

    def expected(name: str) -> str | None:
        return next((key for key in (f"{name}.json", name) if key in {item + ends for item in completed}), None)

    assert listed(bucket) == {name: expected(name) for name in sorted(set(names))}


def test_each_page_is_listed_once() -> None:
    names = [f"{number:05}" for number in range(5_000)]
    bucket = bucket_with(*names, completions=tuple(f"{name}.json" for name in names))
    assert all(listed(bucket).values())
    assert bucket.requests == {"page": 10}


def test_no_more_completions_are_listed_than_those_between_the_inputs() -> None:
    others = tuple(f"{number:05}.json" for number in range(10_000))
    bucket = bucket_with("05000", "05001", completions=others)
    assert listed(bucket) == {"05000": "05000.json", "05001": "05001.json"}
    assert bucket.requests == {"page": 2}


def test_a_name_that_others_begin_with_costs_two_pages_more() -> None:
    """`2026.json` comes after the completions of all of `2026-…`."""
    names = ["2026", *(f"2026-{number:05}" for number in range(5_000))]
    bucket = bucket_with(*names, completions=tuple(f"{name}.json" for name in names))
    assert all(listed(bucket).values())
    assert bucket.requests["page"] <= 6 + 6 + 2


def test_short_names_at_the_ends_of_folders_do_not_read_pages_again() -> None:
    """Between `f` and `fz` are all the completions of other inputs, which were read before."""
    folders = [f"f{letter}" for letter in "bdfhjlnprtvxz"]
    names = sorted([*folders, *(f"{folder}/{number:03}" for folder in folders for number in range(300))])
    bucket = bucket_with(*names, completions=tuple(names), page_size=301)
    assert all(listed(bucket).values())
    assert bucket.requests["page"] <= 3 * (len(folders) + 2)


class TestCount:
    def test_inputs_without_completion_count_when_they_are_old_enough(self) -> None:
        bucket = bucket_with("a", "b", "c", completions=("a.json",))
        bucket.write(f"{IN}recent", at=START + timedelta(seconds=1))
        assert count_incomplete(completions_of(bucket), IN, LATER, 10) == InputCount(4, 2)

    def test_a_large_bucket_is_counted_in_part(self) -> None:
        names = [f"{number:03}" for number in range(50)]
        bucket = bucket_with(*names, page_size=10)
        found = count_incomplete(completions_of(bucket), IN, LATER, 4)
        assert (found.all_counted, bucket.requests["page"]) == (False, 4)
        assert found.counted == found.incomplete < 50

    @pytest.mark.parametrize(("messages", "expected"), [(0, 5), (3, 2), (5, 0), (9, 0)])
    def test_messages_may_be_about_incomplete_inputs(self, messages: int, expected: int) -> None:
        assert InputCount(10, 5).without_message(messages) == expected

    def test_an_error_is_raised(self) -> None:
        bucket = bucket_with("a")
        bucket.denied.add(IN)
        with pytest.raises(RefinerctlError, match="access denied"):
            count_incomplete(completions_of(bucket), IN, LATER, 4)
