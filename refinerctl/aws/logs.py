"""CloudWatch Logs: the settings and lines of a group; writing lines on behalf of local functions."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from refinerctl.aws.errors import about, error_code, explain
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError

# Pauses after the SDK's own retries: FilterLogEvents is limited to a few calls per second in an account.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html
THROTTLED_PAUSES_S = (1, 2, 4, 8, 16, 30, 30, 30)
_THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException", "LimitExceededException"}
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
PAGE_EVENTS = 10_000


@dataclass(frozen=True)
class LogEvent:
    """One line of a log group. `timestamp` in UTC; `event_id` differs between all events of the account."""

    timestamp: datetime
    group: str
    stream: str
    message: str
    event_id: str = ""


@dataclass(frozen=True)
class LogGroupSettings:
    """A log group; without `retention_days` its lines never expire."""

    name: str
    retention_days: int | None = None
    kms_key: str | None = None


class LogGroups:
    """The log groups of one account and region. `page_events`: maximum number of events of an answer."""

    def __init__(
        self, session: AwsSession, page_events: int = PAGE_EVENTS, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._session = session
        self._page_events = page_events
        self._sleep = sleep

    def settings(self, group: str) -> LogGroupSettings:
        """Raises NotFoundError without the group."""
        with about(f"log group {group}"):
            pages = self._session.client("logs").get_paginator("describe_log_groups")
            for page in pages.paginate(logGroupNamePrefix=group):
                for item in page["logGroups"]:
                    if item.get("logGroupName") == group:
                        return LogGroupSettings(group, item.get("retentionInDays"), item.get("kmsKeyId") or None)
        raise NotFoundError(f"log group {group} does not exist")

    def events(
        self,
        group: str,
        since: datetime,
        pattern: str | None = None,
        *,
        until: datetime | None = None,
        streams: Sequence[str] = (),
    ) -> Iterator[LogEvent]:
        """Lines of `group` from `since` to `until`, in order of time, each once; one page is in memory at a time.

        `pattern` is a CloudWatch filter pattern. `streams`: only these, at most 100. A group that does not exist has no
        lines.
        """
        request: dict[str, Any] = {"logGroupName": group, "startTime": _ms(since)}
        if until is not None:
            request["endTime"] = _ms(until)
        if pattern:
            request["filterPattern"] = pattern
        if streams:
            request["logStreamNames"] = list(streams)
        last, edge = request["startTime"], set[str]()  # the newest millisecond so far, and its events
        while (page := self._page(request, group, last)) is not None:
            events, token = page.get("events", []), page.get("nextToken")
            fresh = [event for event in events if event.get("eventId", "") not in edge]
            for event in fresh:
                yield _event(group, event)
            if not token and (len(events) < self._page_events or not fresh):
                return
            if events and events[-1]["timestamp"] > last:
                last, edge = events[-1]["timestamp"], set()
            edge |= {event["eventId"] for event in events if event["timestamp"] == last and event.get("eventId")}
            # A full page without a token may not be the end: continue from its last millisecond.
            request |= {"nextToken": token} if token else {"startTime": last}
            if not token:
                request.pop("nextToken", None)

    def _page(self, request: dict[str, Any], group: str, last: int) -> Any:
        """None without the group. Throttled calls are repeated for minutes.

        A token is valid for a day, and a reader may have paused for longer: then it continues from `last`, in ms.
        """
        for pause in (*THROTTLED_PAUSES_S, None):
            try:
                return self._session.client("logs").filter_log_events(**request)
            except Exception as error:
                code = error_code(error)
                if code == "ResourceNotFoundException":
                    return None
                if code == "InvalidParameterException" and request.pop("nextToken", None):
                    request["startTime"] = last
                    continue
                if code not in _THROTTLED or pause is None:
                    raise explain(error, f"log group {group}") or error from error
                self._sleep(pause)
        return None

    def create_stream(self, group: str, stream: str) -> None:
        """Create the stream, and the group unless Terraform has; both may exist."""
        client = self._session.client("logs")
        with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
            client.create_log_group(logGroupName=group)
        with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
            client.create_log_stream(logGroupName=group, logStreamName=stream)

    def put(self, group: str, stream: str, lines: Sequence[tuple[datetime, str]]) -> None:
        """Append lines, in order of time, to a stream that exists."""
        self._session.client("logs").put_log_events(
            logGroupName=group,
            logStreamName=stream,
            logEvents=[{"timestamp": _ms(at), "message": line} for at, line in lines],
        )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _event(group: str, event: Any) -> LogEvent:
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    return LogEvent(moment, group, event["logStreamName"], event["message"], event.get("eventId", ""))
