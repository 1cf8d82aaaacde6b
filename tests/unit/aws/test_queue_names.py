"""Queue names from names, URLs and ARNs."""

from __future__ import annotations

import pytest

from refinerctl.aws.messages import QueueName
from refinerctl.errors import UsageError

OTHER = QueueName("q-dlq", "123456789012", "eu-west-1")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("q-dlq", QueueName("q-dlq")),
        ("q.fifo", QueueName("q.fifo")),
        ("arn:aws:sqs:eu-west-1:123456789012:q-dlq", OTHER),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/q-dlq", OTHER),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/q-dlq/", OTHER),
        ("https://sqs-fips.eu-west-1.amazonaws.com/123456789012/q-dlq", OTHER),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/q-dlq", OTHER),
        ("https://vpce-0a.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q-dlq", OTHER),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", QueueName("q", "1", "cn-north-1")),
        ("http://127.0.0.1:4566/000000000000/q-dlq", QueueName("q-dlq", "000000000000")),
        ("http://localhost:4566/queue/us-east-1/000000000000/q", QueueName("q", "000000000000")),
    ],
)
def test_name_url_or_arn(text: str, found: QueueName) -> None:
    assert QueueName.parse(text) == found


@pytest.mark.parametrize(
    "text", ["", "a b", "q.txt", "arn:aws:sns:eu-west-1:123456789012:t", "arn:aws:sqs:q", "https://sqs/", "s3://a/b.c"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        QueueName.parse(text)
