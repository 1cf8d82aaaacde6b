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
from dataclasses import dataclass, field
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

_LOCKED = (409, 423)
_MISSING = (204, 404)
# GitLab's answer for a project that the login may not see. Read as "no ledger yet", nothing would seem deployed.
_HIDDEN = b"Project Not Found"


@dataclass(frozen=True)
class HttpLedger:
    """`address` is the document's, the other addresses lock and unlock it; without `lock_address` it is not locked."""

    address: str
    lock_address: str | None = None
    unlock_address: str | None = None
    lock_method: str = "LOCK"
    unlock_method: str = "UNLOCK"
    update_method: str = "POST"
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    lock_timeout_s: float = LOCK_TIMEOUT_S
    lock_poll_s: float = 1.0
    transport: Transport = field(default_factory=Transport, repr=False)

    @classmethod
    def beside(cls, backend: Backend) -> HttpLedger:
        """`<state>-releases` beside the state `<state>` of a backend of kind "http"."""
        given = {name: str(value) for name, value in backend.settings.items()}
        address = given["address"]

        def moved(name: str) -> str | None:
            return _beside(given[name], address) if name in given else None

        username, password = (backend.environment.get(f"TF_HTTP_{name}") for name in ("USERNAME", "PASSWORD"))
        return cls(
            address=_beside(address, address),
            lock_address=moved("lock_address"),
            unlock_address=moved("unlock_address"),
            lock_method=given.get("lock_method", "LOCK"),
            unlock_method=given.get("unlock_method", "UNLOCK"),
            update_method=given.get("update_method", "POST"),
            credentials=(username, password or "") if username else None,
        )

    @property
    def place(self) -> str:
        return self.address

    def read(self) -> tuple[Release, ...]:
        return self._releases(self._state())

    def append(self, release: Release) -> None:
        """Raises RefinerctlError if another writer holds the lock for longer than `lock_timeout_s`."""
        with self._locked() as lock_id:
            state = self._state()
            releases = self._releases(state)
            if release not in releases:
                self._write((*releases, release), state, lock_id)

    def _state(self) -> dict[str, Any]:
        answer = self._send("GET", self.address)
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
        parts = urlsplit(self.address)
        query = "&".join(filter(None, [parts.query, urlencode({"ID": lock_id}) if lock_id else ""]))
        self._send(self.update_method, urlunsplit(parts._replace(query=query)), document)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[str | None]:
        if self.lock_address is None:
            yield None
            return
        info = _lock_info(self.address)
        self._lock(self.lock_address, info)
        try:
            yield str(info["ID"])
        finally:
            if self.unlock_address is not None:
                self._send(self.unlock_method, self.unlock_address, info)

    def _lock(self, address: str, info: Mapping[str, str]) -> None:
        deadline = time.monotonic() + self.lock_timeout_s
        while True:
            answer = self._send(self.lock_method, address, info, allowed=_LOCKED)
            holder = _holder(answer)
            # If the lock is ours, the answer to an earlier attempt was lost.
            if answer.status not in _LOCKED or holder.get("ID") == info["ID"]:
                return
            if time.monotonic() >= deadline:
                raise RefinerctlError(
                    f"{self.place} is locked by {holder.get('Who') or 'an unknown user'} since "
                    f"{holder.get('Created') or 'an unknown time'}",
                    hint=f"Nothing was added. The lock's ID is {holder.get('ID') or 'unknown'}. If its holder has "
                    "crashed, unlock that state on its server (GitLab: Operate, Terraform states), and run this again.",
                )
            time.sleep(self.lock_poll_s)

    def _send(self, method: str, url: str, document: Any = None, *, allowed: tuple[int, ...] = ()) -> Response:
        headers = {"Accept": "application/json"}
        if self.credentials is not None:
            login = base64.b64encode(":".join(self.credentials).encode()).decode()
            headers["Authorization"] = f"Basic {login}"
        body = None
        if document is not None:
            body = json.dumps(document).encode()
            headers["Content-Type"] = "application/json"
        try:
            answer = self.transport.fetch(method, url, headers, body)
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
    """Who holds the lock; empty if the server does not say."""
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
