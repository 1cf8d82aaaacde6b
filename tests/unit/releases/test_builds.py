"""Verified builds on their way from `sync` to the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.images import Build
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.releases.builds import builds_of, keep_build

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
BUILD = Build("example/app", ".github/workflows/release.yml", "refs/tags/v1", "c0ffee", "https://run/1")
LATER = Build("example/app", ".github/workflows/release.yml", "refs/tags/v1", "c0ffee", "https://run/2")


def release(uri: str, build: Build) -> Release:
    return Release(ReleaseAction.DEPLOY, "v1", {"In": uri}, builds={"In": build})


def test_kept_build_belongs_to_every_image_with_its_digest(tmp_path: Path) -> None:
    keep_build(tmp_path / "new", DIGEST, BUILD)

    images = {"In": f"ecr/app@{DIGEST}", "Lab": f"ecr/app@{DIGEST}", "Other": f"ecr/app@{OTHER}", "Tag": "ecr/app:v1"}
    assert builds_of(tmp_path / "new", images) == {"In": BUILD, "Lab": BUILD}


def test_release_with_the_same_image_knows_its_build(tmp_path: Path) -> None:
    """A rollback, or a deployment in a job without the work folder."""
    uri = f"ecr/app@{DIGEST}"
    releases = [None, release(f"ecr/app@{OTHER}", LATER), release(uri, BUILD)]

    assert builds_of(tmp_path, {"In": uri, "Lab": uri}, *releases) == {"In": BUILD}
    keep_build(tmp_path, DIGEST, LATER)
    assert builds_of(tmp_path, {"In": uri}, *releases) == {"In": LATER}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"repository": "example/app"}'])
def test_damaged_file_is_an_unknown_build(tmp_path: Path, content: str) -> None:
    keep_build(tmp_path, DIGEST, BUILD)
    (file,) = tmp_path.iterdir()
    file.write_text(content)

    assert builds_of(tmp_path, {"In": f"ecr/app@{DIGEST}"}) == {}


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(RefinerctlError, match="cannot write"):
        keep_build(tmp_path / "file" / "provenance", DIGEST, BUILD)
