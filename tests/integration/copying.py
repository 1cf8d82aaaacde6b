"""Copies an image as `refinerctl sync` does, with limits that suit a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from refinerctl.console import BlobProgress, Silent
from refinerctl.images import DEFAULT_PLATFORM, ImageCopy, ImageReference, RunsOn
from refinerctl.registry.client import Registry
from refinerctl.registry.copies import CopyRequest
from refinerctl.registry.credentials import Login
from refinerctl.registry.engine import RegistryEngine
from refinerctl.releases import sync
from refinerctl.transport import Limits
from tests.registries.docker_registry import DockerRegistry
from tests.registries.images import problems
from tests.registries.skopeo import skopeo_inspect

QUICK = Limits(
    attempts=4,
    first_pause_s=0.02,
    longest_pause_s=0.05,
    longest_retry_after_s=1.2,
    connect_timeout_s=2,
    read_timeout_s=0.4,
)


class Logins:
    """Credentials by host."""

    def __init__(self, known: Mapping[str, Login] | None = None) -> None:
        self.known = dict(known or {})

    def login(self, host: str) -> Login | None:
        return self.known.get(host)


@dataclass
class Copier:
    """One client per host, as the command has it. `told` is what was said about retries."""

    logins: Logins = field(default_factory=Logins)
    limits: Limits = QUICK
    progress: BlobProgress = field(default_factory=Silent)
    created: Callable[[str, str], None] | None = None
    told: list[str] = field(default_factory=list)
    _registries: dict[str, Registry] = field(default_factory=dict)

    def registry(self, host: str) -> Registry:
        if host not in self._registries:
            self._registries[host] = Registry(host, self.logins, self.limits, self.told.append)
        return self._registries[host]

    def __call__(self, source: str, target: str, **changes: Any) -> ImageCopy:
        """Check and copy; `target` without tag takes the source's."""
        engine = RegistryEngine(self.registry, self.created)
        checked = sync.check(engine, [request(source, target, **changes)])
        (done,) = sync.copy(engine, checked, self.progress)
        return done


def request(source: str, target: str, **changes: Any) -> CopyRequest:
    here, there = ImageReference.parse(source), ImageReference.parse(target)
    given: dict[str, Any] = {"platform": DEFAULT_PLATFORM, "runs_on": RunsOn.LAMBDA, **changes}
    there = ImageReference(there.repository, there.registry, there.tag or here.tag or "v1")
    return CopyRequest(name="image", source=here, target=there, **given)


def whole(registry: DockerRegistry, repository: str, tag: str = "v1") -> str:
    """The digest of an image by skopeo's word, once every blob of it has been read."""
    assert problems(registry, repository, tag) == []
    credentials = f"{registry.user}:{registry.password}" if registry.user else None
    return skopeo_inspect(f"{registry.host}/{repository}:{tag}", credentials)
