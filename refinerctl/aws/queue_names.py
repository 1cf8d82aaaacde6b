"""The name, account and region of a queue, read from its name, URL or ARN."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from refinerctl.errors import UsageError

_NAME = re.compile(r"[\w-]{1,80}|[\w-]{1,75}\.fifo", re.ASCII)
# https://docs.aws.amazon.com/general/latest/gr/sqs-service.html: current, private and legacy endpoints.
_HOST = re.compile(
    r"(?:.+\.)?sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?"
    r"|(?P<old>[a-z]+-[a-z0-9-]+)\.queue\.amazonaws\.com(?:\.cn)?"
)
_ARN_PARTS = 6


@dataclass(frozen=True)
class QueueName:
    """A queue's name, account and region; None means those of the credentials."""

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
                f"{text!r} is not the name, URL or ARN of a queue",
                hint="A queue name has letters, digits, - and _.",
            )
        return found
