"""Which earlier release to go back to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refinerctl.errors import NotFoundError, RefusedError
from refinerctl.releases.model import ImageChange, Release, deployed, last_deploy, previous, unfinished

_TAGS_SHOWN = 10


@dataclass(frozen=True)
class Rollback:
    """From which release to which."""

    current: Release
    target: Release


def choose(releases: Sequence[Release], to: str | None) -> Rollback:
    """The last entry of tag `to`, or the last one before the current release that ran other images.

    What was rolled back itself is never chosen by default. Raises RefusedError if there is nothing to go back to,
    NotFoundError for a tag that was never deployed.
    """
    current = deployed(releases)
    if current is None:
        raise RefusedError("no release is recorded as deployed here, so there is none to go back to")
    target = last_deploy(releases, to) if to else previous(releases)
    if target is None and to is None:
        raise RefusedError(
            f"no release with other images was in place before {current.tag or 'the current one'}",
            hint="What was rolled back does not count; --to TAG takes any that was ever deployed here.",
        )
    if target is None:
        tags = list(dict.fromkeys(release.tag for release in reversed(releases) if release.tag))[:_TAGS_SHOWN]
        raise NotFoundError(f"{to} was never deployed here", hint=f"Recorded: {', '.join(tags) or 'none'}.")
    return Rollback(current, target)


def check_in_place(current: Release, images: Sequence[ImageChange]) -> None:
    """Raises RefusedError if functions run other images than those recorded: an apply was cut off half-way.

    What was before the recorded release is then not what somebody wants who goes back by one.
    """
    if rulesets := unfinished(current, images):
        name = current.tag or "the recorded release"
        raise RefusedError(
            f"ruleset {', '.join(rulesets)} does not run the image of {name}: a deployment after it was not finished",
            hint="`refinerctl deploy` brings the recorded release back; --to TAG takes the one that you name.",
        )
