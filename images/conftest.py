"""Fixtures of the images' tests."""

import tests.conftest  # noqa: F401 - hypothesis' profile
from tests.brokers import rabbitmq, redis  # noqa: F401 - fixtures
