"""The images that stack refiner's values name."""

from __future__ import annotations

from typing import Any

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.stacks.refiner import STACK


def test_images_of_the_values_by_stage_and_architecture() -> None:
    rulesets: dict[str, Any] = {
        "B": {"prefix": "B/", "image_uri": "repo:v1", "architecture": "arm64"},
        "A": {"prefix": "A/", "image_uri": "repo"},
        "C": {"prefix": "C/"},
        "D": {"prefix": "D/", "image_uri": None},
    }
    found = STACK.images({"rulesets": rulesets})
    assert [(image.stage, str(image.reference), str(image.platform)) for image in found] == [
        ("A", "repo", "linux/amd64"),
        ("B", "repo:v1", "linux/arm64"),
    ]
    assert STACK.images({}) == ()


@pytest.mark.parametrize(
    "rulesets",
    [
        {"A": {"prefix": "A/", "image_uri": "UPPER CASE"}},
        {"A": {"prefix": "A/", "image_uri": "r", "architecture": "sparc"}},
        {"A": {"image_uri": "r"}},
        {"A": "r"},
        [1],
    ],
)
def test_malformed_values_are_an_error(rulesets: Any) -> None:
    with pytest.raises(RefinerctlError, match="ruleset"):
        STACK.images({"rulesets": rulesets})
