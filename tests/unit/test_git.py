"""What git says of a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from refinerctl.git import git_commit, origin_page


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://user:token@git.example.com:8443/team/app.git", "https://git.example.com:8443/team/app"),
        ("git@github.com:team/app.git", "https://github.com/team/app"),
        ("ssh://git@git.example.com:22/team/app", "https://git.example.com/team/app"),
        ("/srv/git/app.git", None),
        ("file:///srv/git/app.git", None),
    ],
)
def test_page_of_the_origin(tmp_path: Path, url: str, page: str | None) -> None:
    for words in (("init", "--quiet"), ("remote", "add", "origin", url)):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    assert origin_page(tmp_path) == page


def test_folder_outside_of_git_has_no_page(tmp_path: Path) -> None:
    assert origin_page(tmp_path) is None


def test_job_without_git_has_the_commit_of_gitlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_COMMIT_SHA", "1" * 40)
    assert git_commit(tmp_path) == (None, False)  # it is not in the job's checkout
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) == ("1" * 40, False)
