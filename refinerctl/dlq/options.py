"""The filter options of inspect, export, redrive and purge."""

from __future__ import annotations

from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

import click

from refinerctl.errors import UsageError
from refinerctl.options import Decorated, Moment

if TYPE_CHECKING:
    from refinerctl.dlq.filters import MessageFilter


def filter_options(command: Decorated) -> Decorated:
    """Add the options to a command, which gets them as one parameter `message_filter`."""

    @wraps(command)
    def with_filter(*arguments: Any, **given: Any) -> Any:
        chosen = {name: given.pop(name) for name in ("filter_text", "since", "until", "key_prefix")}
        return command(*arguments, message_filter=_filter(**chosen), **given)

    options = [
        click.option(
            "--filter",
            "filter_text",
            metavar="JMESPATH",
            help="Only messages for which this expression is true. Fields: body, attributes, system, error, key, sent, "
            "id, receive_count.",
        ),
        click.option(
            "--since", type=Moment(), metavar="TIME", help="Only messages sent since this time; 2h means two hours ago."
        ),
        click.option("--until", type=Moment(), metavar="TIME", help="Only messages sent before this time."),
        click.option("--key-prefix", metavar="PREFIX", help="Only messages about S3 objects with this key prefix."),
    ]
    decorated: Any = with_filter
    for option in reversed(options):
        decorated = option(decorated)
    return cast("Decorated", decorated)


def _filter(
    filter_text: str | None, since: datetime | None, until: datetime | None, key_prefix: str | None
) -> MessageFilter:
    """Raises UsageError for an invalid expression, and if `until` is not after `since`."""
    from refinerctl.dlq.filters import Expression, MessageFilter

    if since is not None and until is not None and since >= until:
        raise UsageError(f"--until {until:%Y-%m-%dT%H:%M:%SZ} is not after --since {since:%Y-%m-%dT%H:%M:%SZ}")
    return MessageFilter(
        since,
        until,
        key_prefix.removeprefix("/") if key_prefix is not None else None,
        None if filter_text is None else Expression.parse(filter_text),
    )
