"""What a completion object says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from refinerctl.aws.objects import ObjectInfo
from refinerctl.errors import UsageError
from refinerctl.keys import check_key


class CompletionStatus(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    MALFORMED = "malformed"


@dataclass(frozen=True)
class CompletionDocument:
    """The content of a completion object, whichever of its two forms it came in."""

    status: CompletionStatus
    output_keys: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Completion:
    """A completion object: which one, and what it says."""

    info: ObjectInfo
    document: CompletionDocument

    @property
    def source_version(self) -> str | None:
        """The input's version that this completion is about, where the image recorded it."""
        return self.info.metadata.get("source-version")


def parse_completion(body: bytes) -> CompletionDocument:
    """Read the plain array `["/RefinerOutput/…", …]` or the production refiner's object form.

    The object form is `{"RefinerSkip": false, "RefinerOutputFiles": [...]}` or `{"RefinerSkip": true, "Error": "…"}`.
    Never raises: what cannot be read is `malformed`, with the reason in `error`.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, not UTF-8, or a number of 5,000 digits
        return _malformed(f"not JSON: {error}")
    if isinstance(document, list):
        return _completed(document)
    if not isinstance(document, dict):
        return _malformed(f"expected an array or an object, found {type(document).__name__}")
    if document.get("RefinerSkip") is True or document.get("Error"):
        reason = document.get("Error") or "the refiner skipped this input without a reason"
        return CompletionDocument(CompletionStatus.FAILED, error=str(reason))
    if "RefinerOutputFiles" not in document:
        return _malformed("the object has neither RefinerOutputFiles nor Error")
    return _completed(document["RefinerOutputFiles"])


def _completed(outputs: object) -> CompletionDocument:
    if not isinstance(outputs, list) or not all(isinstance(item, str) for item in outputs):
        return _malformed("the list of outputs holds something that is not a key")
    try:
        keys = tuple(check_key(item.removeprefix("/")) for item in outputs)
    except UsageError as error:
        return _malformed(f"the list of outputs holds something that is not a key: {error.message}")
    return CompletionDocument(CompletionStatus.COMPLETED, keys)


def _malformed(reason: str) -> CompletionDocument:
    return CompletionDocument(CompletionStatus.MALFORMED, error=reason)
