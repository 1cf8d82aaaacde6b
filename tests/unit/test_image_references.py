"""The repository of an image reference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import UsageError
from refinerctl.images import ImageReference

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
    def test_any_registry_tag_and_digest_are_removed(
        self, registry: str | None, parts: list[str], tag: str | None, digest: str | None
    ) -> None:
        repository = "/".join(parts)
        uri = f"{registry}/" * bool(registry) + repository + f":{tag}" * bool(tag) + f"@{digest}" * bool(digest)
        assert ImageReference.parse(uri).repository == repository

    @given(st.text())
    def test_any_text_has_a_name_or_is_refused(self, uri: str) -> None:
        try:
            name = ImageReference.parse(uri).repository
        except UsageError:
            return
        assert name
        assert not set(name) & set(":@ \n")
        assert name in uri
