"""What every test runs with: nobody's AWS account, nobody's settings."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.brokers import rabbitmq, redis  # noqa: F401 - fixtures
from tests.command import Command
from tests.policy_simulator import simulate  # noqa: F401 - a fixture

settings.register_profile("refinerctl", deadline=None, database=None, max_examples=150, derandomize=True)
settings.register_profile("nightly", deadline=None, database=None, max_examples=2000, print_blob=True)
settings.load_profile("refinerctl")

ROOT = Path(__file__).parents[1]

# A runner may have started us with signals ignored, as `nohup` and `&` do; what tests start would inherit that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


# Take long to start: the files that use one run in one process, and begin first.
SHARED = ("running", "rabbitmq", "rnr")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests of a file for `--dist loadgroup`, and the files that share a server."""
    fixtures: dict[Path, set[str]] = {}
    for item in items:
        fixtures.setdefault(item.path, set()).update(getattr(item, "fixturenames", ()))
    groups = {path: next((name for name in SHARED if name in used), str(path)) for path, used in fixtures.items()}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))
    items.sort(key=lambda item: groups[item.path] not in SHARED)


@pytest.fixture(autouse=True)
def _nobodys_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variables of the user's shell; boto3 finds neither files nor an instance's role."""
    for name in list(os.environ):
        ours = ("AWS_", "REFINERCTL_", "TF_", "CI_", "GITLAB_")
        if name.startswith(ours) or name in ("CI", "FORCE_COLOR", "NO_COLOR") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def root() -> Path:
    """This repository."""
    return ROOT


@pytest.fixture
def events() -> Path:
    """The folder of payloads as AWS delivers them."""
    return ROOT / "tests" / "events"


@pytest.fixture
def refinerctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process."""
    return Command(monkeypatch, capsys)
