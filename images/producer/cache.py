"""Claims and notes in Redis. Nothing in it is the only copy: without Redis inputs are published again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rnr_common.addresses import server_address
from rnr_common.log import Logger
from rnr_common.secret import Secret

CLAIM_S = 15 * 60  # of a claim without a confirm: a run that is killed in between delays its inputs by no more
TIMEOUT_S = 3


class Cache:
    """Redis for one run. After its first failure it is not asked again: `available` is false and answers are None."""

    def __init__(self, url: str, secret: Secret | None, log: Logger) -> None:
        self.available = True
        self._url = url
        self._secret = secret
        self._log = log
        self._client: redis.Redis | None = None

    def execute(self, commands: Sequence[tuple[Any, ...]]) -> list[Any] | None:
        """Run commands in one round trip, and return their replies; None if Redis is not available."""
        if not self.available or not commands:
            return [] if self.available else None
        try:
            try:
                return self._execute(commands)
            except redis.AuthenticationError:  # the token may have been rotated
                self.close()
                if self._secret is None:
                    raise
                self._secret.forget()
                return self._execute(commands)
        except (redis.RedisError, OSError) as error:
            self.available = False
            text = str(error) or type(error).__name__
            self._log.warn("cache unavailable", url=self._url, error={"name": type(error).__name__, "message": text})
            return None

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _execute(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        self._client = self._client or self._connect()
        pipeline: Any = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute())

    def _connect(self) -> redis.Redis:
        parts = server_address("RNR_CACHE_URL", self._url, "rediss", "redis")
        # No second attempt: it would find the claims of the first one, and take their inputs for duplicates.
        return redis.Redis(
            host=str(parts.hostname),
            port=parts.port or 6379,
            password=self._secret["token"] if self._secret else None,
            ssl=parts.scheme == "rediss",
            ssl_check_hostname=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )


class Claims:
    """Which inputs are published, or just being published by some run."""

    def __init__(self, cache: Cache, name: str, hours: int) -> None:
        self._cache = cache
        self._name = name
        self._hours = hours

    def take(self, ids: Sequence[str]) -> set[str]:
        """Claim inputs, and return those that no other run has claimed; all of them if Redis is not available."""
        replies = self._cache.execute([("SET", self._key(id_), "claimed", "NX", "EX", CLAIM_S) for id_ in ids])
        return set(ids) if replies is None else {id_ for id_, taken in zip(ids, replies, strict=True) if taken}

    def confirm(self, ids: Iterable[str]) -> None:
        """Keep the claims of published inputs."""
        self._cache.execute([("SET", self._key(id_), "published", "EX", self._hours * 3600) for id_ in ids])

    def release(self, ids: Iterable[str]) -> None:
        """Give claims back: the next run publishes these inputs."""
        self._cache.execute([("DEL", self._key(id_)) for id_ in ids])

    def _key(self, id_: str) -> str:
        return f"rnr:claim:{self._name}:{id_}"
