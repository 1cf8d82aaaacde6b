"""Which client and which login a registry gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from moto import mock_aws

from refinerctl.app import AppContext
from refinerctl.config import GlobalFlags
from refinerctl.errors import UsageError
from refinerctl.images import ImageReference
from refinerctl.transport import Login

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppContext:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return AppContext(GlobalFlags(endpoint_url="http://127.0.0.1:4566"))


def test_one_client_per_host(local: AppContext) -> None:
    registries = local.registries

    assert registries.client("ghcr.io") is registries.client("ghcr.io")
    assert registries.client("ghcr.io") is not registries.client("docker.io")


def test_ecr_hosts(local: AppContext) -> None:
    def host(text: str) -> str | None:
        return local.registries.ecr_host(ImageReference.parse(text))

    assert host("some/name:v1") == "127.0.0.1:4566"
    assert host(f"{ECR}/some/name") == ECR
    assert host("127.0.0.1:4566/name") == "127.0.0.1:4566"
    assert host("ghcr.io/name") is None
    assert host("127.0.0.1:5000/name") is None


def test_no_emulator_credentials_for_an_account(local: AppContext) -> None:
    assert local.registries.login(ECR) is None
    with pytest.raises(UsageError, match="not the ECR registry of the account in use"):
        local.registries.create_repository(ECR, "name")


def test_stored_login_is_read_once_per_host(local: AppContext, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"auths": {"ghcr.io": {"username": "me", "password": "secret"}}}')
    login = local.registries.login("ghcr.io")
    config.unlink()

    assert login == local.registries.login("ghcr.io") == Login("me", "secret")


def test_repository_is_created_by_another_name_of_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "refinerctl.toml").write_text('[environments.account]\nregion = "us-east-1"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        app = AppContext(GlobalFlags(env="account"))
        app.registries.create_repository("123456789012.dkr-ecr.us-east-1.on.aws", "name")
        assert list(app.ecr.images("name")) == []
        with pytest.raises(UsageError, match="not the ECR registry of the account in use"):
            app.registries.create_repository("210987654321.dkr-ecr.us-east-1.on.aws", "name")
