"""One emulator for all tests that need AWS to answer over a wire."""

from __future__ import annotations

import itertools
import socketserver
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.embedded import Instance
from refinerctl.local.emulator import Emulator, start_emulator
from tests.registries.fixtures import (  # noqa: F401 - fixtures
    basic_registry,
    faulty,
    site,
    source_registry,
    target_registry,
    token_registry,
    tokens,
)

_NUMBERS = itertools.count(1)


@pytest.fixture(autouse=True)
def _quick_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's shutdown waits for its next poll, which is every half second."""
    monkeypatch.setattr(socketserver.BaseServer.serve_forever, "__defaults__", (0.01,))


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    instance = Instance(tmp_path_factory.mktemp("emulator") / "instance")
    instance.prepare()
    emulator = start_emulator(instance, None, "us-east-1")
    yield emulator
    emulator.stop()


@pytest.fixture(scope="session")
def session(emulator: Emulator) -> AwsSession:
    """For all tests: a client takes the SDK a tenth of a second to make."""
    return AwsSession("us-east-1", profile=None, endpoint_url=emulator.endpoint_url, embedded=True)


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"t{next(_NUMBERS)}"


@pytest.fixture
def bucket(session: AwsSession, unique: str) -> S3Bucket:
    """An empty bucket with versioning."""
    bucket = S3Bucket(session, f"bucket-{unique}")
    bucket.create()
    session.client("s3").put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The SDK's pauses between attempts take no time; the list tells how long they would have been."""
    pauses: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=pauses.append))
    return pauses
