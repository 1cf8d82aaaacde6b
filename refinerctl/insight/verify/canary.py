"""A canary: an input that is sent to see whether it comes back, and what is to be removed of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from refinerctl.errors import RefinerctlError
from refinerctl.inputs.follow import Upload, UploadStatus
from refinerctl.insight.verify.types import CheckResult, RulesetParts, Status
from refinerctl.parallel import concurrently

if TYPE_CHECKING:
    from refinerctl.aws.bucket_versions import BucketVersions

ID = "canary"
WHY = "All else may look right: this is an input that went through, or did not."
FIX = "`refinerctl trace KEY` says where it stopped."
THREADS = 8


def key_of(ruleset: RulesetParts, mark: str, suffix: str = ".txt") -> str:
    """Where the ruleset's canary goes; `mark` differs from run to run.

    The ruleset is in the name, too: completions of equal names would be one object.
    """
    return f"{ruleset.prefix}refinerctl-canary-{mark}-{ruleset.name}{suffix}"


def content_of(ruleset: RulesetParts, mark: str) -> bytes:
    """So that whoever finds it knows what it is."""
    return f"refinerctl verify --canary {mark} for {ruleset.name}, {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode()


def blocked(ruleset: RulesetParts, results: Sequence[CheckResult]) -> str | None:
    """Why no canary is to be sent: it would be lost, or would end among the dead letters."""
    failed = [item.id for item in results if item.status is Status.FAIL and item.ruleset in (None, ruleset.name)]
    return f"not sent, because of {', '.join(failed)}" if failed else None


def skipped(ruleset: RulesetParts, reason: str) -> CheckResult:
    return CheckResult(ID, Status.SKIP, reason, WHY, FIX, ruleset.name)


def remove(versions: BucketVersions, bucket: str, item: Upload) -> list[str]:
    """Remove a canary, its outputs and its completion; the keys that could not be removed.

    What is still under way stays: without its input it would end among the dead letters. Versions older than the canary
    stay, too: a function may well write to a key that somebody else's data has.
    """
    if item.status is UploadStatus.PENDING:
        return [item.key]
    keys = [*item.outputs, *([item.completion_key] if item.completion_key else []), item.key]
    try:
        since = versions.oldest(bucket, item.key) or item.uploaded_at
    except RefinerctlError:
        return keys
    removed = concurrently([partial(_is_removed, versions, bucket, key, since) for key in keys], THREADS)
    return [key for key, gone in zip(keys, removed, strict=True) if not gone]


def _is_removed(versions: BucketVersions, bucket: str, key: str, since: datetime) -> bool:
    try:
        versions.delete_key(bucket, key, since)
    except RefinerctlError:
        return False
    return True


def broken_off(ruleset: RulesetParts, key: str, error: RefinerctlError) -> CheckResult:
    """For one that could not be sent or followed to its end; the others' results count all the same."""
    seen = f"{key}: {error.message}; it may still be in the bucket"
    return CheckResult(ID, Status.FAIL, seen, WHY, error.hint or FIX, ruleset.name)


def judge(ruleset: RulesetParts, item: Upload, elapsed_s: float, left: Sequence[str]) -> CheckResult:
    """What became of it, after how long, and what is `left` of it."""
    remains = f"; left in the bucket: {', '.join(left)}" if left else ""
    if item.status is not UploadStatus.COMPLETED:
        seen = f"{item.key}: {item.error or 'not completed'}, after {elapsed_s:.1f} s{remains}"
        return CheckResult(ID, Status.FAIL, seen, WHY, FIX, ruleset.name)
    seen = f"completed in {elapsed_s:.1f} s, with {len(item.outputs)} outputs{remains}"
    status = Status.WARN if left else Status.PASS
    return CheckResult(ID, status, seen, WHY, "Remove what is left by hand." if left else FIX, ruleset.name)
