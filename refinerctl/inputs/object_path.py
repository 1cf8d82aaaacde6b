"""The way one input took through the pipeline, hop by hop, from what the stations recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from refinerctl.aws.log_events import LogEvent
from refinerctl.inputs.follow import Upload
from refinerctl.inputs.hop import Hop
from refinerctl.insight import function_lines
from refinerctl.insight.function_lines import from_ms, json_line, moment

if TYPE_CHECKING:
    from refinerctl.aws.logs import LogGroups
    from refinerctl.aws.s3 import S3Bucket


def object_path(bucket: S3Bucket, logs: LogGroups, upload: Upload, queue: str, bus: str) -> list[Hop]:
    """The hops of `upload` as far as they are recorded; `queue` also names the function that reads it.

    S3 and EventBridge record whole seconds; the queue and the function record milliseconds.
    """
    hops = [Hop("S3", f"input s3://{bucket.name}/{upload.key}", upload.uploaded_at)]
    group = f"/aws/lambda/{queue}"
    records = list(_records_about(logs.events(group, upload.uploaded_at - timedelta(minutes=1)), upload))
    for record in records:
        hops.extend(_hops_of(record, queue, bus))
    return hops


def _records_about(events: Iterable[LogEvent], upload: Upload) -> Iterator[dict[str, Any]]:
    """The image's JSON lines about this input: those of the messages that named its key and version."""
    message_ids: set[str] = set()
    for event in events:
        record = json_line(event.message)
        if record is None:
            continue
        if record.get("message") == function_lines.RECEIVED and _names(record, upload):
            message_ids.add(str(record.get("messageId")))
        if str(record.get("messageId")) in message_ids:
            yield record


def _names(record: dict[str, Any], upload: Upload) -> bool:
    same_version = upload.version_id is None or record.get("versionId") in (None, upload.version_id)
    return record.get("key") == upload.key and same_version


def _hops_of(record: dict[str, Any], queue: str, bus: str) -> Iterator[Hop]:
    at = moment(record.get("timestamp"))
    match record.get("message"):
        case function_lines.RECEIVED:
            yield Hop("EventBridge", f"default bus → {bus} → rule {queue}", moment(record.get("eventTime")))
            yield Hop("SQS", queue, from_ms(record.get("sentTimestamp")))
            yield Hop("Lambda", f"{queue}, request {record.get('requestId')}", at)
        case function_lines.OUTPUT:
            yield Hop("S3", f"output {record.get('outputKey')} ({record.get('bytes')} bytes)", at)
        case function_lines.COMPLETION:
            yield Hop("S3", f"completion {record.get('completionKey')}", at)
