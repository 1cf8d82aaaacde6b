"""Fixtures of the images' tests."""

from tests.brokers import rabbitmq, redis  # noqa: F401 - fixtures
