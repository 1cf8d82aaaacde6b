"""Events as S3 sends them to EventBridge, for keys that do not exist; and whether patterns match them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from refinerctl.aws.event_pattern import Verdict, all_of, any_of, pattern_matches
from refinerctl.aws.s3 import ObjectInfo, created_event
from refinerctl.insight.verify.snapshot import Snapshot

SAMPLE_NAME = "refinerctl-verify"
_PUT = ("PutObject", 5)
_WRITTEN = datetime(2026, 3, 1, 14, 2, tzinfo=UTC)
# They differ in what a pattern could ask for besides the prefix: the name, how the object was created, its size.
_SAMPLES = (
    (SAMPLE_NAME, _PUT),
    ("2026/a b+c%41 ü.json", ("CompleteMultipartUpload", 6_000_000_000)),
    (SAMPLE_NAME, ("CopyObject", 0)),
)


def event(
    snapshot: Snapshot,
    key: str,
    *,
    bucket: str | None = None,
    kind: str = "Object Created",
    created: tuple[str, int] = _PUT,
) -> dict[str, Any]:
    """`created`: reason and size in bytes."""
    reason, size = created
    info = ObjectInfo(key, size, "b1946ac92492d2347c6235b4d2611184", _WRITTEN, "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e")
    name, account, partition = bucket or str(snapshot.bucket), snapshot.account, snapshot.partition
    made = created_event(name, info, partition=partition, region=snapshot.region, account=account, reason=reason)
    return {**made, "detail-type": kind}


def matches_all(snapshot: Snapshot, pattern: str, prefix: str) -> Verdict:
    """Whether the pattern matches every object that is created below `prefix`."""
    return all_of(_verdicts(snapshot, pattern, [prefix]))


def matches_any(snapshot: Snapshot, pattern: str, prefixes: Iterable[str]) -> Verdict:
    """Whether the pattern matches an object that is created below one of the prefixes."""
    return any_of(_verdicts(snapshot, pattern, prefixes))


def _verdicts(snapshot: Snapshot, pattern: str, prefixes: Iterable[str]) -> Iterable[Verdict]:
    return (
        pattern_matches(pattern, event(snapshot, prefix + name, created=created))
        for prefix in prefixes
        for name, created in _SAMPLES
    )
