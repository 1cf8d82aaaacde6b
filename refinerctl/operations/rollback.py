"""Which earlier release to go back to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refinerctl.errors import NotFoundError, RefusedError
from refinerctl.models.releases import Release, deployed, last_deploy, previous

_TAGS_SHOWN = 10


@dataclass(frozen=True)
class Rollback:
    """From which release to which."""

    current: Release
    target: Release


def choose(releases: Sequence[Release], to: str | None) -> Rollback:
    """The newest entry that deployed tag `to`, or the newest before the current one that has other images.

    Raises RefusedError if there is nothing to go back to, NotFoundError for a tag that was never deployed.
    """
    current = deployed(releases)
    if current is None:
        raise RefusedError("no release is recorded as deployed here, so there is none to go back to")
    target = last_deploy(releases, to) if to else previous(releases, current)
    if target is None and to is None:
        raise RefusedError(f"no release with other images was deployed before {current.tag or 'the current one'}")
    if target is None:
        tags = list(dict.fromkeys(release.tag for release in reversed(releases) if release.tag))[:_TAGS_SHOWN]
        raise NotFoundError(f"{to} was never deployed here", hint=f"Recorded: {', '.join(tags) or 'none'}.")
    return Rollback(current, target)
