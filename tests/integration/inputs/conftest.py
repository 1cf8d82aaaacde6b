"""Fixtures of inputs whose queue is on a broker."""

from tests.integration.rnr.conftest import account, run  # noqa: F401 - fixtures
