"""Settings of the producer, from the environment of the function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from rnr_common.addresses import server_address

REQUIRED = ("RNR_NAME", "RNR_BROKER_URL", "RNR_BROKER_SECRET", "RNR_QUEUE", "RNR_CACHE_URL", "RNR_INPUT_BUCKET")


@dataclass(frozen=True)
class Settings:
    """Where inputs are, and how long they and their claims count."""

    name: str
    bucket: str
    prefix: str
    feed_url: str | None
    lookback: timedelta
    claim_hours: int
    cache_url: str
    cache_secret: str | None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Settings:
        """Return the settings; raises `ValueError` with the name of the variable that is wrong or missing."""
        missing = [name for name in REQUIRED if not environ.get(name)]
        if missing:
            raise ValueError(f"environment variables are not set: {', '.join(missing)}")
        lookback, claim = _hours(environ, "RNR_LOOKBACK_HOURS", 24), _hours(environ, "RNR_CLAIM_HOURS", 48)
        if claim <= lookback:
            raise ValueError("RNR_CLAIM_HOURS must be greater than RNR_LOOKBACK_HOURS, or inputs are published again")
        server_address("RNR_CACHE_URL", environ["RNR_CACHE_URL"], "rediss", "redis")
        if feed_url := environ.get("RNR_FEED_URL") or None:
            server_address("RNR_FEED_URL", feed_url, "https", "http")
        return cls(
            name=environ["RNR_NAME"],
            bucket=environ["RNR_INPUT_BUCKET"],
            prefix=environ.get("RNR_INPUT_PREFIX", "rnr/input/").strip("/") + "/",
            feed_url=feed_url,
            lookback=timedelta(hours=lookback),
            claim_hours=claim,
            cache_url=environ["RNR_CACHE_URL"],
            cache_secret=environ.get("RNR_CACHE_SECRET") or None,
        )


def _hours(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 24 * 365:
        raise ValueError(f"{name}: {text!r} is not a number of hours from 1 to 8760")
    return int(text)
