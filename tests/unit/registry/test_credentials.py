"""Which login goes to which registry."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.registry.credentials import DOCKER_HUB_KEY, CredentialChain, Login, docker_login
from tests.home import without_home

HOST = "registry.example"


def docker_config(folder: Path, **content: Any) -> dict[str, str]:
    (folder / "config.json").write_text(json.dumps(content))
    return {"DOCKER_CONFIG": str(folder)}


def basic(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("home")
def test_ghcr_from_github_token() -> None:
    environ = {"GITHUB_TOKEN": "secret", "GITHUB_ACTOR": "octocat"}

    assert CredentialChain(environ).login("ghcr.io") == Login("octocat", "secret")
    assert CredentialChain({"GITHUB_TOKEN": "secret"}).login("ghcr.io") == Login("refinerctl", "secret")
    assert CredentialChain(environ).login(HOST) is None
    assert CredentialChain({}).login("ghcr.io") is None


def test_github_token_goes_before_docker(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, auths={"ghcr.io": basic("me:from-docker")})

    assert CredentialChain(environ).login("ghcr.io") == Login("me", "from-docker")
    assert CredentialChain({**environ, "GITHUB_TOKEN": "t"}).login("ghcr.io") == Login("refinerctl", "t")


def test_docker_configuration_in_the_home_folder(home: Path) -> None:
    (home / ".docker").mkdir()
    docker_config(home / ".docker", auths={HOST: basic("me:secret")})

    assert docker_login({}, HOST) == Login("me", "secret")


@pytest.mark.parametrize("name", [HOST, f"https://{HOST}", f"https://{HOST}/", f"https://{HOST}/v2/"])
def test_all_ways_to_write_a_host(tmp_path: Path, name: str) -> None:
    environ = docker_config(tmp_path, auths={name: basic("me:with:colons")})

    assert docker_login(environ, HOST) == Login("me", "with:colons")
    assert docker_login(environ, f"other.{HOST}") is None


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub(tmp_path: Path, host: str) -> None:
    environ = docker_config(tmp_path, auths={DOCKER_HUB_KEY: basic("me:secret")})

    assert docker_login(environ, host) == Login("me", "secret")


def test_an_identity_token(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, auths={HOST: {**basic("me:"), "identitytoken": "refresh"}})

    assert docker_login(environ, HOST) == Login("me", identity_token="refresh")


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": 1}'])
def test_a_broken_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(RefinerctlError, match=r"config\.json cannot be read"):
        docker_login({"DOCKER_CONFIG": str(tmp_path)}, HOST)


def test_a_broken_auth_is_not_repeated(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, auths={HOST: {"auth": "s3cret!"}})

    with pytest.raises(RefinerctlError) as broken:
        docker_login(environ, HOST)

    assert "s3cret" not in str(broken.value)


def test_a_store_that_is_not_installed_is_no_obstacle(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, credsStore="of-another-machine", auths={HOST: basic("me:secret")})

    assert docker_login(environ, HOST) == Login("me", "secret")


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_a_helper_of_one_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, """cat >/dev/null; echo '{"Username": "<token>", "Secret": "refresh"}'""")
    environ = docker_config(tmp_path, credHelpers={HOST: "test"})

    assert docker_login(environ, HOST) == Login("", identity_token="refresh")
    assert docker_login(environ, "other.example") is None


def test_a_store_that_does_not_know_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    environ = docker_config(tmp_path, credsStore="test", auths={HOST: basic("me:secret")})

    assert docker_login(environ, HOST) == Login("me", "secret")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo the-secret >&2; exit 3", "failed with exit code 3"),
        ("echo the-secret", "cannot be read"),
        ('echo \'{"Username": "the-secret"}\'', "cannot be read"),
    ],
)
def test_a_helper_that_fails_keeps_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    helper(tmp_path, monkeypatch, script)

    with pytest.raises(RefinerctlError, match=words) as failed:
        docker_login(docker_config(tmp_path, credHelpers={HOST: "test"}), HOST)

    assert "the-secret" not in str(failed.value)


def test_a_helper_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(RefinerctlError, match=r"docker-credential-missing for .* cannot be run"):
        docker_login(docker_config(tmp_path, credHelpers={HOST: "missing"}), HOST)


def test_a_helper_whose_answer_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, r"printf '\377'")

    with pytest.raises(RefinerctlError, match="cannot be read"):
        docker_login(docker_config(tmp_path, credHelpers={HOST: "test"}), HOST)


def test_a_login_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RefinerctlError, match="no object") as failed:
        docker_login(docker_config(tmp_path, auths={HOST: "the-secret"}), HOST)
    assert "the-secret" not in str(failed.value)


@pytest.mark.usefixtures("home")
def test_a_token_without_the_end_of_its_file() -> None:
    assert CredentialChain({"GITHUB_TOKEN": "t\n"}).login("ghcr.io") == Login("refinerctl", "t")


@pytest.mark.usefixtures("home")
def test_a_login_is_kept_until_it_runs_out() -> None:
    asked = []

    def ecr(host: str) -> Login | None:
        asked.append(host)
        left = timedelta(hours=12) if len(asked) > 1 else timedelta(minutes=1)
        return Login("AWS", f"password-{len(asked)}", datetime.now(UTC) + left) if host == HOST else None

    chain = CredentialChain({}, ecr)
    logins = [chain.login(HOST) for _ in range(4)]

    assert [login.password for login in logins if login] == ["password-1", *["password-2"] * 3]
    assert chain.login("other.example") is None
    assert "password" not in repr(logins[0]).replace("password=", "")


def test_without_a_home_folder_nobody_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    without_home(monkeypatch)

    assert docker_login({}, HOST) is None
