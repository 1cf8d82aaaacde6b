"""Prefixes and keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import UsageError
from refinerctl.keys import MAX_KEY_BYTES, check_key, normalize_prefix


class TestNormalizePrefix:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("RefinerInput/", "RefinerInput/"),
            ("/RefinerInput/", "RefinerInput/"),
            ("/team a/Refiner+Input/", "team a/Refiner+Input/"),
            ("/Übergröße 報告/", "Übergröße 報告/"),
        ],
    )
    def test_a_leading_slash_makes_no_difference(self, given: str, expected: str) -> None:
        assert normalize_prefix(given) == expected

    @pytest.mark.parametrize("prefix", ["", "/", "//", "RefinerInput", "/RefinerInput", "a//", "a//b/", "//a/", " "])
    def test_a_prefix_without_one_trailing_slash_or_with_an_empty_part_is_refused(self, prefix: str) -> None:
        with pytest.raises(UsageError) as caught:
            normalize_prefix(prefix)
        assert repr(prefix) in caught.value.message
        assert caught.value.hint

    @given(st.text())
    def test_it_is_idempotent_and_removes_only_one_leading_slash(self, prefix: str) -> None:
        try:
            bare = normalize_prefix(prefix)
        except UsageError:
            return
        assert normalize_prefix(bare) == bare
        assert prefix in (bare, f"/{bare}")
        assert all(bare.split("/")[:-1])

    @given(st.lists(st.text(st.characters(exclude_characters="/"), min_size=1), min_size=1), st.booleans())
    def test_any_parts_with_a_trailing_slash_are_a_prefix(self, parts: list[str], slash: bool) -> None:
        bare = "/".join(parts) + "/"
        assert normalize_prefix("/" + bare if slash else bare) == bare


class TestCheckKey:
    def test_a_key_is_returned_unchanged(self) -> None:
        key = "RefinerInput/50% a+b & c=d/Übergröße 報告 🧪.txt"
        assert check_key(key) == key

    @pytest.mark.parametrize("unit", ["a", "ü", "報", "🧪"])
    def test_its_length_is_counted_in_bytes(self, unit: str) -> None:
        size = len(unit.encode())
        longest = unit * (MAX_KEY_BYTES // size)
        assert check_key(longest) == longest
        with pytest.raises(UsageError, match=r"bytes; S3 takes 1024"):
            check_key(longest + unit)

    @pytest.mark.parametrize("key", ["", "/", "/RefinerInput/a"])
    def test_an_empty_key_or_a_leading_slash_is_refused(self, key: str) -> None:
        with pytest.raises(UsageError):
            check_key(key)

    def test_a_file_name_that_is_not_utf_8_is_refused_with_a_printable_message(self) -> None:
        with pytest.raises(UsageError, match="not UTF-8") as caught:
            check_key("RefinerInput/" + b"\xe9t\xe9".decode("utf-8", "surrogateescape"))
        caught.value.message.encode("utf-8")
