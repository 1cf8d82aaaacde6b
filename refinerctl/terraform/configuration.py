"""What went into a plan: all files of the configuration as one digest, and the commit that they come from."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path


def configuration_digest(roots: Iterable[Path], base: Path) -> str:
    """A digest over names (relative to `base`) and contents of the files `roots` and of all files in folders of them.

    What Terraform itself leaves in a root module does not count, nor a file that is not there.
    """
    digest = hashlib.sha256()
    for path in sorted({file for root in roots for file in _files(root)}):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(base).as_posix()}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    elif root.is_dir():
        for path in root.rglob("*"):
            inside = path.relative_to(root).parts
            if ".terraform" not in inside and ".tfstate" not in path.name and path.is_file():
                yield path


# The checkout of a CI job often belongs to another user, which git refuses; nothing of it is run here.
_GIT = ("git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


def git_commit(folder: Path) -> tuple[str | None, bool]:
    """The commit that `folder` is at, and whether files in it differ from it; (None, False) outside of git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None, False
    return commit.strip(), bool(_git(folder, "status", "--porcelain", "--", "."))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [*_GIT, "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
