"""Canaries: inputs that `verify --canary` sends through the stages, follows to their completions and removes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import uuid4

from refinerctl.console import Silent
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.inputs.follow import Dlqs, Upload, UploadStatus, follow
from refinerctl.insight.verify.checks import CANARY, CheckResult, Status
from refinerctl.parallel import concurrently
from refinerctl.stacks.base import Bucket, Pipeline, Stage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.bucket_versions import BucketVersions

WHY = "A completed input proves that the whole pipeline works."
FIX = "`refinerctl trace KEY` shows where it stopped."
THREADS = 8


def check_possible(app: AppContext) -> None:
    """Raise UsageError for a stack that has no inputs and completions."""
    if app.stack.storage is None or app.stack.completion_keys is None:
        raise UsageError(f"stack {app.stack.name} has no inputs and completions: --canary is not possible")


def send_canaries(
    app: AppContext, pipeline: Pipeline, results: Sequence[CheckResult], timeout_s: float, file: Path | None = None
) -> list[CheckResult]:
    """Send one, with the content of `file` if given, through each stage that has a function and no failed check."""
    stages = [stage for stage in pipeline.stages if stage.consumer is not None and stage.prefix is not None]
    reasons = {stage.name: blocked(stage, results) for stage in stages}
    sent = [stage for stage in stages if reasons[stage.name] is None]
    bucket = next(item.name for item in pipeline.by_kind(Bucket))
    if sent:
        _announce(app, pipeline, sent)
    run = _Run(app, bucket, uuid4().hex[:12], timeout_s, file)
    with app.render.progress() as progress:
        if sent:
            progress.step("waiting for the canaries")
        try:
            found = concurrently([partial(run.result, stage) for stage in sent], len(sent))
        except BaseException:
            keys = ", ".join(map(run.key, sent))
            app.render.warning(f"canaries may still be in bucket {bucket}: {keys}")
            raise
    return [*found, *(result(stage, Status.SKIP, reason) for stage in stages if (reason := reasons[stage.name]))]


def _announce(app: AppContext, pipeline: Pipeline, sent: Sequence[Stage]) -> None:
    app.render.note(f"sending a canary through {', '.join(stage.name for stage in sent)}")
    for stage in pipeline.stages:
        covers = stage.prefix is not None and app.storage.complete_prefix.startswith(stage.prefix)
        if covers and stage.consumer is None and stage.queue is not None:
            messages = f"{len(sent)} message{'s' * (len(sent) != 1)}"
            app.render.note(f"{stage.queue.name} will get {messages} about the completions, for downstream consumers")


@dataclass(frozen=True)
class _Run:
    """One run's canaries; `mark` differs between runs."""

    app: AppContext
    bucket: str
    mark: str
    timeout_s: float
    file: Path | None

    def key(self, stage: Stage) -> str:
        return key_of(stage, self.mark, self.file.suffix if self.file else ".txt")

    def result(self, stage: Stage) -> CheckResult:
        try:
            return self._send(stage)
        except RefinerctlError as error:  # the other canaries' results count all the same
            seen = f"{self.key(stage)}: {error.message}; it may still be in the bucket"
            return result(stage, Status.FAIL, seen, error.hint or FIX)

    def _send(self, stage: Stage) -> CheckResult:
        from refinerctl.aws.s3 import S3Bucket
        from refinerctl.inputs.completions import Completions
        from refinerctl.inputs.upload import UploadSource, send

        app, bucket = self.app, S3Bucket(self.app.session, self.bucket)
        dlq = stage.queue.dlq.name if stage.queue and stage.queue.dlq else None
        began = time.monotonic()
        with TemporaryDirectory(prefix="refinerctl-canary-") as folder:
            path = Path(folder) / "canary"
            content = self.file.read_bytes() if self.file else content_of(stage, self.mark)
            path.write_bytes(content)
            uploads = send(bucket, [UploadSource(self.key(stage), path, len(content))], Silent())
        (item,) = follow(
            Completions(bucket, app.storage, app.stack),
            uploads,
            existing={},
            prefix=stage.prefix or "",
            timeout_s=self.timeout_s,
            progress=Silent(),
            dlqs=Dlqs(app.queues, lambda _key: dlq, self.bucket),
        )
        elapsed_s = time.monotonic() - began
        return judge(stage, item, elapsed_s, remove(app.bucket_versions, self.bucket, item))


def key_of(stage: Stage, mark: str, suffix: str = ".txt") -> str:
    """The canary's key. It has the stage's name, as completions of equal names would be one object."""
    return f"{stage.prefix}refinerctl-canary-{mark}-{stage.name}{suffix}"


def content_of(stage: Stage, mark: str) -> bytes:
    """Says what the object is."""
    return f"refinerctl verify --canary {mark} for {stage.name}, {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode()


def blocked(stage: Stage, results: Sequence[CheckResult]) -> str | None:
    """Why no canary is sent: a failed check says that it would be lost or end in the DLQ."""
    failed = [item.id for item in results if item.status is Status.FAIL and item.stage in (None, stage.name)]
    return f"not sent, because of {', '.join(failed)}" if failed else None


def result(stage: Stage, status: Status, seen: str, fix: str = FIX) -> CheckResult:
    return CheckResult(CANARY, status, seen, WHY, fix, stage.name)


def remove(versions: BucketVersions, bucket: str, item: Upload) -> list[str]:
    """Remove a canary, its outputs and its completion; return the keys that could not be removed.

    A pending one stays: without its input its message would end in the DLQ. Versions older than the canary stay, too:
    its function may have written to a key that holds somebody else's data.
    """
    if item.status is UploadStatus.PENDING:
        return [item.key]
    keys = [*item.outputs, *([item.completion_key] if item.completion_key else []), item.key]
    try:
        since = versions.oldest(bucket, item.key) or item.uploaded_at
    except RefinerctlError:
        return keys
    removed = concurrently([partial(_is_removed, versions, bucket, key, since) for key in keys], THREADS)
    return [key for key, done in zip(keys, removed, strict=True) if not done]


def _is_removed(versions: BucketVersions, bucket: str, key: str, since: datetime) -> bool:
    try:
        versions.delete_key(bucket, key, since)
    except RefinerctlError:
        return False
    return True


def judge(stage: Stage, item: Upload, elapsed_s: float, left: Sequence[str]) -> CheckResult:
    """The result of a canary that was followed; `left` are the keys that could not be removed."""
    remains = f"; still in the bucket: {', '.join(left)}" if left else ""
    if item.status is not UploadStatus.COMPLETED:
        seen = f"{item.key}: {item.error or 'not completed'}, after {elapsed_s:.1f} s{remains}"
        return result(stage, Status.FAIL, seen)
    seen = f"completed in {elapsed_s:.1f} s with {len(item.outputs)} outputs{remains}"
    if left:
        return result(stage, Status.WARN, seen, "Delete the objects that are still in the bucket.")
    return result(stage, Status.PASS, seen)
