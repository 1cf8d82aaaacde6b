"""Copies an image as `refinerctl sync` does, with limits that suit a test."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from refinerctl.console import Progress
from refinerctl.images import DEFAULT_PLATFORM, ImageReference, RunsOn
from refinerctl.registry.client import Registry
from refinerctl.registry.copies import CopyRequest, ImageCopy, RegistryCopies
from refinerctl.transport import Limits, Login, Transport
from refinerctl.waits import Waits

QUICK = Limits(
    attempts=4,
    first_pause_s=0.02,
    longest_pause_s=0.05,
    longest_retry_after_s=1.2,
    connect_timeout_s=2,
    read_timeout_s=0.4,
)


@dataclass
class Copier:
    """One client per host, as the command has it. `logins` are by host; `told` is about retries and waits."""

    logins: dict[str, Login] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    told: list[str] = field(default_factory=list)
    limits: Limits = QUICK
    tell_after_s: float = 10.0
    attachments_s: float = 5.0
    _registries: dict[str, Registry] = field(default_factory=dict)

    @cached_property
    def _transport(self) -> Transport:
        return Transport(self.limits, self.told.append, Waits(self.told.append, self.tell_after_s))

    def registry(self, host: str) -> Registry:
        if host not in self._registries:
            self._registries[host] = Registry(host, self.logins.get, self._transport)
        return self._registries[host]

    def __call__(self, source: str, target: str, **changes: Any) -> ImageCopy:
        """Check and copy; `target` without tag takes the source's."""
        engine = RegistryCopies(self.registry, attachments_s=self.attachments_s)
        return engine.copy(engine.check(request(source, target, **changes)), self.progress)


def registry(host: str, login: Login | None = None) -> Registry:
    """A client of its own for the registry at `host`."""
    return Copier({host: login} if login else {}).registry(host)


def request(source: str, target: str, **changes: Any) -> CopyRequest:
    here, there = ImageReference.parse(source), ImageReference.parse(target)
    given: dict[str, Any] = {"platform": DEFAULT_PLATFORM, "runs_on": RunsOn.LAMBDA, **changes}
    there = ImageReference(there.repository, there.registry, there.tag or here.tag or "v1")
    return CopyRequest(name="image", source=here, target=there, **given)
