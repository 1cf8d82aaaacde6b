"""The ledger of releases as a second state document beside the one that Terraform keeps over HTTP.

The server stores Terraform states only, so the ledger is an output of one: version 4, without resources.
Protocol: https://developer.hashicorp.com/terraform/language/backend/http
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from refinerctl import __version__
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.ledger.entries import Release, dump_releases, load_releases, local_user
from refinerctl.transport import Response, Transport

if TYPE_CHECKING:
    from refinerctl.terraform.backend import Backend

OUTPUT = "releases"
LOCK_TIMEOUT_S = 60.0

_ADDRESSES = ("address", "lock_address", "unlock_address")
_LOCKED = (409, 423)
_MISSING = (204, 404)
# GitLab's response for a project without access. It must not be read as "no ledger yet": nothing would seem deployed.
_HIDDEN = b"Project Not Found"


class HttpLedger:
    """`<state>-releases` beside the state `<state>` of a backend of kind "http"; not locked if that has no lock."""

    def __init__(
        self,
        backend: Backend,
        *,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        lock_poll_s: float = 1.0,
        transport: Transport | None = None,
    ) -> None:
        self._settings = {name: str(value) for name, value in backend.settings.items()}
        state = self._settings["address"]
        self._settings |= {name: _beside(url, state) for name, url in self._settings.items() if name in _ADDRESSES}
        self._headers = {"Accept": "application/json"}
        if username := backend.environment.get("TF_HTTP_USERNAME"):
            login = f"{username}:{backend.environment.get('TF_HTTP_PASSWORD', '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        self._lock_timeout_s = lock_timeout_s
        self._lock_poll_s = lock_poll_s
        self._transport = transport or Transport()

    @property
    def place(self) -> str:
        return self._settings["address"]

    def read(self) -> tuple[Release, ...]:
        return self._releases(self._state())

    def append(self, release: Release) -> None:
        """Raises RefinerctlError if another writer holds the lock for longer than the timeout."""
        with self._locked() as lock_id:
            state = self._state()
            releases = self._releases(state)
            if release not in releases:
                self._write((*releases, release), state, lock_id)

    def _state(self) -> dict[str, Any]:
        answer = self._send("GET", self.place)
        if answer.status in _MISSING or not answer.body:
            return {}
        try:
            state = json.loads(answer.body)
        except (ValueError, RecursionError):
            state = None
        if not isinstance(state, dict):
            raise RefinerctlError(f"{self.place} is not a Terraform state")
        return state

    def _releases(self, state: Mapping[str, Any]) -> tuple[Release, ...]:
        if not state:
            return ()
        try:
            document = str(state["outputs"][OUTPUT]["value"])
        except (KeyError, TypeError):
            raise RefinerctlError(
                f"{self.place} is a Terraform state without a ledger of releases",
                hint="It was not written by refinerctl. Check its content before you remove it.",
            ) from None
        return load_releases(document.encode(), self.place)

    def _write(self, releases: tuple[Release, ...], state: Mapping[str, Any], lock_id: str | None) -> None:
        document = {
            "version": 4,
            "terraform_version": state.get("terraform_version", "1.10.0"),
            "serial": int(state.get("serial", 0)) + 1,
            "lineage": state.get("lineage") or str(uuid.uuid4()),
            "outputs": {OUTPUT: {"value": dump_releases(releases).decode(), "type": "string"}},
            "resources": [],
            "check_results": None,
        }
        parts = urlsplit(self.place)
        query = "&".join(filter(None, [parts.query, urlencode({"ID": lock_id}) if lock_id else ""]))
        self._send(self._settings.get("update_method", "POST"), urlunsplit(parts._replace(query=query)), document)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[str | None]:
        if "lock_address" not in self._settings:
            yield None
            return
        info = _lock_info(self.place)
        self._lock(info)
        try:
            yield info["ID"]
        finally:
            if "unlock_address" in self._settings:
                self._send(self._settings.get("unlock_method", "UNLOCK"), self._settings["unlock_address"], info)

    def _lock(self, info: Mapping[str, str]) -> None:
        deadline = time.monotonic() + self._lock_timeout_s
        method, address = self._settings.get("lock_method", "LOCK"), self._settings["lock_address"]
        while True:
            answer = self._send(method, address, info, allowed=_LOCKED)
            holder = _holder(answer)
            # If this process holds the lock, the response to an earlier attempt was lost.
            if answer.status not in _LOCKED or holder.get("ID") == info["ID"]:
                return
            if time.monotonic() >= deadline:
                raise RefinerctlError(
                    f"{self.place} is locked by {holder.get('Who') or 'an unknown user'} since "
                    f"{holder.get('Created') or 'an unknown time'}",
                    hint=f"Nothing was added. The lock's ID is {holder.get('ID') or 'unknown'}. If its holder has "
                    "crashed, unlock that state on its server (GitLab: Operate, Terraform states), and run this again.",
                )
            time.sleep(self._lock_poll_s)

    def _send(self, method: str, url: str, document: Any = None, *, allowed: tuple[int, ...] = ()) -> Response:
        headers, body = dict(self._headers), None
        if document is not None:
            body = json.dumps(document).encode()
            headers["Content-Type"] = "application/json"
        try:
            answer = self._transport.fetch(method, url, headers, body)
        except RefinerctlError as error:
            raise type(error)(f"{self.place}: {error.message}", hint=error.hint) from error
        self._check(method, answer, allowed)
        return answer

    def _check(self, method: str, answer: Response, allowed: tuple[int, ...]) -> None:
        hidden = answer.status == 404 and _HIDDEN in answer.body
        missing = method == "GET" and answer.status in _MISSING and not hidden
        if answer.status in allowed or 200 <= answer.status < 300 or missing:
            return
        if hidden or answer.status in (401, 403):
            raise AccessDeniedError(
                f"access denied: {method} {self.place} ({answer.status})",
                hint="Check TF_HTTP_USERNAME and TF_HTTP_PASSWORD. In GitLab, only maintainers may write states.",
            )
        raise RefinerctlError(f"{method} {self.place} failed: the server returned {answer.status}")


def _beside(url: str, address: str) -> str:
    """The same URL for the document `<state>-releases`; unchanged if it is not below `address`: it locks all states."""
    state, target = urlsplit(address), urlsplit(url)
    below = target.path.removeprefix(state.path)
    if target.netloc != state.netloc or not target.path.startswith(state.path) or below[:1] not in ("", "/"):
        return url
    return urlunsplit(target._replace(path=f"{state.path.rstrip('/')}-releases{below}"))


def _holder(answer: Response) -> dict[str, Any]:
    """The holder of the lock; empty if the server does not report it."""
    try:
        info = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def _lock_info(address: str) -> dict[str, str]:
    """As Terraform sends it; GitLab requires all of it."""
    return {
        "ID": str(uuid.uuid4()),
        "Operation": "refinerctl release",
        "Info": "adds a release to the ledger",
        "Who": local_user(),
        "Version": __version__,
        "Created": datetime.now(UTC).isoformat(),
        "Path": urlsplit(address).path,
    }
