"""The verified builds of images by digest: `sync` keeps them in the work folder, a deployment records them.

A CI job that deploys gets them from the job that copied, as files of the work folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from refinerctl.errors import RefinerctlError
from refinerctl.files import read_file, write_text
from refinerctl.images import Build, ImageReference
from refinerctl.ledger.entries import Release


def keep_build(folder: Path, digest: str, build: Build) -> None:
    """Keep it for the deployment of this image. Raises RefinerctlError if the folder is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefinerctlError(f"cannot write {folder}: {error.strerror}") from error
    write_text(_file(folder, digest), msgspec.json.format(msgspec.json.encode(build)).decode() + "\n")


def builds_of(folder: Path, images: Mapping[str, str], *releases: Release | None) -> dict[str, Build]:
    """The known builds of image URIs, by stage: those that were kept, else those of a release with the same image."""
    found = {}
    for stage, uri in images.items():
        recorded = (item.builds.get(stage) for item in releases if item and item.images.get(stage) == uri)
        if build := _kept(folder, ImageReference.parse(uri).digest) or next(filter(None, recorded), None):
            found[stage] = build
    return found


def _kept(folder: Path, digest: str | None) -> Build | None:
    """None for a file that cannot be read, too: a deployment must not fail for it."""
    try:
        content = read_file(_file(folder, digest)) if digest else None
        return msgspec.json.decode(content, type=Build) if content else None
    except (RefinerctlError, msgspec.DecodeError):
        return None


def _file(folder: Path, digest: str) -> Path:
    return folder / f"{digest.replace(':', '-')}.json"
