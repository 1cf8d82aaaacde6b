"""The git checkout that a run works on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

# The checkout of a CI job often belongs to another user, which git refuses; no code of it is run here.
_GIT = ("git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


def git_commit(folder: Path) -> tuple[str | None, bool]:
    """The commit that `folder` is at, and whether files in it differ from it; (None, False) outside of git.

    Where a GitLab job has no git, the commit that it runs for.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None if shutil.which("git") else os.environ.get("CI_COMMIT_SHA") or None, False
    return commit.strip(), bool(_git(folder, "status", "--porcelain", "--", "."))


def origin_page(folder: Path) -> str | None:
    """The web page of the remote `origin`: its URL without credentials. None if it is not on a server."""
    url = (_git(folder, "remote", "get-url", "origin") or "").strip()
    if "://" not in url and ":" in url:  # git@host:owner/name
        host, _, path = url.partition(":")
        url = f"ssh://{host}/{path}"
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http", "ssh") or not parts.hostname:
        return None
    host = parts.hostname if parts.scheme == "ssh" else parts.netloc.rpartition("@")[2]
    return f"https://{host}/{parts.path.strip('/').removesuffix('.git')}"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [*_GIT, "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
