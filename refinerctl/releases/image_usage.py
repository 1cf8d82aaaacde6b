"""Who uses images: functions, task definitions, releases. All are asked at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from refinerctl.aws.inventory import ImageUsage, ImageUse, UseKind
from refinerctl.errors import RefinerctlError
from refinerctl.images import ImageReference
from refinerctl.parallel import concurrently
from refinerctl.releases.release import Release

Source = Callable[[], Sequence[ImageUse]]


def collect(sources: Mapping[str, Source]) -> ImageUsage:
    """Ask all `sources`, by what they tell about. One that cannot be read becomes a sentence in `unknown`."""
    answers = concurrently([partial(_ask, source) for source in sources.values()], len(sources))
    by_name = dict(zip(sources, answers, strict=True))
    return ImageUsage(
        uses=tuple(use for answer in by_name.values() if not isinstance(answer, str) for use in answer),
        unknown=tuple(f"{name}: {answer}" for name, answer in by_name.items() if isinstance(answer, str)),
    )


def _ask(source: Source) -> Sequence[ImageUse] | str:
    """What the source says, or why it says nothing."""
    try:
        return source()
    except RefinerctlError as error:
        return error.message


def release_uses(environment: str, releases: Sequence[Release], last: int | None = None) -> tuple[ImageUse, ...]:
    """The images of a ledger's newest `last` releases; one that was deployed several times counts once."""
    newest: dict[frozenset[str], Release] = {}
    for release in reversed(releases):  # the ledger's order counts, not the clocks of those who wrote it
        if release.images:
            newest.setdefault(frozenset(release.images.values()), release)
    found = [
        ImageUse(
            UseKind.RELEASE,
            f"{environment}:{release.tag or release.at.strftime('%Y-%m-%dT%H:%M:%SZ')}",
            ImageReference.parse(uri),
        )
        for release in list(newest.values())[:last]
        for uri in release.images.values()
    ]
    return tuple(dict.fromkeys(found))
