"""A bucket in memory with a clock of its own, and the completions in it."""

from __future__ import annotations

import pytest

from refinerctl.inputs.completions import Completions
from tests.unit.fakes import Clock, FakeBucket, completions_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket(clock: Clock) -> FakeBucket:
    return FakeBucket(clock)


@pytest.fixture
def completions(bucket: FakeBucket) -> Completions:
    return completions_of(bucket)
