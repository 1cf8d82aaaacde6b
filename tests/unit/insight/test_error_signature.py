"""Errors of one cause have one signature, those of different causes different ones."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refinerctl.insight.error_signature import MAX_LENGTH, signature

CLASSES = st.from_regex(r"[A-Z][a-z]{2,9}([A-Z][a-z]{2,9}){0,2}", fullmatch=True)
SEGMENTS = st.text(string.ascii_letters + string.digits + "_+%äß-", min_size=1, max_size=12)
KEYS = st.lists(SEGMENTS, min_size=2, max_size=5).map("/".join)
NUMBERS = st.one_of(st.integers().map(str), st.decimals(allow_nan=False, allow_infinity=False).map(lambda n: f"{n:f}"))
HEX = st.binary(min_size=10, max_size=32).map(bytes.hex).filter(lambda text: any(c.isdigit() for c in text))
S3_IDS = st.text(string.ascii_uppercase + string.digits, min_size=16, max_size=16)
TIMES = st.datetimes().map(lambda time: time.isoformat(timespec="milliseconds") + "Z")
QUOTED = st.text(st.characters(exclude_characters="'\"`", exclude_categories=("C", "Z")), max_size=30).map(
    lambda text: f"'{text}'"
)
ARNS = KEYS.map(lambda key: f"arn:aws:s3:::{key}")
VARIABLES = st.one_of(KEYS, NUMBERS, st.uuids().map(str), HEX, S3_IDS, TIMES, QUOTED, ARNS)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            "NoSuchKey: The specified key RefinerInput/a b.txt does not exist.",
            "NoSuchKey: The specified key … does not exist.",
        ),
        ("Task timed out after 3.00 seconds", "Task timed out after … seconds"),
        ("Runtime.ExitError", "Runtime.ExitError"),
        ("ENOENT: no such file or directory, open '/tmp/a b'", "ENOENT: no such file or directory, open …"),
        ("EIO: i/o error, read", "EIO: i/o error, read"),
        ("connect ECONNREFUSED 127.0.0.1:9000", "connect ECONNREFUSED …"),
        ("OutOfTimeError: less than 5000 ms left", "OutOfTimeError: less than … ms left"),
        ("ERR_HTTP2_STREAM: stream 7 broke", "ERR_HTTP2_STREAM: stream … broke"),
        (
            'AccessDenied: User: arn:aws:sts::1:assumed-role/x is not authorized to perform: s3:GetObject on "x"',
            "AccessDenied: User: … is not authorized to perform: s3:GetObject on …",
        ),
        (
            "InternalError: try again. HostId: Yz29/abc+d== RequestId: 4442587FB7D0A2F9",
            "InternalError: try again. HostId: … RequestId: …",
        ),
        ("the request 8f5df350-6a1c-4b2b-9e0e-0a1b2c3d4e5f of worker17", "the request … of worker…"),
        ("\n  first line\nTraceback", "first line"),
        ("sha256 differs: dGhpcyBpcyBhIHNlY3JldCBpZCAx", "sha256 differs: …"),
        ("", ""),
    ],
)
def test_examples(error: str, expected: str) -> None:
    assert signature(error) == expected


@given(st.text(max_size=400))
@example("A" * 199 + " " + "B" * 30)
@example("x" * 198 + "-1")
@example('"' * 3 + "/")
def test_a_signature_is_its_own_signature_and_bounded(text: str) -> None:
    once = signature(text)
    assert signature(once) == once
    assert len(once) <= MAX_LENGTH


@given(CLASSES, VARIABLES, VARIABLES)
def test_variable_parts_do_not_change_the_signature(name: str, one: str, other: str) -> None:
    assert signature(f"{name}: it broke at {one} today") == signature(f"{name}: it broke at {other} today")


@given(CLASSES, CLASSES, VARIABLES)
def test_error_classes_have_different_signatures(one: str, other: str, variable: str) -> None:
    first, second = (signature(f"{name}: it broke at {variable} today") for name in (one, other))
    assert (first == second) == (one == other)


@given(st.text(min_size=1, max_size=50), st.text(min_size=1, max_size=50))
@example("very plain words", "others")
def test_given_texts_are_left_out(one: str, other: str) -> None:
    """A key may look like a sentence."""
    one, other = (f"In/{' '.join(key.split())} end" for key in (one, other))
    assert signature(f"E: key {one} broke", [one]) == signature(f"E: key {other} broke", [other])
