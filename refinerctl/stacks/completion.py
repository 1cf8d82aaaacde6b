"""A completion object: which one, and what it says."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.aws.objects import ObjectInfo
from refinerctl.stacks.base import CompletionDocument


@dataclass(frozen=True)
class Completion:
    """A completion object: which one, and what it says."""

    info: ObjectInfo
    document: CompletionDocument

    @property
    def source_version(self) -> str | None:
        """The input's version that this completion is about, where the image recorded it."""
        return self.info.metadata.get("source-version")
