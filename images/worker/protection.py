"""Protection of this ECS task: while it is on, neither scale-in nor a deployment stops the task."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping

import urllib3

from rnr_common.log import Logger

EXPIRES_MINUTES = 30
RENEW_S = 600  # several attempts before it expires
RETRY_S = 30
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 60.0
# Short: the caller is the connection's thread, whose heartbeats wait meanwhile.
_TIMEOUT = urllib3.Timeout(connect=2, read=5)


class TaskProtection:
    """The ECS agent of ECS_AGENT_URI; without one (not on ECS) protection is always granted."""

    def __init__(self, environ: Mapping[str, str], log: Logger, now: Callable[[], float] = time.monotonic) -> None:
        uri = environ.get("ECS_AGENT_URI", "").rstrip("/")
        self._url = f"{uri}/task-protection/v1/state" if uri else None
        self._http = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)
        self._log, self._now = log, now
        self._pause_s = _FIRST_PAUSE_S
        self._next_at = 0.0
        self._wanted = False
        self._since = 0.0

    @property
    def held_s(self) -> float:
        """For how long the task has been protected; 0 if it is not."""
        return self._now() - self._since if self._wanted else 0.0

    def acquire(self) -> bool:
        """Return whether the task is protected now; after a refusal ask again only after a pause that grows."""
        if self._wanted:
            return True
        if self._now() < self._next_at:
            return False
        refusal = self._put({"ProtectionEnabled": True, "ExpiresInMinutes": EXPIRES_MINUTES})
        if refusal:
            pause_s = self._pause_s * random.uniform(0.5, 1)  # noqa: S311 - spreads requests, protects nothing
            self._next_at = self._now() + pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self._log.warn("task protection refused", reason=refusal, pauseMs=round(pause_s * 1000))
            return False
        self._wanted, self._pause_s = True, _FIRST_PAUSE_S
        self._since = self._now()
        self._next_at = self._since + RENEW_S
        return True

    def renew(self) -> None:
        """Extend the protection of a busy task when it is time to. The job continues if the agent refuses."""
        if not self._wanted or self._now() < self._next_at:
            return
        refusal = self._put({"ProtectionEnabled": True, "ExpiresInMinutes": EXPIRES_MINUTES})
        self._next_at = self._now() + (RETRY_S if refusal else RENEW_S)
        if refusal:
            self._log.warn("task protection not renewed", reason=refusal)

    def release(self) -> None:
        """Remove the protection: an idle task may be stopped. If the agent does not answer, it expires."""
        if not self._wanted:
            return
        self._wanted, self._next_at = False, 0.0
        refusal = self._put({"ProtectionEnabled": False})
        if refusal:
            self._log.warn("task protection not removed", reason=refusal)

    def _put(self, state: dict[str, object]) -> str | None:
        """Return why the agent did not do it, or None."""
        if self._url is None:
            return None
        headers = {"Content-Type": "application/json"}
        try:
            response = self._http.request("PUT", self._url, body=json.dumps(state), headers=headers)
            answer = json.loads(response.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            return f"no answer of the ECS agent at {self._url}: {error}"
        protection = answer.get("protection") if isinstance(answer, dict) else None
        if isinstance(protection, dict) and protection.get("ProtectionEnabled") is state["ProtectionEnabled"]:
            return None
        return f"HTTP {response.status}: {json.dumps(answer)[:300]}"
