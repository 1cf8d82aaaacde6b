"""Outputs of a stack as text."""

from __future__ import annotations

from typing import Any

import pytest

from refinerctl.console import Renderer
from refinerctl.releases.outputs import write_value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a-bucket", "x = a-bucket\n"),
        (7, "x = 7\n"),
        ([], "x = []\n"),
        ({"a": {"b": [1]}}, 'x = {\n  "a": {\n    "b": [\n      1\n    ]\n  }\n}\n'),
    ],
)
def test_objects_and_lists_take_several_lines(capsys: pytest.CaptureFixture[str], value: Any, written: str) -> None:
    write_value(Renderer("text", 0), value, "x = ")
    assert capsys.readouterr().out == written
