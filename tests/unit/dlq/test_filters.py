"""Filters of messages: what matches, when errors are needed, what is invalid."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinerctl.aws.messages import MessageAttribute
from refinerctl.dlq.bodies import delivery_error, source_object
from refinerctl.dlq.filters import Expression, MessageFilter
from refinerctl.errors import UsageError
from tests.unit.dlq.messages import SENT, event, message, undelivered


def by(text: str, **given: Any) -> MessageFilter:
    return MessageFilter(expression=Expression.parse(text), **given)


class TestExpressions:
    @pytest.mark.parametrize(
        "text",
        [
            "body.detail.object.size == `5`",
            "key == 'RefinerInput/1.txt'",
            "starts_with(sent, '2026-03-01T14:01')",
            "attributes.who == 'me'",
            "attributes.raw == 'AP8='",
            "contains(error, 'NoSuchKey')",
            "error && attributes.who",
            "receive_count > `5`",
            "id == 'm1'",
            "`0`&&id",
        ],
    )
    def test_expression_that_is_true(self, text: str) -> None:
        attributes = {"who": MessageAttribute("String", "me"), "raw": MessageAttribute("Binary", b"\x00\xff")}
        assert by(text).matches(message(1, attributes=attributes), "NoSuchKey: gone")

    @pytest.mark.parametrize(
        "text", ["error", "contains(error, 'x')", "body.nothing", "attributes", "body.detail[0]", "key > `1`"]
    )
    def test_expression_that_is_false_or_does_not_apply(self, text: str) -> None:
        assert not by(text).matches(message(1), None)

    @pytest.mark.parametrize("body", ["no json", "", "[1, 2]", "null", "[" * 100_000, "1" * 10_000, '"\ud800"'])
    def test_any_body_can_be_filtered(self, body: str) -> None:
        assert not by("body.detail").matches(message(1, body))
        assert not MessageFilter(key_prefix="a").matches(message(1, body))

    def test_text_in_a_body_that_is_not_json(self) -> None:
        assert by("contains(body, 'words')").matches(message(1, "some words"))

    @pytest.mark.parametrize(
        ("text", "needs"),
        [
            ("error", True),
            ("contains(error, 'x') || key", True),
            ("@ | error", True),
            ("values(@)", True),
            ("*.x", True),
            ("body.error", False),
            ("body.detail.error.x", False),
            ("key == 'error'", False),
            ("{a: error}.a && id", True),
        ],
    )
    def test_needs_error(self, text: str, needs: bool) -> None:
        assert by(text).needs_error is needs

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("body.detail[", "--filter: incomplete expression at column 13 of 'body.detail['"),
            ("a..b", "at column 3 of 'a..b'"),
            ("key == 'x", "--filter: Unclosed ' delimiter at column 8 of \"key == 'x\""),
            ("body foo", "--filter: Unexpected token: foo at column 6"),
            ("", "--filter: Invalid JMESPath expression: cannot be empty."),
            ("has(error)", "--filter: JMESPath has no function has()"),
            ("contains(error)", "--filter: contains() takes 2 arguments, found 1"),
            ("not_null(error, key)", None),
            ("bdy.x == `1`", "--filter: a message has no field 'bdy'"),
            ('error != "NoSuchKey"', "--filter: a message has no field 'NoSuchKey'"),
            ("starts_with(error, Throttl)", "--filter: a message has no field 'Throttl'"),
            ("'x' == 'x'", "--filter: \"'x' == 'x'\" uses no field of a message"),
            ("body.items[?name == 'x'] && body.x[0].y && sort_by(body.items, &size)[0].size", None),
            ("{a: error, b: key} | a == b", None),
            ("error == null", None),
        ],
    )
    def test_invalid_expressions_are_usage_errors(self, text: str, message: str | None) -> None:
        if message is None:
            Expression.parse(text)
            return
        with pytest.raises(UsageError) as raised:
            Expression.parse(text)
        assert message in raised.value.message

    @given(st.text(max_size=30))
    @settings(max_examples=200, deadline=None)
    def test_any_text_is_an_expression_or_a_usage_error(self, text: str) -> None:
        try:
            by(text).matches(message(1), "e")
        except UsageError as error:
            assert error.message.startswith("--filter: ")  # noqa: PT017 - both ways are right


class TestOtherFilters:
    def test_since_is_inclusive_and_until_exclusive(self) -> None:
        at = message(1).sent_at
        assert MessageFilter(since=at).matches(message(1))
        assert not MessageFilter(since=at + timedelta(seconds=1)).matches(message(1))
        assert not MessageFilter(until=at).matches(message(1))
        assert MessageFilter(since=SENT, until=at + timedelta(seconds=1)).matches(message(1))

    def test_key_prefix(self) -> None:
        assert MessageFilter(key_prefix="RefinerInput/1").matches(message(1))
        assert not MessageFilter(key_prefix="RefinerInput/1").matches(message(2))
        assert not MessageFilter(key_prefix="R").matches(message(1, "no event"))

    def test_all_filters_have_to_match(self) -> None:
        both = by("error", since=SENT + timedelta(minutes=2))
        assert [both.matches(message(n), e) for n, e in ((1, "e"), (2, None), (2, "e"))] == [False, False, True]

    def test_empty_filter_matches_all(self) -> None:
        assert MessageFilter().is_empty
        assert MessageFilter().matches(message(1))
        assert not by("key").is_empty

    def test_error_is_needed_only_if_the_rest_matches(self) -> None:
        late = by("error", since=SENT + timedelta(days=1))
        assert not late.may_match(message(1))
        assert by("error").may_match(message(1))
        assert not by("key == 'x'").may_match(message(1))


class TestBodies:
    def test_object_of_an_eventbridge_event_and_of_a_notification(self) -> None:
        found = source_object(event("a b+ü%20", version=None))
        assert found is not None
        assert (found.bucket, found.key, found.version_id) == ("data-repository", "a b+ü%20", None)
        own = {"s3": {"bucket": {"name": "b"}, "object": {"key": "a+b%2B%C3%BC", "versionId": "v"}}}
        found = source_object(json.dumps({"Records": [own]}))
        assert found is not None
        assert (found.bucket, found.key, found.version_id) == ("b", "a b+ü", "v")

    @pytest.mark.parametrize(
        "body", ["", "{}", '{"Records": []}', '{"Records": [1]}', '{"Records": [{"s3": 1}]}', "[]"]
    )
    def test_other_bodies_have_no_object(self, body: str) -> None:
        assert source_object(body) is None

    def test_delivery_error_in_the_attributes(self) -> None:
        assert delivery_error(undelivered(1)) == "NO_PERMISSIONS"
        assert delivery_error(undelivered(1, text="not allowed")) == "NO_PERMISSIONS: not allowed"
        assert delivery_error(message(1)) is None

    def test_error_of_a_failed_run_in_the_body(self) -> None:
        record = {
            "requestContext": {"functionArn": "arn:aws:lambda:us-east-1:1:function:f", "condition": "RetriesExhausted"},
            "responsePayload": {"errorType": "ValueError", "errorMessage": "no feed"},
        }
        failed = replace(message(1), body=json.dumps(record))
        assert delivery_error(failed) == "ValueError: no feed"
        assert (
            delivery_error(replace(failed, body=json.dumps({**record, "responsePayload": None}))) == "RetriesExhausted"
        )
