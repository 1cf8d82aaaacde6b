"""Logins at registries: GITHUB_TOKEN for ghcr.io, AWS for ECR, docker's configuration for all others."""

from __future__ import annotations

import base64
import binascii
import json
import os
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.transport import Login

GITHUB_HOST = "ghcr.io"
DOCKER_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
# The name of Docker Hub in docker's configuration.
DOCKER_HUB_KEY = "https://index.docker.io/v1/"

# A copy takes a while: its login must not expire meanwhile.
RENEW_BEFORE = timedelta(minutes=5)
HELPER_TIMEOUT_SECONDS = 30


# The login at a registry by its host; None for anonymous access.
Logins = Callable[[str], Login | None]


class CredentialChain:
    """`ecr_login` for the hosts that it knows, then GITHUB_TOKEN, then docker's configuration, else anonymous.

    Asks once per host, and again when a login is about to expire. Safe to share between threads.
    """

    def __init__(self, environ: Mapping[str, str], ecr_login: Callable[[str], Login | None] = lambda _: None) -> None:
        self._environ = environ
        self._ecr_login = ecr_login
        self._lock = threading.Lock()
        self._known: dict[str, Login | None] = {}

    def login(self, host: str) -> Login | None:
        """Raises RefinerctlError if docker's configuration or a credential helper is broken."""
        with self._lock:
            if host not in self._known or _expires(self._known[host]):
                self._known[host] = self._ecr_login(host) or self._github(host) or docker_login(self._environ, host)
            return self._known[host]

    def _github(self, host: str) -> Login | None:
        token = self._environ.get("GITHUB_TOKEN", "").strip()  # a variable made of a file ends in a newline
        if host != GITHUB_HOST or not token:
            return None
        return Login(self._environ.get("GITHUB_ACTOR") or "refinerctl", token)


def _expires(login: Login | None) -> bool:
    return login is not None and login.expires_at is not None and login.expires_at - RENEW_BEFORE < datetime.now(UTC)


def docker_login(environ: Mapping[str, str], host: str) -> Login | None:
    """What `docker login` stored for `host`, in a credential helper or in config.json itself.

    https://docs.docker.com/reference/cli/docker/login/#credential-stores
    """
    # os.path: in a container a user may have no home folder, and then has no configuration
    folder = Path(environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"))  # noqa: PTH111
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        names = _names(host)
        helpers, auths = config.get("credHelpers") or {}, config.get("auths") or {}
        helper = next((str(helpers[name]) for name in names if name in helpers), None)
        store = str(config.get("credsStore") or "")
        stored = next((auths[name] for name in names if name in auths), None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise RefinerctlError(f"{path} cannot be read: {type(error).__name__}") from error
    if helper is not None:
        return _ask_helper(helper, names[0])
    if store and (login := _ask_store(store, names[0])):
        return login
    return _stored_login(stored, path) if stored else None


def _names(host: str) -> tuple[str, ...]:
    if host in DOCKER_HUB_HOSTS:
        return (DOCKER_HUB_KEY, *DOCKER_HUB_HOSTS)
    return (host, f"https://{host}", f"https://{host}/", f"http://{host}", f"https://{host}/v2/", f"https://{host}/v1/")


def _stored_login(entry: Mapping[str, Any], path: Path) -> Login | None:
    try:
        text = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode()
    except AttributeError as error:
        raise RefinerctlError(f"{path} has a login that is not a JSON object") from error
    except (binascii.Error, UnicodeDecodeError) as error:
        raise RefinerctlError(f"{path} has an `auth` that is not base64") from error
    username, _, password = text.rstrip("\0").partition(":")
    username, password = username or str(entry.get("username") or ""), password or str(entry.get("password") or "")
    token = str(entry.get("identitytoken") or "") or None
    return Login(username, password, identity_token=token) if username or token else None


def _ask_store(name: str, server: str) -> Login | None:
    """A configuration copied from a desktop names a helper that exists on the desktop only."""
    import shutil

    return _ask_helper(name, server) if shutil.which(f"docker-credential-{name}") else None


def _ask_helper(name: str, server: str) -> Login | None:
    """Run `docker-credential-NAME get`: https://github.com/docker/docker-credential-helpers#development"""
    import subprocess

    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=server,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=HELPER_TIMEOUT_SECONDS,
        )
    except OSError as error:
        raise RefinerctlError(
            f"docker's configuration names {program} for {server}, but it cannot be run: {error.strerror}"
        ) from error
    except subprocess.TimeoutExpired:
        raise RefinerctlError(f"{program} timed out after {HELPER_TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        if "credentials not found" in done.stdout or "credentials not found" in done.stderr:
            return None
        raise RefinerctlError(f"{program} failed with exit code {done.returncode} for {server}")
    try:
        answer = json.loads(done.stdout)
        username, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RefinerctlError(f"the output of {program} for {server} is invalid") from None
    if username == "<token>":
        return Login("", identity_token=secret)
    return Login(username, secret)
