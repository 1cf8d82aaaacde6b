"""CloudWatch Logs: reading a group's lines, and writing them where there is no Lambda to do it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from refinerctl.clients.aws.session import AwsSession, error_code, explain
from refinerctl.models import LogEvent


class LogGroups:
    """The log groups of one account and region."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def events(self, group: str, since: datetime, pattern: str | None = None) -> Iterator[LogEvent]:
        """Lines of `group` from `since` on, in time order; `pattern` is a CloudWatch filter pattern.

        A group that does not exist has no lines.
        """
        pages = self._session.client("logs").get_paginator("filter_log_events")
        given: Any = {"filterPattern": pattern} if pattern else {}
        try:
            for page in pages.paginate(logGroupName=group, startTime=int(since.timestamp() * 1000), **given):
                for event in page["events"]:
                    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
                    yield LogEvent(moment, group, event["logStreamName"], event["message"])
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                return
            raise explain(error, f"log group {group}") or error from error

    def create_stream(self, group: str, stream: str) -> None:
        """Make the stream, and the group where Terraform has not; both may be there already."""
        client = self._session.client("logs")
        with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
            client.create_log_group(logGroupName=group)
        with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
            client.create_log_stream(logGroupName=group, logStreamName=stream)

    def put(self, group: str, stream: str, lines: Sequence[tuple[datetime, str]]) -> None:
        """Append lines, in time order, to a stream that exists."""
        self._session.client("logs").put_log_events(
            logGroupName=group,
            logStreamName=stream,
            logEvents=[{"timestamp": int(at.timestamp() * 1000), "message": line} for at, line in lines],
        )
