"""Stack `refiner`: the keys of completions, and how their content reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refinerctl.stacks.base import CompletionStatus
from refinerctl.stacks.refiner import STACK, read_completion
from tests.unit.fakes import STORAGE, pipeline_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: not text.startswith("/"))


class TestReadCompletion:
    def test_outputs_of_a_plain_array_have_no_leading_slash(self) -> None:
        document = read_completion(b'["/RefinerOutput/a.txt", "RefinerOutput/b.txt"]')
        assert document.status is CompletionStatus.COMPLETED
        assert document.output_keys == ("RefinerOutput/a.txt", "RefinerOutput/b.txt")
        assert document.error is None

    def test_outputs_of_the_production_refiners_object(self) -> None:
        body = b'{"RefinerSkip": false, "RefinerMetadata": {"a": 1}, "RefinerOutputFiles": ["RefinerOutput/1/x"]}'
        document = read_completion(body)
        assert document.status is CompletionStatus.COMPLETED
        assert document.output_keys == ("RefinerOutput/1/x",)

    def test_an_empty_list_is_a_completion_without_outputs(self) -> None:
        for body in (b"[]", b'{"RefinerOutputFiles": []}'):
            document = read_completion(body)
            assert (document.status, document.output_keys) == (CompletionStatus.COMPLETED, ())

    def test_a_skipped_input_has_failed_with_its_reason(self) -> None:
        document = read_completion(b'{"RefinerSkip": true, "Error": "no such condition"}')
        assert (document.status, document.error) == (CompletionStatus.FAILED, "no such condition")

    def test_a_skipped_input_without_a_reason_has_failed_with_a_default_reason(self) -> None:
        document = read_completion(b'{"RefinerSkip": true, "RefinerOutputFiles": ["x"]}')
        assert document.status is CompletionStatus.FAILED
        assert document.error
        assert document.output_keys == ()

    def test_an_error_without_skip_has_failed(self) -> None:
        document = read_completion(b'{"Error": {"code": 7}}')
        assert document.status is CompletionStatus.FAILED
        assert "7" in str(document.error)

    @pytest.mark.parametrize("body", [b'{"RefinerSkip": false, "Error": "", "RefinerOutputFiles": ["k"]}'])
    def test_an_empty_error_is_ignored(self, body: bytes) -> None:
        assert read_completion(body).status is CompletionStatus.COMPLETED

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"not json",
            b"\xff\xfe\xff",
            b'["a"',
            b'"RefinerOutput/a"',
            b"null",
            b"17",
            b"true",
            b"{}",
            b'{"RefinerSkip": false}',
            b"[1]",
            b"[null]",
            b'[""]',
            b'["/"]',
            b'["///"]',
            b'[["a"]]',
            b'{"RefinerOutputFiles": "a"}',
            b'{"RefinerOutputFiles": null}',
            b'{"RefinerOutputFiles": ["a", 1]}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ],
        ids=lambda body: repr(body[:24]),
    )
    def test_other_content_is_malformed_with_a_reason(self, body: bytes) -> None:
        document = read_completion(body)
        assert document.status is CompletionStatus.MALFORMED
        assert document.error
        assert document.output_keys == ()

    def test_a_number_that_python_refuses_to_convert_is_malformed(self) -> None:
        assert read_completion(b"9" * 5000).status is CompletionStatus.MALFORMED

    def test_a_key_that_is_not_utf_8_is_malformed(self) -> None:
        """JSON can spell half a surrogate pair; UTF-8, which keys are, cannot."""
        assert read_completion(b'["RefinerOutput/\\ud800"]').status is CompletionStatus.MALFORMED

    @given(st.binary())
    @example(b"9" * 5000)
    def test_no_bytes_raise(self, body: bytes) -> None:
        assert read_completion(body).status in CompletionStatus

    @given(JSON)
    def test_no_json_raises_and_completed_documents_list_keys_only(self, document: Any) -> None:
        parsed = read_completion(json.dumps(document).encode())
        assert all(key.strip("/") for key in parsed.output_keys)
        assert (parsed.status is CompletionStatus.COMPLETED) == (parsed.error is None)

    @given(st.lists(KEYS), st.booleans())
    def test_written_keys_are_read_back(self, keys: list[str], as_object: bool) -> None:
        listed = [f"/{key}" for key in keys]
        body: Any = {"RefinerSkip": False, "RefinerOutputFiles": listed} if as_object else listed
        parsed = read_completion(json.dumps(body, ensure_ascii=False).encode())
        assert parsed.status is CompletionStatus.COMPLETED
        assert parsed.output_keys == tuple(keys)


RULESETS = {
    "RefinerInput": {"prefix": "RefinerInput/", "image_uri": "repo"},
    "Lab": {"prefix": "team/Lab/", "image_uri": "repo"},
    "Other": {"prefix": "Other/", "image_uri": "repo"},
    "Own": {"prefix": "Own/", "image_uri": "repo", "environment": {"REFINER_COMPLETE_PREFIX": "/OwnComplete/"}},
    "RefinerComplete": {"prefix": "RefinerComplete/", "image_uri": None},
}
NAMES = st.lists(
    st.sampled_from(["", "a", "Lab", "team", "Other", ".json", ".completion", "x.json", "x.completion", "team/Lab/"]),
    min_size=1,
    max_size=4,
).map("/".join)


def completion_keys(key: str, rulesets: Any = None) -> tuple[str, ...]:
    assert STACK.completion_keys is not None
    return STACK.completion_keys(STORAGE, pipeline_of(rulesets), key)


class TestCompletionKeys:
    def test_the_key_of_this_repositorys_image_is_first_then_the_production_refiners(self) -> None:
        assert completion_keys("RefinerInput/a/b.txt") == (
            "RefinerComplete/a/b.txt.json",
            "RefinerComplete/a/b.txt",
        )

    def test_the_input_prefix_is_removed_once(self) -> None:
        assert completion_keys("RefinerInput/RefinerInput/x")[1] == "RefinerComplete/RefinerInput/x"

    def test_another_ruleset_has_completion_keys_of_its_own(self) -> None:
        expected = ("RefinerComplete/team/Lab/x.completion", "RefinerComplete/team/Lab/x")
        assert completion_keys("team/Lab/x", RULESETS) == expected
        assert completion_keys("team/Lab/x") == expected  # of a ruleset that the values do not name

    def test_completion_keys_follow_the_functions_environment(self) -> None:
        assert completion_keys("Own/x", RULESETS) == ("OwnComplete/x.completion", "OwnComplete/x")

    @given(st.sampled_from(["RefinerInput/", "team/Lab/", "Other/"]), NAMES, NAMES)
    def test_two_inputs_never_have_the_same_completion(self, prefix: str, one: str, other: str) -> None:
        keys = {completion_keys(key, RULESETS)[0] for key in ("RefinerInput/" + one, prefix + other)}
        assert len(keys) == len({"RefinerInput/" + one, prefix + other})
