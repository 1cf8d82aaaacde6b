"""What every test runs with: nobody's AWS account, nobody's settings."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.brokers import rabbitmq, redis  # noqa: F401 - fixtures
from tests.command import Command
from tests.policy_simulator import simulate  # noqa: F401 - a fixture

settings.register_profile("refinerctl", deadline=None, database=None, max_examples=100, derandomize=True)
settings.register_profile("nightly", deadline=None, database=None, max_examples=2000, print_blob=True)
settings.load_profile("refinerctl")

ROOT = Path(__file__).parents[1]

# A fifth of Terraform's processor time is garbage collection, unless only its limit on memory starts one.
os.environ.setdefault("GOGC", "off")
os.environ.setdefault("GOMEMLIMIT", "700MiB")

# A runner may have started us with signals ignored, as `nohup` and `&` do; what tests start would inherit that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


# The files that share what takes long to start run in one process, and begin first: the environment of tests/e2e, a
# RabbitMQ, a Docker engine. A file that is missing here works, with a server of its own. The longest file of
# tests/integration begins first, too, or other processes would wait for it at the end.
FIRST = (
    re.compile(r"tests/e2e/test_(dlq|dlq_redrive|documentation|local|pipeline|report|repositories|trace|verify)\.py"),
    re.compile(
        r"tests/e2e/test_rnr_roles\.py|tests/integration/(dlq/rabbitmq/.*|rnr/test_rotate\.py)"
        r"|tests/integration/(local/test_broker_servers|inputs/test_broker)\.py"
        r"|images/(autoscaler/tests/test_management|producer/tests/.*|worker/tests/test_(connection|storage|worker))\.py"
    ),
    re.compile(r"tests/e2e/test_rnr\.py"),
    re.compile(r"tests/e2e/test_(docker_engine|images|sync_docker)\.py"),
    re.compile(r"tests/integration/terraform/test_modules\.py"),
)


def _group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return next((files.pattern for files in FIRST if files.fullmatch(file)), file)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """For pytest-xdist: the tests of a group in one process. Its own groups do not work with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    return GroupScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {files.pattern for files in FIRST}
    items.sort(key=lambda item: _group(item.nodeid) not in first)


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
