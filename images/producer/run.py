"""One run: store the feed's new products, claim new inputs, publish a message for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from producer.cache import Cache, Claims
from producer.feed import Feed, FeedResult
from producer.http_source import FeedError
from producer.inputs import new_inputs
from producer.publisher import BrokerError, Publisher
from producer.settings import Settings
from rnr_common.broker import Broker
from rnr_common.log import Logger, describe_error
from rnr_common.message import WorkMessage
from rnr_common.secret import Secret
from rnr_common.trace_context import new_traceparent

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BATCH = 1000  # messages whose confirms are awaited together: more of them are not faster
OPEN_S = 30
CONFIRM_S = 60
# With less time than this left nothing is claimed any more; the rest of it is for the batch in hand.
RESERVE_S = 20
END_S = 5


@dataclass
class Counts:
    """What a run did. `left`: inputs that it saw and did not look at any more because its time was over."""

    found: int = 0
    claimed: int = 0
    published: int = 0
    duplicates: int = 0
    left: int = 0
    deduplicated: bool = True
    feed: FeedResult | None = None


@dataclass(frozen=True)
class Clients:
    """What is kept between the runs of a warm function."""

    s3: S3Client
    broker: Broker
    cache_secret: Secret | None


def run(settings: Settings, clients: Clients, counts: Counts, log: Logger, time_left: Callable[[], float]) -> None:
    """Do one run and count in `counts`; raises what stopped it. A feed that fails does not keep back other inputs."""
    cache = Cache(settings.cache_url, clients.cache_secret, log)
    feed_error = None
    since = datetime.now(UTC) - settings.lookback
    try:
        if settings.feed_url:
            feed = Feed(settings, clients.s3, cache, log, time_left)
            counts.feed = feed.result
            try:
                feed.store_new(since)
            except FeedError as error:
                feed_error = error
                log.error("feed failed", url=settings.feed_url, error=describe_error(error))
        inputs = new_inputs(clients.s3, settings.bucket, settings.prefix, since)
        _publish_all(inputs, clients.broker, Claims(cache, settings.name, settings.claim_hours), counts, log, time_left)
    finally:
        counts.deduplicated = cache.available
        cache.close()
    if feed_error is not None:
        raise feed_error


def _publish_all(
    inputs: Iterator[WorkMessage],
    broker: Broker,
    claims: Claims,
    counts: Counts,
    log: Logger,
    time_left: Callable[[], float],
) -> None:
    publisher = Publisher(broker)
    try:
        publisher.open(max(1.0, min(OPEN_S, time_left() - RESERVE_S)))
        while batch := list(islice(inputs, BATCH)):
            counts.found += len(batch)
            if time_left() < RESERVE_S:
                counts.left = len(batch) + _count(inputs, time_left)
                counts.found += counts.left - len(batch)
                log.warn("run stopped: little time left", left=counts.left)
                return
            _publish_batch(batch, publisher, claims, counts, log, time_left)
    finally:
        publisher.close()


def _publish_batch(
    batch: list[WorkMessage],
    publisher: Publisher,
    claims: Claims,
    counts: Counts,
    log: Logger,
    time_left: Callable[[], float],
) -> None:
    by_id = {message.claim_id: message for message in batch}
    taken = claims.take(list(by_id))
    messages = {id_: (message, new_traceparent()) for id_, message in by_id.items() if id_ in taken}
    counts.claimed += len(messages)
    counts.duplicates += len(batch) - len(messages)
    for id_ in by_id.keys() - taken:
        log.debug("record skipped", key=by_id[id_].key, messageId=id_, reason="claimed or published before")
    for id_, (message, traceparent) in messages.items():
        log.info("record claimed", key=message.key, messageId=id_, traceparent=traceparent)
    failures = dict.fromkeys(messages, "not published")
    try:
        failures = publisher.publish(list(messages.values()), max(1.0, min(CONFIRM_S, time_left() - END_S)))
    finally:
        claims.release(failures)
        claims.confirm(id_ for id_ in messages if id_ not in failures)
    counts.published += len(messages) - len(failures)
    for id_, (message, traceparent) in messages.items():
        fields = {"key": message.key, "messageId": id_, "traceparent": traceparent}
        if id_ in failures:
            log.error("publish failed", **fields, reason=failures[id_])
        else:
            log.info("record published", **fields)
    if failures:
        reason = next(iter(failures.values()))
        raise BrokerError(f"{len(failures)} of {len(messages)} messages are not published: {reason}")


def _count(items: Iterable[object], time_left: Callable[[], float]) -> int:
    count = 0
    for _ in items:
        count += 1
        if time_left() < END_S:
            break
    return count
