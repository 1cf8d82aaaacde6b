"""The ruleset of the shared environment whose inputs fail, and events that are given to it by hand."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.project import Project

BUCKET = "data-repository"
SOURCE = "dibbs-ecr-PoisonInput"
DLQ = f"{SOURCE}-dlq"
DELIVERY_DLQ = f"{SOURCE}-delivery-dlq"


def url_of(running: Project, queue: str) -> Any:
    return running.client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]


def event(key: str) -> str:
    return json.dumps(
        {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": BUCKET}, "object": {"key": key, "size": 1}},
        }
    )
