"""Lambda function: merges outputs that are new since its last run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from postprocess.run import PostProcess, Settings
from postprocess.tables import parse_columns
from rnr_common.log import Logger, describe_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Return the numbers of the run."""
    log = Logger(requestId=context.aws_request_id)
    began = time.monotonic()
    try:
        remaining = lambda: context.get_remaining_time_in_millis() / 1000  # noqa: E731
        result = PostProcess(_client(), settings_of(os.environ), log, remaining).run()
    except Exception as error:
        log.error("run failed", error=describe_error(error))
        raise
    log.info("run done", **result, durationMs=round((time.monotonic() - began) * 1000))
    return result


@cache
def _client() -> S3Client:
    retries: Any = {"mode": "standard", "total_max_attempts": 5}
    config = Config(connect_timeout=5, read_timeout=30, retries=retries, max_pool_connections=16)
    return boto3.client("s3", config=config)


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Return the settings; raises ValueError if a prefix is missing or wrong."""
    prefixes: dict[str, Any] = {}
    for name in ("output", "complete", "merged"):
        variable = f"RNR_{name.upper()}_PREFIX"
        prefixes[f"{name}_prefix"] = prefix = environ[variable].lstrip("/")
        if not prefix.endswith("/") or prefix == "/":
            raise ValueError(f"{variable} is {prefix!r}; it must end in a slash")
    columns = environ.get("RNR_MERGED_COLUMNS")
    return Settings(
        bucket=environ["RNR_OUTPUT_BUCKET"],
        columns=parse_columns(columns) if columns else None,
        max_completions=int(environ.get("RNR_MAX_COMPLETIONS") or Settings.max_completions),
        **prefixes,
    )
