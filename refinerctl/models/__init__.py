"""What the layers hand to each other: frozen dataclasses and the pure rules about them. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from refinerctl.errors import UsageError

# S3 counts a key's length in UTF-8 bytes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
MAX_KEY_BYTES = 1024


class Progress(Protocol):
    """What an operation tells about its progress; how that looks is the command line's business."""

    def step(self, text: str) -> None:
        """A milestone: shown once, stays."""

    def update(self, text: str) -> None:
        """Where the current step stands: the next one replaces it."""

    def advance(self, size: int) -> None:
        """So many bytes more are done."""


class BlobProgress(Progress, Protocol):
    """Progress of several blobs at once, each with a bar of its own."""

    def begin(self, blob: str, size: int) -> None:
        """Blob `blob` of so many bytes is being moved, from its beginning: maybe not for the first time."""

    def moved(self, blob: str, size: int) -> None:
        """So many bytes more of it."""

    def end(self, blob: str) -> None:
        """It is where it should be."""


class Silent:
    """Progress that nobody wants to see."""

    def step(self, text: str) -> None: ...
    def update(self, text: str) -> None: ...
    def advance(self, size: int) -> None: ...
    def begin(self, blob: str, size: int) -> None: ...
    def moved(self, blob: str, size: int) -> None: ...
    def end(self, blob: str) -> None: ...


def normalize_prefix(prefix: str) -> str:
    """`/RefinerInput/` and `RefinerInput/` name the same prefix: return it without the leading slash.

    Raises UsageError unless it ends in exactly one slash and holds no empty part.
    """
    bare = prefix.removeprefix("/")
    if not bare.endswith("/") or bare.startswith("/") or "//" in bare:
        raise UsageError(
            f"{prefix!r} is not a prefix",
            hint="A prefix ends in one slash, like RefinerInput/ or team/RefinerInput/.",
        )
    return bare


def check_key(key: str) -> str:
    """Return `key` if S3 can take it as it is; raises UsageError otherwise."""
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        raise UsageError(f"the name {key!r} is not UTF-8, which an S3 key has to be") from None
    if not key or key.startswith("/"):
        raise UsageError(f"{key!r} is not an S3 key", hint="Keys are not empty and have no leading slash.")
    if size > MAX_KEY_BYTES:
        raise UsageError(f"the key {key[:60]}… has {size} bytes; S3 takes {MAX_KEY_BYTES}")
    return key


@dataclass(frozen=True)
class Pipeline:
    """Where a stack keeps things in its bucket. Prefixes have no leading slash and end in one."""

    bucket: str = "data-repository"
    input_prefix: str = "RefinerInput/"
    output_prefix: str = "RefinerOutput/"
    complete_prefix: str = "RefinerComplete/"
    name_prefix: str = "dibbs-ecr"
    bus_name: str = "data-repository-bus"

    def completion_keys(self, input_key: str, input_prefix: str | None = None) -> tuple[str, ...]:
        """The keys under which the completion of `input_key` may appear, the likelier first.

        This repository's image appends `.json`; the production refiner does not. Keys that S3 cannot take are left out.
        """
        below = self._below_input_prefix(input_key, input_prefix)
        candidates = (f"{self.complete_prefix}{below}.json", f"{self.complete_prefix}{below}")
        return tuple(key for key in candidates if len(key.encode()) <= MAX_KEY_BYTES)

    def _below_input_prefix(self, input_key: str, input_prefix: str | None) -> str:
        prefix = input_prefix or self.input_prefix
        if input_key.startswith(prefix):
            return input_key.removeprefix(prefix)
        # Another ruleset's input: its prefix is the first part, as the image has it by default.
        return input_key.partition("/")[2] or input_key

    def queue_name(self, prefix: str) -> str:
        """The queue of the ruleset that handles `prefix`, if the ruleset is called like its prefix."""
        return f"{self.name_prefix}-{prefix.rstrip('/').replace('/', '-')}"


class UploadStatus(StrEnum):
    UPLOADED = "uploaded"
    COMPLETED = "completed"
    FAILED = "failed"
    PENDING = "pending"


