"""Canaries: inputs that `verify --canary` sends through the stages, follows to their completions and removes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from uuid import uuid4

from refinerctl.console import Progress, counted
from refinerctl.errors import RefinerctlError
from refinerctl.inputs.follow import Dlqs, Upload, UploadStatus, follow
from refinerctl.insight.findings import Status
from refinerctl.insight.verify.checks import CANARY, CheckResult
from refinerctl.parallel import attempt, concurrently
from refinerctl.stacks.base import Bucket, Pipeline, Stage

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.bucket_versions import BucketVersions

WHY = "A completed input proves that the whole pipeline works."
FIX = "`refinerctl trace KEY` shows where it stopped."
THREADS = 8


def send_canaries(
    app: AppContext, pipeline: Pipeline, results: Sequence[CheckResult], timeout_s: float, file: Path | None = None
) -> list[CheckResult]:
    """Send one, with the content of `file` if given, through each stage that has a function and no failed check."""
    stages = [stage for stage in pipeline.stages if stage.consumer is not None and stage.prefix is not None]
    reasons = {stage.name: blocked(stage, results) for stage in stages}
    mark, suffix = uuid4().hex[:12], file.suffix if file else ".txt"  # the mark differs between runs
    keys = {stage.name: key_of(stage, mark, suffix) for stage in stages if reasons[stage.name] is None}
    bucket = next(item.name for item in pipeline.by_kind(Bucket))
    if keys:
        _announce(app, pipeline, list(keys))

    def sent(stage: Stage) -> CheckResult:
        content = file.read_bytes() if file else content_of(stage, mark)
        try:
            return _send(app, pipeline, stage, keys[stage.name], content, timeout_s)
        except RefinerctlError as error:  # the results of the other canaries are reported anyway
            seen = f"{keys[stage.name]}: {error.message}; it may still be in the bucket"
            return result(stage, Status.FAIL, seen, error.hint or FIX)

    with app.render.progress() as progress:
        if keys:
            progress.step("waiting for the canaries")
        try:
            found = concurrently([partial(sent, stage) for stage in stages if stage.name in keys], len(keys))
        except BaseException:
            app.render.warning(f"canaries may still be in bucket {bucket}: {', '.join(keys.values())}")
            raise
    return [*found, *(result(stage, Status.SKIP, reason) for stage in stages if (reason := reasons[stage.name]))]


def _announce(app: AppContext, pipeline: Pipeline, names: Sequence[str]) -> None:
    app.render.note(f"sending a canary through {', '.join(names)}")
    for stage in pipeline.stages:
        covers = stage.prefix is not None and app.storage.complete_prefix.startswith(stage.prefix)
        if covers and stage.consumer is None and stage.queue is not None:
            messages = counted(len(names), "message")
            app.render.note(f"{stage.queue.name} will get {messages} about the completions, for downstream consumers")


def _send(app: AppContext, pipeline: Pipeline, stage: Stage, key: str, content: bytes, timeout_s: float) -> CheckResult:
    from refinerctl.aws.s3 import S3Bucket
    from refinerctl.inputs.completions import Completions
    from refinerctl.inputs.upload import UploadSource, send

    name = next(item.name for item in pipeline.by_kind(Bucket))
    bucket, dlq = S3Bucket(app.session, name), stage.queue.dlq if stage.queue else None
    began = time.monotonic()
    with TemporaryDirectory(prefix="refinerctl-canary-") as folder:
        path = Path(folder) / "canary"
        path.write_bytes(content)
        uploads = send(bucket, [UploadSource(key, path, len(content))], Progress())
    (item,) = follow(
        Completions(bucket, app.storage, app.stack, pipeline, results=S3Bucket(app.session, stage.results or name)),
        uploads,
        existing={},
        timeout_s=timeout_s,
        progress=Progress(),
        dlqs=Dlqs(app.queues, lambda _key: dlq.name if dlq else None, name),
    )
    return judge(stage, item, time.monotonic() - began, remove(app.bucket_versions, name, item))


def key_of(stage: Stage, mark: str, suffix: str = ".txt") -> str:
    """The canary's key. It has the stage's name, which tells the canaries of a run apart."""
    return f"{stage.prefix}refinerctl-canary-{mark}-{stage.name}{suffix}"


def content_of(stage: Stage, mark: str) -> bytes:
    """Says what the object is."""
    return f"refinerctl verify --canary {mark} for {stage.name}, {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode()


def blocked(stage: Stage, results: Sequence[CheckResult]) -> str | None:
    """Why no canary is sent: a failed check says that it would be lost or end in the DLQ, or its outputs stay."""
    if stage.service is not None:
        return "not sent: the outputs of a service may be merged with those of other inputs"
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
    deletions = [partial(attempt, partial(versions.delete_key, bucket, key, since)) for key in keys]
    answers = concurrently(deletions, THREADS)
    return [key for key, answer in zip(keys, answers, strict=True) if answer.error]


def judge(stage: Stage, item: Upload, elapsed_s: float, left: Sequence[str]) -> CheckResult:
    """The result of a canary that was followed; `left` are the keys that could not be removed."""
    remains = f"; still in the bucket: {', '.join(left)}" if left else ""
    if item.status is not UploadStatus.COMPLETED:
        why = item.error or "not completed"
        return result(stage, Status.FAIL, f"{item.key}: {why}, after {elapsed_s:.1f} s{remains}")
    seen = f"completed in {elapsed_s:.1f} s with {counted(len(item.outputs), 'output')}{remains}"
    if left:
        return result(stage, Status.WARN, seen, "Delete the objects that are still in the bucket.")
    return result(stage, Status.PASS, seen)
