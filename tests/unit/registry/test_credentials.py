"""Which login goes to which registry."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.registry.credentials import DOCKER_HUB_KEY, docker_login, stored_login
from refinerctl.transport import Login
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

    assert stored_login(environ, "ghcr.io") == Login("octocat", "secret")
    assert stored_login({"GITHUB_TOKEN": "secret"}, "ghcr.io") == Login("refinerctl", "secret")
    assert stored_login(environ, HOST) is None
    assert stored_login({}, "ghcr.io") is None


def test_github_token_takes_precedence_over_docker(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, auths={"ghcr.io": basic("me:from-docker")})

    assert stored_login(environ, "ghcr.io") == Login("me", "from-docker")
    assert stored_login({**environ, "GITHUB_TOKEN": "t"}, "ghcr.io") == Login("refinerctl", "t")


def test_docker_configuration_in_the_home_folder(home: Path) -> None:
    (home / ".docker").mkdir()
    docker_config(home / ".docker", auths={HOST: basic("me:secret")})

    assert docker_login({}, HOST) == Login("me", "secret")


@pytest.mark.parametrize("name", [HOST, f"https://{HOST}", f"https://{HOST}/", f"https://{HOST}/v2/"])
def test_every_spelling_of_a_host(tmp_path: Path, name: str) -> None:
    environ = docker_config(tmp_path, auths={name: basic("me:with:colons")})

    assert docker_login(environ, HOST) == Login("me", "with:colons")
    assert docker_login(environ, f"other.{HOST}") is None


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub(tmp_path: Path, host: str) -> None:
    environ = docker_config(tmp_path, auths={DOCKER_HUB_KEY: basic("me:secret")})

    assert docker_login(environ, host) == Login("me", "secret")


def test_identity_token(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, auths={HOST: {**basic("me:"), "identitytoken": "refresh"}})

    assert docker_login(environ, HOST) == Login("me", identity_token="refresh")


@pytest.mark.parametrize("content", ["{", "[]", '{"auths": 1}'])
def test_unreadable_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(RefinerctlError, match=r"config\.json cannot be read"):
        docker_login({"DOCKER_CONFIG": str(tmp_path)}, HOST)


def test_invalid_auth_is_not_printed(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, auths={HOST: {"auth": "s3cret!"}})

    with pytest.raises(RefinerctlError) as broken:
        docker_login(environ, HOST)

    assert "s3cret" not in str(broken.value)


def test_missing_credential_store_is_skipped(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, credsStore="of-another-machine", auths={HOST: basic("me:secret")})

    assert docker_login(environ, HOST) == Login("me", "secret")


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "docker-credential-test"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_helper_of_one_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, """cat >/dev/null; echo '{"Username": "<token>", "Secret": "refresh"}'""")
    environ = docker_config(tmp_path, credHelpers={HOST: "test"})

    assert docker_login(environ, HOST) == Login("", identity_token="refresh")
    assert docker_login(environ, "other.example") is None


def test_credential_store_without_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    environ = docker_config(tmp_path, credsStore="test", auths={HOST: basic("me:secret")})

    assert docker_login(environ, HOST) == Login("me", "secret")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo the-secret >&2; exit 3", "failed with exit code 3"),
        ("echo the-secret", "is invalid"),
        ('echo \'{"Username": "the-secret"}\'', "is invalid"),
    ],
)
def test_failed_helper_prints_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    helper(tmp_path, monkeypatch, script)

    with pytest.raises(RefinerctlError, match=words) as failed:
        docker_login(docker_config(tmp_path, credHelpers={HOST: "test"}), HOST)

    assert "the-secret" not in str(failed.value)


def test_missing_helper_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RefinerctlError, match=r"docker-credential-missing for .* cannot be run"):
        docker_login(docker_config(tmp_path, credHelpers={HOST: "missing"}), HOST)


def test_helper_with_a_binary_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, r"printf '\377'")

    with pytest.raises(RefinerctlError, match="is invalid"):
        docker_login(docker_config(tmp_path, credHelpers={HOST: "test"}), HOST)


def test_invalid_login_is_not_printed(tmp_path: Path) -> None:
    with pytest.raises(RefinerctlError, match="not a JSON object") as failed:
        docker_login(docker_config(tmp_path, auths={HOST: "the-secret"}), HOST)
    assert "the-secret" not in str(failed.value)


@pytest.mark.usefixtures("home")
def test_newline_after_a_token_is_ignored() -> None:
    assert stored_login({"GITHUB_TOKEN": "t\n"}, "ghcr.io") == Login("refinerctl", "t")


def test_login_is_not_printed() -> None:
    assert "secret" not in repr(Login("me", "secret", identity_token="secret"))


def test_no_home_folder_means_anonymous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    without_home(monkeypatch)

    assert docker_login({}, HOST) is None
