"""A project with stack rnr, and the account that it is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refinerctl.local.emulator import Emulator
from tests.command import Command
from tests.integration.rnr.account import Account, environment, served


@pytest.fixture
def account(emulator: Emulator, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    (tmp_path / "refinerctl.toml").write_text(
        'environment = "account"\n[environments.account]\nregion = "us-east-1"\n'
        f'[stacks.rnr]\nname_prefix = "{unique}"\nbucket = "{unique}-in"\noutput_bucket = "{unique}-out"\n'
    )
    monkeypatch.chdir(tmp_path)
    with served(Account(emulator.endpoint_url, unique)) as account:
        for name, value in environment(account).items():
            monkeypatch.setenv(name, value)
        yield account


@pytest.fixture
def run(account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)
