"""The pure rules: keys, prefixes, completions, events, image names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refinerctl.aws.objects import ObjectEvent, object_event
from refinerctl.errors import UsageError
from refinerctl.images import ImageReference
from refinerctl.keys import MAX_KEY_BYTES, check_key, normalize_prefix
from refinerctl.stacks.base import CompletionStatus
from refinerctl.stacks.refiner import read_completion as parse_completion
from refinerctl.stacks.settings import Pipeline

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip("/"))


class TestParseCompletion:
    def test_the_plain_array_lists_outputs_without_their_leading_slash(self) -> None:
        document = parse_completion(b'["/RefinerOutput/a.txt", "RefinerOutput/b.txt"]')
        assert document.status is CompletionStatus.COMPLETED
        assert document.output_keys == ("RefinerOutput/a.txt", "RefinerOutput/b.txt")
        assert document.error is None

    def test_the_production_refiners_object_lists_outputs(self) -> None:
        body = b'{"RefinerSkip": false, "RefinerMetadata": {"a": 1}, "RefinerOutputFiles": ["RefinerOutput/1/x"]}'
        document = parse_completion(body)
        assert document.status is CompletionStatus.COMPLETED
        assert document.output_keys == ("RefinerOutput/1/x",)

    def test_an_empty_list_is_a_completion_without_outputs(self) -> None:
        for body in (b"[]", b'{"RefinerOutputFiles": []}'):
            document = parse_completion(body)
            assert (document.status, document.output_keys) == (CompletionStatus.COMPLETED, ())

    def test_a_skipped_input_has_failed_with_its_reason(self) -> None:
        document = parse_completion(b'{"RefinerSkip": true, "Error": "no such condition"}')
        assert (document.status, document.error) == (CompletionStatus.FAILED, "no such condition")

    def test_a_skipped_input_without_a_reason_has_failed_with_words_of_ours(self) -> None:
        document = parse_completion(b'{"RefinerSkip": true, "RefinerOutputFiles": ["x"]}')
        assert document.status is CompletionStatus.FAILED
        assert document.error
        assert document.output_keys == ()

    def test_an_error_counts_even_without_skip(self) -> None:
        document = parse_completion(b'{"Error": {"code": 7}}')
        assert document.status is CompletionStatus.FAILED
        assert "7" in str(document.error)

    @pytest.mark.parametrize("body", [b'{"RefinerSkip": false, "Error": "", "RefinerOutputFiles": ["k"]}'])
    def test_an_empty_error_is_none(self, body: bytes) -> None:
        assert parse_completion(body).status is CompletionStatus.COMPLETED

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
    def test_what_cannot_be_read_is_malformed_with_a_reason(self, body: bytes) -> None:
        document = parse_completion(body)
        assert document.status is CompletionStatus.MALFORMED
        assert document.error
        assert document.output_keys == ()

    def test_a_number_that_python_refuses_to_convert_is_malformed_like_everything_else(self) -> None:
        assert parse_completion(b"9" * 5000).status is CompletionStatus.MALFORMED

    def test_a_key_that_no_request_can_carry_is_malformed(self) -> None:
        """JSON can spell half a surrogate pair; UTF-8, which keys are, cannot."""
        assert parse_completion(b'["RefinerOutput/\\ud800"]').status is CompletionStatus.MALFORMED

    @given(st.binary())
    @example(b"9" * 5000)
    def test_it_never_raises_on_bytes(self, body: bytes) -> None:
        assert parse_completion(body).status in CompletionStatus

    @given(JSON)
    def test_it_never_raises_on_json_and_a_completed_one_lists_keys_only(self, document: Any) -> None:
        parsed = parse_completion(json.dumps(document).encode())
        assert all(key.strip("/") for key in parsed.output_keys)
        assert (parsed.status is CompletionStatus.COMPLETED) == (parsed.error is None)

    @given(st.lists(KEYS), st.booleans())
    def test_what_is_written_is_what_is_read(self, keys: list[str], as_object: bool) -> None:
        listed = [f"/{key}" for key in keys]
        body: Any = {"RefinerSkip": False, "RefinerOutputFiles": listed} if as_object else listed
        parsed = parse_completion(json.dumps(body, ensure_ascii=False).encode())
        assert parsed.status is CompletionStatus.COMPLETED
        assert parsed.output_keys == tuple(keys)


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
    def test_what_does_not_end_in_one_slash_or_has_an_empty_part_is_refused(self, prefix: str) -> None:
        with pytest.raises(UsageError) as caught:
            normalize_prefix(prefix)
        assert repr(prefix) in caught.value.message
        assert caught.value.hint

    @given(st.text())
    def test_it_is_idempotent_and_takes_nothing_off_but_one_slash(self, prefix: str) -> None:
        try:
            bare = normalize_prefix(prefix)
        except UsageError:
            return
        assert normalize_prefix(bare) == bare
        assert prefix in (bare, f"/{bare}")
        assert all(bare.split("/")[:-1])

    @given(st.lists(st.text(st.characters(exclude_characters="/"), min_size=1), min_size=1), st.booleans())
    def test_parts_that_end_in_a_slash_are_a_prefix(self, parts: list[str], slash: bool) -> None:
        bare = "/".join(parts) + "/"
        assert normalize_prefix("/" + bare if slash else bare) == bare


class TestCheckKey:
    def test_a_key_is_returned_as_it_is(self) -> None:
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

    def test_a_file_name_that_is_not_utf_8_is_refused_in_a_message_that_can_be_printed(self) -> None:
        with pytest.raises(UsageError, match="not UTF-8") as caught:
            check_key("RefinerInput/" + b"\xe9t\xe9".decode("utf-8", "surrogateescape"))
        caught.value.message.encode("utf-8")


class TestPipeline:
    def test_this_repositorys_image_is_looked_for_first_then_the_production_refiner(self) -> None:
        assert Pipeline().completion_keys("RefinerInput/a/b.txt") == (
            "RefinerComplete/a/b.txt.json",
            "RefinerComplete/a/b.txt",
        )

    def test_the_path_below_the_given_prefix_counts(self) -> None:
        keys = Pipeline().completion_keys("team/In/x", "team/In/")
        assert keys == ("RefinerComplete/x.json", "RefinerComplete/x")

    def test_the_input_prefix_is_taken_off_once(self) -> None:
        assert Pipeline().completion_keys("RefinerInput/RefinerInput/x")[1] == "RefinerComplete/RefinerInput/x"

    def test_another_rulesets_input_loses_its_first_part_as_in_the_image(self) -> None:
        assert Pipeline().completion_keys("PoisonInput/x/y")[1] == "RefinerComplete/x/y"
        assert Pipeline().completion_keys("x")[1] == "RefinerComplete/x"

    def test_a_queue_is_named_as_terraform_names_it(self) -> None:
        assert Pipeline().queue_name("RefinerInput/") == "dibbs-ecr-RefinerInput"
        assert Pipeline(name_prefix="p").queue_name("team/In/") == "p-team-In"


class TestObjectEvent:
    def test_a_put_into_a_versioned_bucket(self, events: Path) -> None:
        assert object_event((events / "object-created.json").read_text()) == ObjectEvent(
            "data-repository", "RefinerInput/helloworld.txt", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"
        )

    def test_an_unversioned_bucket_has_no_version(self, events: Path) -> None:
        found = object_event((events / "object-created-unversioned.json").read_text())
        assert found is not None
        assert found.version_id is None

    def test_a_key_is_taken_as_it_is_for_eventbridge_does_not_encode_keys(self, events: Path) -> None:
        found = object_event((events / "object-created-odd-key.json").read_text())
        assert found is not None
        assert found.key == "RefinerInput/2025 03/50% a+b & c=d/Übergröße 報告 🧪.txt"

    @pytest.mark.parametrize("name", ["object-created-multipart.json", "folder-marker.json", "object-deleted.json"])
    def test_every_event_about_an_object_names_it(self, events: Path, name: str) -> None:
        text = (events / name).read_text()
        found = object_event(text)
        assert found is not None
        assert found.key == json.loads(text)["detail"]["object"]["key"]

    def test_the_records_of_a_batch_are_events(self, events: Path) -> None:
        records = json.loads((events / "sqs-batch.json").read_text())["Records"]
        found = [object_event(record["body"]) for record in records]
        assert [event and event.key for event in found] == [
            "RefinerInput/helloworld.txt",
            "RefinerInput/2025/03/large.txt",
        ]

    def test_an_event_without_a_key_is_none(self, events: Path) -> None:
        assert object_event((events / "malformed.json").read_text()) is None

    @pytest.mark.parametrize(
        "body",
        ["", "{", "[]", "null", "7", '{"detail": null}', '{"detail": {"bucket": "b", "object": []}}', "[" * 100_000],
        ids=lambda body: body[:20],
    )
    def test_any_other_text_is_none(self, body: str) -> None:
        assert object_event(body) is None

    @given(st.text() | JSON.map(json.dumps))
    def test_it_never_raises(self, body: str) -> None:
        assert object_event(body) is None


_PART = st.from_regex(r"[a-z0-9]+(?:[_-][a-z0-9]+)*", fullmatch=True)
_REGISTRY = st.from_regex(r"[a-z0-9]+(?:\.[a-z0-9]+){1,3}(?::[0-9]{2,5})?|localhost:[0-9]{2,5}", fullmatch=True)
_TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
_DIGEST = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)


class TestImageRepository:
    @pytest.mark.parametrize(
        ("uri", "repository"),
        [
            ("dibbs-ecr-refiner/lambda", "dibbs-ecr-refiner/lambda"),
            ("dibbs-ecr-refiner/lambda:local", "dibbs-ecr-refiner/lambda"),
            (
                "123456789012.dkr.ecr.us-east-1.amazonaws.com/dibbs-ecr-refiner/lambda:v1.2.3",
                "dibbs-ecr-refiner/lambda",
            ),
            ("localhost:5000/a/b/c", "a/b/c"),
            ("ghcr.io/cdc/refiner@sha256:" + "0" * 64, "cdc/refiner"),
            ("refiner:v1@sha256:" + "f" * 64, "refiner"),
        ],
    )
    def test_it_is_the_name_without_registry_tag_and_digest(self, uri: str, repository: str) -> None:
        assert ImageReference.parse(uri).repository == repository

    @pytest.mark.parametrize(
        "uri", ["", "Refiner", "a b", "refiner@sha256:12", "refiner:", "https://ghcr.io/x", "refiner\n", "refiner:v1\n"]
    )
    def test_other_text_is_refused(self, uri: str) -> None:
        with pytest.raises(UsageError):
            ImageReference.parse(uri)

    @given(st.none() | _REGISTRY, st.lists(_PART, min_size=1, max_size=4), st.none() | _TAG, st.none() | _DIGEST)
    def test_whatever_surrounds_it(
        self, registry: str | None, parts: list[str], tag: str | None, digest: str | None
    ) -> None:
        repository = "/".join(parts)
        uri = f"{registry}/" * bool(registry) + repository + f":{tag}" * bool(tag) + f"@{digest}" * bool(digest)
        assert ImageReference.parse(uri).repository == repository

    @given(st.text())
    def test_it_returns_a_name_or_refuses(self, uri: str) -> None:
        try:
            name = ImageReference.parse(uri).repository
        except UsageError:
            return
        assert name
        assert not set(name) & set(":@ \n")
        assert name in uri
