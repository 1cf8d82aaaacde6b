"""Credentials before and after the confirmation of an apply, which may take an hour."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from refinerctl.app import AppContext
from refinerctl.aws.credential_process import VARIABLE
from refinerctl.config import GlobalFlags
from refinerctl.errors import AccessDeniedError, RefusedError
from refinerctl.local.emulator import Emulator
from refinerctl.releases.deploy import ready_to_apply
from tests.needs import needs_terraform

ROLE = "arn:aws:iam::000000000000:role/deployer"
LEAST_SECONDS = 15 * 60.0


@pytest.fixture
def app(tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> AppContext:
    """An environment in an account, with the caller's own keys."""
    needs_terraform()
    (tmp_path / "refinerctl.toml").write_text('[environments.far]\nregion = "us-east-1"\n')
    module = tmp_path / "terraform" / "stacks" / "registry"
    module.mkdir(parents=True)
    (module / "main.tf").write_text('terraform {\n  backend "s3" {\n    bucket = "b"\n    key = "k"\n  }\n}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "111111111111")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-caller")
    return AppContext(GlobalFlags(env="far", stack="registry", endpoint_url=emulator.endpoint_url))


def expire_in(monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", at.isoformat())


def test_terraform_is_told_the_account_of_the_environment(app: AppContext, tmp_path: Path) -> None:
    name = "TF_VAR_allowed_account_ids"
    assert name not in app.root_module(0).terraform.environment
    config = tmp_path / "refinerctl.toml"
    config.write_text(config.read_text() + 'account = "111111111111"\n')
    bound = app.in_environment("far", "refiner").in_environment("far", "registry")
    assert bound.root_module(0).terraform.environment[name] == '["111111111111"]'


def test_role_is_assumed_again_after_the_confirmation(app: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFINERCTL_ASSUME_ROLE", ROLE)
    stack = app.root_module(0)
    asked: list[str] = []
    fresh = ready_to_apply(app, stack, LEAST_SECONDS, lambda: asked.append("once"))
    assert asked == ["once"]
    first, second = (json.loads(one.terraform.environment[VARIABLE])["seed"]["AccessKeyId"] for one in (stack, fresh))
    assert "111111111111" not in (first, second)
    assert first != second


def test_credentials_that_expire_during_the_confirmation_are_refused(
    app: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    expire_in(monkeypatch, 16)
    with pytest.raises(RefusedError, match="expire in 9 min"):
        ready_to_apply(app, app.root_module(0), LEAST_SECONDS, lambda: expire_in(monkeypatch, 10))


def test_short_lived_credentials_are_refused_before_the_confirmation(
    app: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    expire_in(monkeypatch, 10)
    with pytest.raises(RefusedError, match="expire in 9 min; an apply needs 15 min") as caught:
        ready_to_apply(app, app.root_module(0), LEAST_SECONDS, lambda: asked.append("once"))
    assert "--min-credential-lifetime" in str(caught.value.hint)
    assert asked == []


def test_expired_credentials_are_not_passed_to_terraform(app: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    expire_in(monkeypatch, -3)
    with pytest.raises(AccessDeniedError, match="the AWS credentials have expired"):
        app.root_module(0)
