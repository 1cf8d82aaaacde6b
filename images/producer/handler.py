"""The Lambda function: one run for each invocation."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import boto3
from botocore.config import Config

from producer.run import Clients, Counts, run
from producer.settings import Settings
from rnr_common.broker import Broker
from rnr_common.log import Logger, describe_error
from rnr_common.secret import Secret


class Producer:
    """The function with what it keeps while it is warm: settings, secrets, the client of S3."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __call__(self, _event: object, context: Any) -> dict[str, Any]:
        """Return the numbers of a run. The event is ignored: a run does what there is to do."""
        log = Logger(requestId=context.aws_request_id)
        started, counts = time.monotonic(), Counts()

        def result() -> dict[str, Any]:
            return {**asdict(counts), "durationMs": round((time.monotonic() - started) * 1000)}

        try:
            settings, clients = self._warm
            run(settings, clients, counts, log, lambda: context.get_remaining_time_in_millis() / 1000)
        except Exception as error:
            log.error("run failed", **result(), error=describe_error(error))
            raise
        log.info("run done", **(numbers := result()))
        return numbers

    @functools.cached_property
    def _warm(self) -> tuple[Settings, Clients]:
        settings = Settings.of(self._environ)
        retries = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4})
        secret = Secret(settings.cache_secret) if settings.cache_secret else None
        return settings, Clients(boto3.client("s3", config=retries), Broker(self._environ), secret)


handler = Producer(os.environ)
