"""What people call a queue: its name, its URL or its ARN."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from refinerctl.errors import UsageError

_NAME = re.compile(r"[\w-]{1,80}|[\w-]{1,75}\.fifo", re.ASCII)
# https://docs.aws.amazon.com/general/latest/gr/sqs-service.html: today's endpoints, private ones, and those of old.
_HOST = re.compile(
    r"(?:.+\.)?sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?"
    r"|(?P<old>[a-z]+-[a-z0-9-]+)\.queue\.amazonaws\.com(?:\.cn)?"
)
_ARN_PARTS = 6


@dataclass(frozen=True)
class QueueName:
    """A queue's name; the account and region that it is in, None for one's own."""

    name: str
    account: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, text: str) -> QueueName:
        """From a name, a URL or an ARN. Raises UsageError for anything else."""
        if text.startswith("arn:"):
            parts = text.split(":")
            if len(parts) != _ARN_PARTS or parts[2] != "sqs":
                raise UsageError(f"{text} is not the ARN of a queue")
            found = cls(parts[5], parts[4], parts[3])
        elif "://" in text:
            url = urlsplit(text)
            host = _HOST.fullmatch(url.hostname or "")
            account, _, name = url.path.removesuffix("/").rpartition("/")
            found = cls(name, account.rpartition("/")[2] or None, (host["region"] or host["old"]) if host else None)
        else:
            found = cls(text)
        if not _NAME.fullmatch(found.name):
            raise UsageError(
                f"{text!r} names no queue",
                hint="Letters, digits, - and _ make a queue's name; its URL or ARN will do, too.",
            )
        return found
