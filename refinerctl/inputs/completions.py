"""The completion objects of a pipeline: where they are, which are new, what they say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from refinerctl.aws.objects import ObjectInfo
from refinerctl.stacks.base import CompletionDocument, CompletionStatus
from refinerctl.stacks.completion import Completion
from refinerctl.stacks.refiner import read_completion as parse_completion
from refinerctl.stacks.settings import Pipeline

if TYPE_CHECKING:
    from refinerctl.aws.s3 import S3Bucket

# A completion lists keys: one of more than this is something else that landed under the prefix.
MAX_COMPLETION_BYTES = 4 * 1024 * 1024


class Completions:
    """Reads completions by key or by time. Never touches the complete queue, which belongs to downstream."""

    def __init__(self, bucket: S3Bucket, pipeline: Pipeline) -> None:
        self.bucket = bucket
        self.pipeline = pipeline

    def since(self, moment: datetime | None) -> Iterator[ObjectInfo]:
        """The completion objects written at `moment` or later (all: None), in the order of their keys."""
        for info in self.bucket.objects(self.pipeline.complete_prefix):
            is_folder_marker = info.key.endswith("/") and info.size == 0
            if not is_folder_marker and (moment is None or info.last_modified >= moment):
                yield info

    def get(self, key: str) -> Completion | None:
        """The completion at `key`; None if it is not there (yet)."""
        found = self.bucket.read(key, MAX_COMPLETION_BYTES + 1)
        if found is None:
            return None
        info, body = found
        if len(body) > MAX_COMPLETION_BYTES:
            reason = f"it has {info.size} bytes, too many for a completion"
            return Completion(info, CompletionDocument(CompletionStatus.MALFORMED, error=reason))
        return Completion(info, parse_completion(body))
