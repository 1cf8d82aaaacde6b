"""Time that goes on while the machine sleeps: what SQS hides does not wait for a closed laptop."""

from __future__ import annotations

import time

# Linux stops the monotonic clock in suspend; other systems have no clock of this name.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds since some moment; nobody can set this clock."""
    return time.clock_gettime(_CLOCK)
