"""The completion objects of a stack: where they are, which are new, what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

from refinerctl.aws.s3 import ObjectInfo
from refinerctl.errors import UsageError
from refinerctl.parallel import attempt
from refinerctl.stacks.base import CompletionDocument, CompletionStatus, Pipeline, Stack, Storage

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

    @property
    def source(self) -> str | None:
        """The input, as `bucket/key`; None if the image does not record it."""
        found = self.info.metadata.get("source-bucket-key")
        return unquote(found) if found else None

    @property
    def of_another(self) -> str:
        """The words for a completion that is not the expected input's."""
        return (
            f"{self.info.key} is the completion of {self.source or 'an input of another stage, or of another version'}"
        )


def completions_of(app: AppContext) -> Completions:
    """The completions of this run's stack. Raises UsageError for a stack without completions."""
    pipeline = app.pipeline if app.stack.pipeline is not None else Pipeline(app.stack.name, ())
    return Completions(app.bucket, app.storage, app.stack, pipeline, results=app.results)


class Completions:
    """Reads completions by key or by time. Never uses the queue of completions: it belongs to downstream consumers.

    `bucket` has the inputs; `results` the outputs and completions, if that is another one.
    """

    def __init__(
        self,
        bucket: S3Bucket,
        storage: Storage,
        stack: Stack,
        pipeline: Pipeline,
        *,
        results: S3Bucket | None = None,
    ) -> None:
        if stack.read_completion is None or stack.completion_keys is None:
            raise UsageError(f"stack {stack.name} has no completions")
        self.bucket = bucket
        self.results = results or bucket
        self.storage = storage
        self._pipeline = pipeline
        self._places = [(stage, stage.completions) for stage in pipeline.stages if stage.completions is not None]
        self._keys = stack.completion_keys
        self._read = stack.read_completion

    def keys_for(self, input_key: str) -> tuple[str, ...]:
        """The keys under which the completion of `input_key` may appear, the likelier first."""
        return self._keys(self.storage, self._pipeline, input_key)

    def prefix_for(self, input_key: str) -> str:
        """Below which the completion of `input_key` appears."""
        stage = self._pipeline.stage_for(input_key)
        return stage.completions.prefix if stage and stage.completions else self.storage.complete_prefix

    def is_of(self, completion: Completion, input_key: str) -> bool:
        """Whether a completion under one of the input's keys is not another input's.

        This repository's image records its input. A completion of another image is its ruleset's in whose place it is.
        """
        if completion.source is not None:
            return completion.source == f"{self.bucket.name}/{input_key}"
        if completion.source_versions:  # of an earlier release, or its input's name is too long to be recorded
            return True
        around = [(len(place.prefix), stage.name) for stage, place in self._places if place.holds(completion.info.key)]
        stage = self._pipeline.stage_for(input_key)
        return stage is None or not around or stage.name == max(around)[1]

    def is_of_input(self, completion: Completion, input_key: str) -> bool:
        """Like `is_of`. A version that the completion names must be the input's newest one, unless that was written
        later: earlier versions are not looked up.
        """
        if completion.source is not None or not completion.source_versions or len(self._places) < 2:
            return self.is_of(completion, input_key)
        newest = attempt(partial(self.bucket.head, input_key)).value
        if newest is None or newest.last_modified > completion.info.last_modified:
            return True
        return (newest.version_id or newest.etag.strip('"')) in completion.source_versions

    def other_input(self, input_key: str, completion_key: str) -> str | None:
        """The input whose name with the suffix is `input_key`, if `completion_key` is what its completion is called."""
        stage = self._pipeline.stage_for(input_key)
        if stage is None or stage.completions is None or not input_key.endswith(stage.completions.suffix):
            return None
        other = input_key.removesuffix(stage.completions.suffix)
        return other if completion_key in self.keys_for(other)[:1] else None

    def is_input(self, key: str) -> bool:
        """Whether the key is below the prefix of a stage that writes completions."""
        stage = self._pipeline.stage_for(key)
        return stage is not None and stage.completions is not None

    def named(self, key: str) -> tuple[str, ...]:
        """The completions that a key may mean: `x` also means `x.json`, if completions there have that suffix.

        The place with the longest prefix comes first: others have completions there only of inputs in such a folder.
        """
        places = sorted((place for _, place in self._places if place.holds(key)), key=lambda place: -len(place.prefix))
        suffixes = [place.suffix for place in places]
        if key.endswith(tuple(suffixes)):
            return (key,)
        return (*dict.fromkeys(key + suffix for suffix in suffixes), key)

    @property
    def prefixes(self) -> list[str]:
        """Below which all completions are: those of the stack, and of stages that write elsewhere."""
        found: list[str] = []
        for prefix in sorted({self.storage.complete_prefix, *(place.prefix for _, place in self._places)}):
            if not found or not prefix.startswith(found[-1]):
                found.append(prefix)
        return found

    def since(self, moment: datetime | None) -> Iterator[ObjectInfo]:
        """The completion objects written at `moment` or later (None: all), in the order of their keys."""
        for prefix in self.prefixes:
            for info in self.results.objects(prefix):
                is_folder_marker = info.key.endswith("/") and info.size == 0
                if not is_folder_marker and (moment is None or info.last_modified >= moment):
                    yield info

    def get(self, key: str) -> Completion | None:
        """The completion at `key`; None if it does not exist (yet)."""
        found = self.results.read(key, MAX_COMPLETION_BYTES + 1)
        if found is None:
            return None
        info, body = found
        if len(body) > MAX_COMPLETION_BYTES:
            reason = f"it has {info.size} bytes, too many for a completion"
            return Completion(info, CompletionDocument(CompletionStatus.MALFORMED, error=reason))
        return Completion(info, self._read(body))
