"""The inputs below a prefix, each with its completion: two sorted listings side by side, one page of each in memory."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from refinerctl.aws.s3 import ObjectInfo
from refinerctl.errors import AccessDeniedError, RefinerctlError

if TYPE_CHECKING:
    from refinerctl.aws.s3 import S3Bucket
    from refinerctl.inputs.completions import Completions

# EventBridge usually delivers within seconds, and SQS's counts are correct a minute or so later.
SETTLED = timedelta(minutes=2)
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
LONGEST_TIMEOUT_S = 900
# A page of a listing costs as much as requests for this number of objects.
KEYS_PER_PAGE = 20
THREADS = 16


class ListingCutError(RefinerctlError):
    """The limit of pages was reached."""


@dataclass(frozen=True)
class Input:
    """An input, and its completion; None if it has none, or one that is older than the input.

    `has_older_completion`: there is an older one, of an earlier version of the input.
    """

    info: ObjectInfo
    completion: ObjectInfo | None = None
    has_older_completion: bool = False


@dataclass(frozen=True)
class InputCount:
    """Of `counted` inputs so many are incomplete: written some time ago, and without a completion.

    `all_counted`: no input was left out.
    """

    counted: int
    incomplete: int
    all_counted: bool = True

    def without_message(self, messages: int) -> int:
        """How many of them have no message, at least, if the stage's queues and DLQs hold so many."""
        return max(0, self.incomplete - messages)


def is_recent(info: ObjectInfo, now: datetime, timeout_s: float = LONGEST_TIMEOUT_S) -> bool:
    """Whether an input may be under way although it has no message: its event was not delivered yet, or it is being
    processed by a function with this timeout."""
    return info.last_modified + SETTLED + timedelta(seconds=timeout_s) > now


def list_inputs(completions: Completions, prefix: str, *, max_pages: int | None = None) -> Iterator[Input]:
    """The inputs below `prefix`, which is at or below a stage's, in the order of their keys.

    Makes one call for each 1,000 inputs, and one for each 1,000 completions between the first and the last of theirs
    (twice if the image's keys are not the likelier ones). Where `x.json` may be the completion of two inputs, `x` and
    `x.json`, it is requested. Raises ListingCutError after `max_pages` calls.
    """
    pages, bucket = _Pages(max_pages), completions.bucket
    lookups: list[_Lookup] = []
    inputs = _Lookup(pages, bucket, prefix[: prefix.rfind("/") + 1])  # a suffix has no slash
    for info in pages.objects(bucket, prefix):
        if info.key.endswith("/") and info.size == 0:  # the S3 console's "Create folder"
            continue
        keys = completions.keys_for(info.key)
        below = completions.prefix_for(info.key)
        lookups += [_Lookup(pages, completions.results, below) for _ in keys[len(lookups) :]]
        has_older_completion = False
        for key, lookup in zip(keys, lookups, strict=False):
            found = lookup.find(key)
            other = completions.other_input(info.key, key) if found else None
            if other and inputs.find(other) and not pages.is_of(completions, key, info.key):
                continue
            if found is not None:
                if found.last_modified >= info.last_modified:
                    yield Input(info, found)
                    break
                has_older_completion = True
        else:
            yield Input(info, has_older_completion=has_older_completion)


def count_incomplete(completions: Completions, prefix: str, now: datetime, max_pages: int) -> InputCount:
    """Count the incomplete inputs of the stage with this prefix, in at most `max_pages` calls: the first by key."""
    counted = incomplete = 0
    try:
        for item in list_inputs(completions, prefix, max_pages=max_pages):
            counted += 1
            incomplete += item.completion is None and not is_recent(item.info, now)
    except ListingCutError:
        return InputCount(counted, incomplete, all_counted=False)
    return InputCount(counted, incomplete)


class Finder:
    """Finds objects of a bucket by key: many of them by listing, unless too many other objects are between them."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._bucket = bucket
        self._lists = True

    def find(self, keys: Collection[str]) -> dict[str, ObjectInfo]:
        """The objects that exist, by key; without version and metadata if they were listed."""
        if self._lists and len(keys) > KEYS_PER_PAGE:
            try:
                return self._listed(sorted(keys))
            except (ListingCutError, AccessDeniedError):
                self._lists = False
        with ThreadPoolExecutor(THREADS, thread_name_prefix="head") as pool:
            return {info.key: info for info in pool.map(self._bucket.head, keys) if info is not None}

    def _listed(self, keys: list[str]) -> dict[str, ObjectInfo]:
        pages = _Pages(1 + len(keys) // KEYS_PER_PAGE)
        prefix = os.path.commonprefix([keys[0], keys[-1]])  # noqa: RUF071 - S3's prefixes are of characters
        lookup = _Lookup(pages, self._bucket, prefix)
        return {key: info for key in keys if (info := lookup.find(key)) is not None}


@dataclass
class _Pages:
    """Pages of buckets' listings, and completions, at most `left` of them."""

    left: int | None

    def page(self, bucket: S3Bucket, prefix: str, after: str) -> tuple[list[ObjectInfo], bool]:
        self._count(bucket, prefix)
        return bucket.page(prefix, after)

    def is_of(self, completions: Completions, key: str, input_key: str) -> bool:
        """Whether the completion at `key` is the input's; also if it does not say."""
        self._count(completions.results, key)
        found = completions.get(key)
        return found is not None and completions.is_of_input(found, input_key)

    def _count(self, bucket: S3Bucket, prefix: str) -> None:
        if self.left is not None:
            if self.left == 0:
                raise ListingCutError(f"bucket {bucket.name} has more objects below {prefix} than were listed")
            self.left -= 1

    def objects(self, bucket: S3Bucket, prefix: str) -> Iterator[ObjectInfo]:
        after, has_more = "", True
        while has_more:
            found, has_more = self.page(bucket, prefix, after)
            yield from found
            after = found[-1].key if found else ""


@dataclass
class _Lookup:
    """Finds objects by key in pages of a listing; keys that are asked for almost in order cost each page once.

    In memory are the objects with keys after `_after`, up to `_last`; None is the end of the listing.
    """

    pages: _Pages
    bucket: S3Bucket
    prefix: str
    _page: dict[str, ObjectInfo] = field(default_factory=dict)
    _after: str | None = None
    _last: str | None = None

    def find(self, key: str) -> ObjectInfo | None:
        if self._after is None or key <= self._after:
            self._read(key[:-1])
        elif self._last is not None and key > self._last:  # what is between is skipped, and no page is read again
            self._read(max(self._last, key[:-1]))
        while self._last is not None and key > self._last:
            self._read(self._last)
        return self._page.get(key)

    def _read(self, after: str) -> None:
        found, has_more = self.pages.page(self.bucket, self.prefix, after)
        self._page = {info.key: info for info in found}
        self._after, self._last = after, found[-1].key if found and has_more else None
