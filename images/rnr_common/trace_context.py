"""W3C Trace Context: the correlation id that an input has from its claim to its outputs."""

from __future__ import annotations

import re
import secrets

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")


def new_traceparent() -> str:
    """Return the traceparent of a new trace."""
    return f"00-{_random_id(16)}-{_random_id(8)}-01"


def child_traceparent(parent: object) -> str:
    """Return a traceparent with a new span in the trace of `parent`, or in a new trace if `parent` is not valid."""
    match = _FORM.fullmatch(parent) if isinstance(parent, str) else None
    return f"00-{match[1]}-{_random_id(8)}-{match[2]}" if match else new_traceparent()


def _random_id(size: int) -> str:
    return secrets.token_bytes(size - 1).hex() + f"{1 + secrets.randbelow(255):02x}"
