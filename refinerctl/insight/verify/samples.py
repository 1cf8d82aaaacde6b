"""Events as S3 sends them to EventBridge, for keys that nobody has written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from refinerctl.aws.event_pattern import Verdict, all_of, any_of, takes
from refinerctl.insight.verify.types import Snapshot

# A pattern that asks for more than the prefix would miss one of them: what it is called, how it came, its size.
NAMES = ("refinerctl-verify", "2026/a b+c%41 ü.json")
_PUT = ("PutObject", 5)
_SAMPLES = (
    (NAMES[0], _PUT),
    (NAMES[1], ("CompleteMultipartUpload", 6_000_000_000)),
    (NAMES[0], ("CopyObject", 0)),
)


def event(
    snapshot: Snapshot,
    key: str,
    *,
    bucket: str | None = None,
    kind: str = "Object Created",
    way: tuple[str, int] = _PUT,
) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""
    name = bucket or snapshot.names.bucket
    reason, size = way
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


def takes_all(snapshot: Snapshot, pattern: str, prefix: str) -> Verdict:
    """Whether the pattern takes whatever is created below `prefix`."""
    return all_of(takes(pattern, event(snapshot, prefix + name, way=way)) for name, way in _SAMPLES)


def takes_any(snapshot: Snapshot, pattern: str, prefixes: Iterable[str]) -> Verdict:
    """Whether the pattern takes something that is created below one of the prefixes."""
    return any_of(
        takes(pattern, event(snapshot, prefix + name, way=way)) for prefix in prefixes for name, way in _SAMPLES
    )


def elsewhere(snapshot: Snapshot, prefix: str) -> Iterator[str]:
    """Keys that are below no ruleset's prefix, one of them nearly below `prefix`."""
    known = tuple(ruleset.names.prefix for ruleset in snapshot.rulesets)
    for key in (f"{prefix.removesuffix('/')}-refinerctl-verify", "refinerctl-verify", f"refinerctl-verify/{prefix}x"):
        if not key.startswith(known):
            yield key
