"""The completion objects of a stack: where they are, which are new, what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from refinerctl.aws.s3 import ObjectInfo
from refinerctl.errors import UsageError
from refinerctl.stacks.base import CompletionDocument, CompletionStatus, Stack, Storage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.s3 import S3Bucket

# A completion lists keys: a larger object is something else that was written under the prefix.
MAX_COMPLETION_BYTES = 4 * 1024 * 1024


class Clock(Protocol):
    """What waiting needs of module `time`."""

    def monotonic(self) -> float: ...
    def sleep(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Completion:
    """A completion object and its content."""

    info: ObjectInfo
    document: CompletionDocument

    @property
    def source_versions(self) -> frozenset[str]:
        """The input's versions that the image recorded: the one that it read and the one that the event named."""
        found = (self.read_version, self.info.metadata.get("source-event-version"))
        return frozenset(version for version in found if version)

    @property
    def read_version(self) -> str | None:
        """The input's version that the image read; None if the image does not record it."""
        return self.info.metadata.get("source-version") or None


def completions_of(app: AppContext) -> Completions:
    """The completions of this run's stack. Raises UsageError for a stack without completions."""
    return Completions(app.bucket, app.storage, app.stack)


class Completions:
    """Reads completions by key or by time. Never uses the queue of completions: it belongs to downstream consumers."""

    def __init__(self, bucket: S3Bucket, storage: Storage, stack: Stack) -> None:
        if stack.read_completion is None or stack.completion_keys is None:
            raise UsageError(f"stack {stack.name} has no completions")
        self.bucket = bucket
        self.storage = storage
        self._keys = stack.completion_keys
        self._read = stack.read_completion

    def keys_for(self, input_key: str, input_prefix: str | None = None) -> tuple[str, ...]:
        """The keys under which the completion of `input_key` may appear, the likelier first."""
        return self._keys(self.storage, input_key, input_prefix)

    def since(self, moment: datetime | None) -> Iterator[ObjectInfo]:
        """The completion objects written at `moment` or later (None: all), in the order of their keys."""
        for info in self.bucket.objects(self.storage.complete_prefix):
            is_folder_marker = info.key.endswith("/") and info.size == 0
            if not is_folder_marker and (moment is None or info.last_modified >= moment):
                yield info

    def get(self, key: str) -> Completion | None:
        """The completion at `key`; None if it does not exist (yet)."""
        found = self.bucket.read(key, MAX_COMPLETION_BYTES + 1)
        if found is None:
            return None
        info, body = found
        if len(body) > MAX_COMPLETION_BYTES:
            reason = f"it has {info.size} bytes, too many for a completion"
            return Completion(info, CompletionDocument(CompletionStatus.MALFORMED, error=reason))
        return Completion(info, self._read(body))
