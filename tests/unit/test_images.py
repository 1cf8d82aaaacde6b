"""Image references, tags and releases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import UsageError
from refinerctl.images import ImageReference, check_tag, is_digest, newest_first, release_order

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("alpine", None, "alpine", None, None),
        ("library/alpine:3.20", None, "library/alpine", "3.20", None),
        ("ghcr.io/o/i:v1", "ghcr.io", "o/i", "v1", None),
        ("localhost/i", "localhost", "i", None, None),
        ("localhost:5000/a/b-c__d.e:v1", "localhost:5000", "a/b-c__d.e", "v1", None),
        ("127.0.0.1:5000/i", "127.0.0.1:5000", "i", None, None),
        ("[::1]:5000/i:v1", "[::1]:5000", "i", "v1", None),
        (f"ghcr.io/o/i@{DIGEST}", "ghcr.io", "o/i", None, DIGEST),
        (f"ghcr.io/o/i:v1@{DIGEST}", "ghcr.io", "o/i", "v1", DIGEST),
    ],
)
def test_references(text: str, registry: str | None, repository: str, tag: str | None, digest: str | None) -> None:
    parsed = ImageReference.parse(text)

    assert parsed == ImageReference(repository, registry, tag, digest)
    assert str(parsed) == text
    assert parsed.at(DIGEST) == f"{parsed.name}@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a//b", "/a", "a/", "a:", "a:-x", "a@sha256:12", "ghcr.io/", "a b", "a:v1\n", "http://a/b", "a..b"],
)  # fmt: skip
def test_invalid_references(text: str) -> None:
    with pytest.raises(UsageError):
        ImageReference.parse(text)


@given(st.text(max_size=40))
def test_reference_is_printed_as_it_was_parsed(text: str) -> None:
    try:
        parsed = ImageReference.parse(text)
    except UsageError:
        return
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", ("123456789012", "eu-west-1")),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", ("123456789012", "us-gov-west-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", ("123456789012", "cn-north-1")),
        ("ghcr.io", None),
        ("123456789012.dkr-ecr.us-west-2.on.aws", ("123456789012", "us-west-2")),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example", None),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.evil.example", None),
        ("public.ecr.aws", None),
        (None, None),
    ],
)
def test_ecr_hosts(host: str | None, expected: tuple[str, str] | None) -> None:
    assert ImageReference("a", host).ecr == expected


def test_tags_and_digests() -> None:
    assert check_tag("v1.2.3_x-y") == "v1.2.3_x-y"
    for wrong in ("", "-x", ".x", "a b", "x" * 129, "ä"):
        with pytest.raises(UsageError):
            check_tag(wrong)
    assert is_digest(DIGEST)
    assert not is_digest(DIGEST.upper())
    assert not is_digest(f"{DIGEST}0")


def test_releases_sort_by_version() -> None:
    """The example of https://semver.org, section 11, among others."""
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "v1.2.0", "v1.10.0", "v2.0.0-rc1", "v2.0.0"]

    assert newest_first([*sorted(ordered), "main", "latest"]) == [*reversed(ordered), "latest", "main"]
    assert release_order("v1.2") is None
