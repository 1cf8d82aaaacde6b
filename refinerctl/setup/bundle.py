"""The files of a new project: those of this repository. setup.py packs them into the wheel with this module.

It imports only the standard library, because it runs while the wheel is built.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from refinerctl import __version__

# In an installed wheel; the repository has no such folder.
PACKED = Path(__file__).with_name("project")
CHECKOUT = Path(__file__).parents[2]

# Folder of the project → folder of the repository that it is copied from.
_FOLDERS = {
    "": "templates/project",
    "terraform/modules": "terraform/modules",
    "terraform/stacks": "terraform/stacks",
    "terraform/environments/local": "terraform/environments/local",
    "images": "images",
}
_FILES = ("refinerctl.toml", "terraform/.gitignore")
# Other files in these folders are a working copy's own: states, packages, caches, files of editors.
_SUFFIXES = {".tf", ".tfvars", ".hcl", ".md", ".py", ".mjs", ".json", ".in", ".txt", ".yml"}
_NAMES = {"Dockerfile", ".dockerignore", ".gitignore"}
_LEFT_OUT = {"tests", "tftest", "test", "test-support", "conftest.py", "node_modules", "__pycache__", ".terraform"}
# The image of refinerctl itself is built from this repository; the environment `production` is an example.
_OWN_IMAGE = "images/cli"
_OWN_TABLES = ("[images.cli]", "[environments.production")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def project_files() -> dict[str, bytes]:
    """The content of each file of a new project, by its path in the project; empty if this installation has none."""
    if not PACKED.is_dir():
        return read_repository(CHECKOUT)
    files = (path for path in sorted(PACKED.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(PACKED).as_posix(): path.read_bytes() for path in files}


def sources(repository: Path) -> dict[str, Path]:
    """The files of the repository that a project gets, by their path in the project."""
    found = {name: repository / name for name in _FILES}
    for target, folder in _FOLDERS.items():
        for path in (repository / folder).rglob("*"):
            name = path.relative_to(repository / folder)
            if _is_wanted(path, name) and not path.is_relative_to(repository / _OWN_IMAGE):
                found[str(PurePosixPath(target, name.as_posix()))] = path
    return {name: path for name, path in sorted(found.items()) if path.is_file()}


def _is_wanted(path: Path, name: Path) -> bool:
    return (path.suffix in _SUFFIXES or path.name in _NAMES) and _LEFT_OUT.isdisjoint(name.parts)


def read_repository(repository: Path) -> dict[str, bytes]:
    """The files of a project, made of those of the repository."""
    found = sources(repository)
    known = {path.resolve() for path in found.values()}
    return {name: _content(name, path, known).encode() for name, path in found.items()}


def _content(name: str, source: Path, known: Collection[Path]) -> str:
    """The text of a file without what only the repository has."""
    text = source.read_bytes().decode()
    if name == "refinerctl.toml":
        return _without_own_tables(text)
    if name == ".gitlab-ci.yml":
        return text.replace("@VERSION", f"@v{__version__}")
    if source.suffix == ".md":
        return _LINK.sub(lambda link: _link(link, source.parent, known), text)
    return text


def _without_own_tables(text: str) -> str:
    paragraphs = text.rstrip("\n").split("\n\n")
    kept = (part for part in paragraphs if not any(line.startswith(_OWN_TABLES) for line in part.splitlines()))
    return "\n\n".join(kept) + "\n"


def _link(link: re.Match[str], folder: Path, known: Collection[Path]) -> str:
    """The link if its target is in the project or on the web; else only its text."""
    path, _, _ = link[2].partition("#")
    if ":" in link[2] or not path:
        return link[0]
    target = (folder / path).resolve()
    return link[0] if target in known or any(file.is_relative_to(target) for file in known) else link[1]
