"""Which login goes to which registry."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.registry.credentials import DOCKER_HUB_HOSTS, DOCKER_HUB_KEY, docker_login, stored_login
from refinerctl.transport import Login
from tests.home import without_home

HOST = "registry.example"
SPELLINGS = (HOST, f"https://{HOST}", f"https://{HOST}/", f"https://{HOST}/v2/")


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
    environ = {"GITHUB_TOKEN": "secret\n", "GITHUB_ACTOR": "octocat"}  # a variable made of a file ends in a newline

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


@pytest.mark.parametrize(
    ("host", "name", "entry", "expected"),
    [
        *((HOST, name, basic("me:with:colons"), Login("me", "with:colons")) for name in SPELLINGS),
        *((host, DOCKER_HUB_KEY, basic("me:secret"), Login("me", "secret")) for host in DOCKER_HUB_HOSTS),
        (HOST, HOST, {**basic("me:"), "identitytoken": "refresh"}, Login("me", identity_token="refresh")),
        (HOST, f"other.{HOST}", basic("me:secret"), None),
    ],
)
def test_login_by_the_host(tmp_path: Path, host: str, name: str, entry: dict[str, str], expected: Login | None) -> None:
    assert docker_login(docker_config(tmp_path, auths={name: entry}), host) == expected


def test_missing_credential_store_is_skipped(tmp_path: Path) -> None:
    environ = docker_config(tmp_path, credsStore="of-another-machine", auths={HOST: basic("me:secret")})

    assert docker_login(environ, HOST) == Login("me", "secret")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", r"config\.json cannot be read"),
        ("[]", r"config\.json cannot be read"),
        ('{"auths": 1}', r"config\.json cannot be read"),
        ('{"auths": {"registry.example": {"auth": "s3cret!"}}}', "not base64"),
        ('{"auths": {"registry.example": "s3cret!"}}', "not a JSON object"),
        ('{"credHelpers": {"registry.example": "missing"}}', "docker-credential-missing for .* cannot be run"),
    ],
)
def test_invalid_configuration_is_not_printed(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "config.json").write_text(content)

    with pytest.raises(RefinerctlError, match=words) as broken:
        docker_login({"DOCKER_CONFIG": str(tmp_path)}, HOST)

    assert "s3cret" not in str(broken.value)


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
        (r"printf '\377'", "is invalid"),
    ],
)
def test_failed_helper_prints_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    helper(tmp_path, monkeypatch, script)

    with pytest.raises(RefinerctlError, match=words) as failed:
        docker_login(docker_config(tmp_path, credHelpers={HOST: "test"}), HOST)

    assert "the-secret" not in str(failed.value)


def test_login_is_not_printed() -> None:
    assert "secret" not in repr(Login("me", "secret", identity_token="secret"))


def test_no_home_folder_means_anonymous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    without_home(monkeypatch)

    assert docker_login({}, HOST) is None
