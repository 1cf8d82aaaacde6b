"""The input objects in S3."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from rnr_common.message import WorkMessage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class InputError(Exception):
    """Inputs cannot be listed."""


def new_inputs(client: S3Client, bucket: str, prefix: str, since: datetime) -> Iterator[WorkMessage]:
    """Yield the objects below the prefix that were written after `since`, one page of the listing in memory.

    S3 lists by key only, so each run lists the whole prefix. Folders of S3's console (empty, `/` at the end) are
    no inputs.
    """
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    try:
        for page in pages:
            for item in page.get("Contents", []):
                is_folder = item["Key"].endswith("/") and item["Size"] == 0
                if item["LastModified"] >= since and not is_folder:
                    yield WorkMessage(bucket, item["Key"], None, item["ETag"].strip('"'), item["Size"])
    except (ClientError, BotoCoreError) as error:
        raise InputError(f"cannot list s3://{bucket}/{prefix}: {error}") from error