class CompletionStatus(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    MALFORMED = "malformed"


@dataclass(frozen=True)
class ObjectInfo:
    """One version of an S3 object. `size` is in bytes; `version_id` is None in a bucket without versioning."""

    key: str
    size: int
    etag: str
    last_modified: datetime
    version_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> tuple[str | None, str, datetime]:
        """Equal for two looks at the same write, different once it has been written again."""
        return (self.version_id, self.etag, self.last_modified)


@dataclass(frozen=True)
class ObjectVersion:
    """A version of an S3 object, or the marker that deleted it. `version_id` is None in a bucket without versioning."""

    key: str
    version_id: str | None
    last_modified: datetime
    size: int = 0
    is_latest: bool = True
    is_delete_marker: bool = False


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


@dataclass(frozen=True)
class Output:
    """An output that a completion lists. Either `content` (its first bytes) or `path` (where it was saved) is set."""

    key: str
    size: int | None = None
    content: bytes | None = None
    truncated: bool = False
    path: Path | None = None
    error: str | None = None


@dataclass(frozen=True)
class PolledCompletion:
    """A completion with the outputs that it lists; `error` says why it counts as failed."""

    key: str
    status: CompletionStatus
    last_modified: datetime
    outputs: tuple[Output, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class UploadSource:
    """What to upload to which key. `path` None is standard input, whose size is not known before its end."""

    key: str
    path: Path | None
    size: int | None


@dataclass(frozen=True)
class Upload:
    """One upload and, where it was waited for, what became of it. `uploaded_at` is when it began."""

    key: str
    size: int
    version_id: str | None
    status: UploadStatus
    uploaded_at: datetime
    completion_key: str | None = None
    outputs: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class QueueDepth:
    """Approximate message counts of a queue."""

    name: str
    visible: int
    in_flight: int
    delayed: int


@dataclass(frozen=True)
class Message:
    """A message that was looked at in a queue. `sent_at` is when it was sent first, whatever queue it is in now.

    `attributes` are those that its sender gave it: EventBridge says there why it could not deliver.
    """

    body: str
    sent_at: datetime
    receive_count: int
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectEvent:
    """The S3 object that an EventBridge event is about."""

    bucket: str
    key: str
    version_id: str | None


def object_event(body: str) -> ObjectEvent | None:
    """The object of an S3 event from EventBridge; None for any other text.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    """
    try:
        detail = json.loads(body)["detail"]
        version = detail["object"].get("version-id")
        return ObjectEvent(detail["bucket"]["name"], detail["object"]["key"], None if version == "null" else version)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@dataclass(frozen=True)
class LogEvent:
    """One line of a log group. `timestamp` in UTC; `event_id` differs between all events of the account."""

    timestamp: datetime
    group: str
    stream: str
    message: str
    event_id: str = ""


class LogSource(Protocol):
    """CloudWatch Logs, as far as reading lines goes."""

    def events(
        self,
        group: str,
        since: datetime,
        pattern: str | None = None,
        *,
        until: datetime | None = None,
        streams: Sequence[str] = (),
    ) -> Iterator[LogEvent]:
        """Lines of `group` from `since` to `until`, in time order, each once; `pattern` is CloudWatch's."""


@dataclass(frozen=True)
class Hop:
    """One station on an object's way through the pipeline; `at` is None where the station tells no time."""

    station: str
    detail: str
    at: datetime | None


@dataclass(frozen=True)
class Function:
    """A Lambda function's configuration, as far as running it needs. Memory in MB, timeout in seconds."""

    name: str
    arn: str
    version: str
    image_uri: str
    memory_mb: int
    timeout_s: int
    environment: dict[str, str]
    command: tuple[str, ...] = ()
    revision: str = ""


@dataclass(frozen=True)
class LocalStatus:
    """The embedded environment: `state` is `down`, `starting`, `up` or `failed`."""

    state: str
    directory: Path
    endpoint_url: str | None = None
    engine: str | None = None
    supervisor_pid: int | None = None
    emulator_pid: int | None = None
    functions_url: str | None = None
    started_at: datetime | None = None
    stacks: tuple[str, ...] = ()
    detail: str | None = None
