"""A producer with a real broker and Redis; S3 and Secrets Manager are moto's."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from producer.tests.environment import Environment
from refinerctl.local.rabbitmq import RabbitMQServer
from refinerctl.local.redis import RedisServer

_NUMBERS = itertools.count(1)


@pytest.fixture
def environment(
    rabbitmq: RabbitMQServer,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Environment]:
    for name in list(os.environ):
        if name.startswith(("AWS_", "RNR_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        secrets = boto3.client("secretsmanager")
        name = f"producer{next(_NUMBERS)}"
        broker = secrets.create_secret(
            Name="broker", SecretString=json.dumps({"username": rabbitmq.username, "password": rabbitmq.password})
        )
        cache = secrets.create_secret(Name="cache", SecretString=json.dumps({"token": redis.password}))
        boto3.client("s3").create_bucket(Bucket="bucket")
        variables = {
            "RNR_NAME": name,
            "RNR_BROKER_URL": rabbitmq.endpoint,
            "RNR_BROKER_SECRET": broker["ARN"],
            "RNR_QUEUE": f"{name}-work",
            "RNR_CACHE_URL": redis.endpoint,
            "RNR_CACHE_SECRET": cache["ARN"],
            "RNR_INPUT_BUCKET": "bucket",
            "RNR_INPUT_PREFIX": "rnr/input/",
        }
        environment = Environment(variables, rabbitmq, redis, capsys)
        yield environment
        environment.close()
