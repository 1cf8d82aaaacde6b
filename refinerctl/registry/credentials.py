"""Logins at registries: GITHUB_TOKEN for ghcr.io, AWS for ECR, docker's configuration for all others."""

from __future__ import annotations

import base64
import binascii
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.transport import Login

GITHUB_HOST = "ghcr.io"
DOCKER_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
# The name of Docker Hub in docker's configuration.
DOCKER_HUB_KEY = "https://index.docker.io/v1/"

HELPER_TIMEOUT_SECONDS = 30


# The login at a registry by its host; None for anonymous access.
Logins = Callable[[str], Login | None]


def stored_login(environ: Mapping[str, str], host: str) -> Login | None:
    """GITHUB_TOKEN for ghcr.io, else docker's configuration, else anonymous.

    Raises RefinerctlError if docker's configuration or a credential helper is broken.
    """
    token = environ.get("GITHUB_TOKEN", "").strip()  # a variable that was read from a file may end in a newline
    if host == GITHUB_HOST and token:
        return Login(environ.get("GITHUB_ACTOR") or "refinerctl", token)
    return docker_login(environ, host)


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
    # A configuration copied from a desktop names a store that exists on the desktop only.
    if store and shutil.which(f"docker-credential-{store}") and (login := _ask_helper(store, names[0])):
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


def _ask_helper(name: str, server: str) -> Login | None:
    """Run `docker-credential-NAME get`: https://github.com/docker/docker-credential-helpers#development"""
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
