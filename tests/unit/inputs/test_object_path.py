"""The trace of an object from what the function logged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from refinerctl.aws.log_events import LogEvent
from refinerctl.inputs.follow import Upload, UploadStatus
from refinerctl.inputs.object_path import object_path
from tests.unit.fakes import START, FakeBucket, FakeLogGroups


def _record(at: datetime, **fields: Any) -> LogEvent:
    return LogEvent(at, "/aws/lambda/q", "s", json.dumps({"timestamp": at.isoformat(), **fields}))


class TestObjectPath:
    UPLOAD = Upload("RefinerInput/x", 5, "v2", UploadStatus.COMPLETED, START)

    def hops(self, *events: LogEvent, upload: Upload = UPLOAD) -> list[tuple[str, str]]:
        logs = FakeLogGroups()
        logs.written = list(events)
        return [(hop.station, hop.detail) for hop in object_path(FakeBucket(), logs, upload, "q", "bus")]

    def received(self, message_id: str, version: str | None, key: str = "RefinerInput/x") -> LogEvent:
        return _record(
            START + timedelta(seconds=2),
            message="record received",
            messageId=message_id,
            key=key,
            versionId=version,
            eventTime="2026-03-01T14:00:01Z",
            sentTimestamp=1772373601500,
            requestId="req",
        )

    def test_without_records_only_the_upload_is_known(self) -> None:
        ((station, detail),) = self.hops()
        assert station == "S3"
        assert "s3://data-repository/RefinerInput/x" in detail

    def test_every_station_that_recorded_it(self) -> None:
        hops = self.hops(
            self.received("m1", "v2"),
            _record(START, message="output written", messageId="m1", outputKey="RefinerOutput/1", bytes=5),
            _record(START, message="completion written", messageId="m1", completionKey="RefinerComplete/x.json"),
        )
        assert [station for station, _ in hops] == ["S3", "EventBridge", "SQS", "Lambda", "S3", "S3"]
        assert "RefinerOutput/1 (5 bytes)" in hops[4][1]

    def test_other_versions_other_keys_and_other_text_are_not_its_way(self) -> None:
        hops = self.hops(
            self.received("m1", "v1"),
            self.received("m2", "v2", key="RefinerInput/y"),
            _record(START, message="output written", messageId="m1", outputKey="no"),
            LogEvent(START, "/aws/lambda/q", "s", "START RequestId"),
            LogEvent(START, "/aws/lambda/q", "s", "[]"),
        )
        assert len(hops) == 1

    def test_a_time_that_cannot_be_read_is_none(self) -> None:
        logs = FakeLogGroups()
        logs.written = [
            LogEvent(
                START,
                "/aws/lambda/q",
                "s",
                '{"message": "record received", "key": "RefinerInput/x", "versionId": "v2", "timestamp": 1}',
            )
        ]
        hops = object_path(FakeBucket(), logs, self.UPLOAD, "q", "bus")
        assert [hop.at for hop in hops] == [START, None, None, None]
        assert hops[0].at == datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
