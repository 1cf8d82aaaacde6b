"""docs/verify.md says of each check what the command says."""

from __future__ import annotations

import re
from pathlib import Path

from refinerctl.insight.verify import CHECKS


def test_each_check_is_documented_as_it_is(root: Path) -> None:
    text = (root / "docs" / "verify.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^### (\S+)\n\n(.*?)(?=\n##|\Z)", text, re.DOTALL | re.MULTILINE))
    assert list(sections) == [check.id for check in CHECKS]
    for check in CHECKS:
        assert check.why in sections[check.id]
        assert f"Fix: {check.fix}" in sections[check.id]
