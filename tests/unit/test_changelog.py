"""The changelog and the version, which is in refinerctl/__init__.py only."""

from __future__ import annotations

import re
from datetime import date
from itertools import pairwise

from refinerctl import __version__
from refinerctl.images import release_order
from tests.conftest import ROOT


def test_the_newest_release_is_the_version_and_releases_are_in_order() -> None:
    titles = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    releases = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", title) for title in titles[1:]]

    assert titles[0] == "[Unreleased]"
    assert all(releases), titles
    found = [(release_order(match[1]) or (), date.fromisoformat(match[2])) for match in releases if match]
    assert found[0][0] == release_order(__version__)
    assert all(newer[0] > older[0] and newer[1] >= older[1] for newer, older in pairwise(found))


def test_no_other_file_repeats_the_version() -> None:
    files = [*ROOT.glob("*.toml"), *ROOT.glob("*.cfg"), *ROOT.glob("setup.py"), *ROOT.glob("templates/**/*.*")]
    pattern = re.compile(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])")
    assert [str(file) for file in files if file.is_file() and pattern.search(file.read_text())] == []
