"""The ledger of releases: its entries, the deployed release, and the previous one."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from refinerctl.errors import RefinerctlError
from refinerctl.images import Build


class ReleaseAction(StrEnum):
    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    DESTROY = "destroy"


@dataclass(frozen=True)
class Release:
    """An entry of the ledger. `images` are image URIs by digest, by stage; `at` is in UTC.

    `bases` are the images that they were built on, by stage, if their labels say so. `builds` are the workflow runs
    that built them, by stage, as far as they were verified when the images were copied.
    """

    action: ReleaseAction
    tag: str | None
    images: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    who: str = ""
    at: datetime = datetime.min
    bases: Mapping[str, str] = field(default_factory=dict)
    builds: Mapping[str, Build] = field(default_factory=dict)


class Ledger(Protocol):
    """The recorded releases, oldest first."""

    @property
    def place(self) -> str:
        """Its address, for messages."""

    def read(self) -> tuple[Release, ...]:
        """All entries; none before the first deployment. Raises RefinerctlError that names the place."""

    def append(self, release: Release) -> None:
        """Add an entry, unless it exists already. Concurrent writers lose nothing."""


def dump_releases(releases: Iterable[Release]) -> bytes:
    """The ledger as a JSON document, oldest first."""
    entries = [asdict(release) | {"at": release.at.isoformat()} for release in releases]
    return json.dumps({"version": 1, "releases": entries}, indent=2, ensure_ascii=False).encode() + b"\n"


def load_releases(document: bytes, place: str) -> tuple[Release, ...]:
    """Read what `dump_releases` wrote. Raises RefinerctlError, which names `place`, for anything else."""
    try:
        content = json.loads(document)
        if content["version"] != 1:
            raise RefinerctlError(
                f"{place}: the ledger of releases has version {content['version']}",
                hint="It was written by a newer version. Upgrade refinerctl.",
            )
        return tuple(_release(entry) for entry in content["releases"])
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise RefinerctlError(f"{place}: cannot read the ledger of releases: {error!r}") from error


def _release(entry: dict[str, Any]) -> Release:
    return Release(
        action=ReleaseAction(entry["action"]),
        tag=entry["tag"],
        images={str(name): str(uri) for name, uri in entry["images"].items()},
        commit=entry["commit"],
        who=str(entry["who"]),
        at=datetime.fromisoformat(entry["at"]),
        bases={str(name): str(base) for name, base in entry.get("bases", {}).items()},
        builds=msgspec.convert(entry.get("builds", {}), dict[str, Build]),
    )


def operator(environ: Mapping[str, str], caller: Callable[[], str] | None) -> str:
    """The operator of a release: in a GitLab job its user and the job, else the AWS identity, else the local user.

    `caller` asks AWS; None without an account.
    """
    if job := environ.get("CI_JOB_URL"):
        return f"{environ.get('GITLAB_USER_LOGIN', 'GitLab')} ({job})"
    if caller is not None:
        try:
            return caller()
        except RefinerctlError:
            pass  # a deployment must not fail for lack of this permission
    return local_user()


def local_user() -> str:
    """user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


# Times are from the clocks of many machines: use the order in the ledger, oldest first.


def deployed(releases: Sequence[Release]) -> Release | None:
    """The current release: the last entry, unless that destroyed everything."""
    return releases[-1] if releases and releases[-1].action is not ReleaseAction.DESTROY else None


def last_deploy(releases: Iterable[Release], tag: str) -> Release | None:
    """The last entry that deployed `tag`."""
    found = [release for release in releases if release.tag == tag and release.action is not ReleaseAction.DESTROY]
    return found[-1] if found else None


def previous(releases: Iterable[Release]) -> Release | None:
    """The release to roll back to: the last one before the current one that ran another image in a stage of today.

    A release that was rolled back does not count: after A, B and back to A, it is the one before A.
    """
    line = _line(releases)
    return next((release for release in reversed(line[:-1]) if _runs_other_images(release, line[-1])), None)


def _line(releases: Iterable[Release]) -> list[Release]:
    """The entries that led to the current release: a rollback removes those after its target."""
    line: list[Release] = []
    for release in releases:
        if release.action is ReleaseAction.ROLLBACK:
            target = next(
                (place for place in reversed(range(len(line))) if _is_back_at(release, line[place])), len(line)
            )
            del line[target:]
        line.append(release)
    return line


def _is_back_at(rollback: Release, earlier: Release) -> bool:
    """Whether the stages that both have run the same images; stages may have been added or removed."""
    return (
        rollback.tag == earlier.tag
        and bool(rollback.images) == bool(earlier.images)
        and not _runs_other_images(earlier, rollback)
    )


def _runs_other_images(one: Release, other: Release) -> bool:
    return any(one.images[stage] != other.images[stage] for stage in one.images.keys() & other.images.keys())
