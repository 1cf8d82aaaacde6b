"""Events as S3 sends them to EventBridge, for keys that do not exist; and whether patterns match them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from refinerctl.aws.event_pattern import Verdict, all_of, any_of, pattern_matches
from refinerctl.insight.verify.snapshot import Snapshot

SAMPLE_NAME = "refinerctl-verify"
_PUT = ("PutObject", 5)
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
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html; `created`: reason and size in bytes."""
    name = bucket or snapshot.bucket
    reason, size = created
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": kind,
        "source": "aws.s3",
        "account": snapshot.account,
        "time": "2026-03-01T14:02:00Z",
        "region": snapshot.region,
        "resources": [f"arn:{snapshot.partition}:s3:::{name}"],
        "detail": {
            "version": "0",
            "bucket": {"name": name},
            "object": {
                "key": key,
                "size": size,
                "etag": "b1946ac92492d2347c6235b4d2611184",
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "00617F08299329D189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": snapshot.account,
            "source-ip-address": "192.0.2.1",
            "reason": reason,
        },
    }


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
