"""The registries that a command uses, and its logins: part of the composition root."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from refinerctl.errors import NotFoundError, UsageError
from refinerctl.images import ImageReference

if TYPE_CHECKING:
    from refinerctl.aws.ecr import EcrRegistry
    from refinerctl.config import Settings
    from refinerctl.registry.client import Registry, Repository
    from refinerctl.registry.manifests import Descriptor, Manifest
    from refinerctl.transport import Login, Tell, Transport


class Registries:
    """Clients of registries, each made once: a host has one login. Safe to share between threads.

    `ecr` gives the ECR of a region, None for the environment's own. `tell` gets a line for each retry.
    """

    def __init__(self, settings: Settings, ecr: Callable[[str | None], EcrRegistry], tell: Tell) -> None:
        self._embedded = settings.embedded
        self._new_ecr = ecr
        self._ecr: dict[str | None, EcrRegistry] = {}
        self._tell = tell
        self._lock, self._login_lock = threading.Lock(), threading.Lock()
        self._clients: dict[str, Registry] = {}
        self._logins: dict[str, Login | None] = {}
        # Hosts of an ECR with another name: the endpoint that replaces AWS.
        self._endpoints = {urlsplit(settings.endpoint_url or "").netloc} - {""}

    def client(self, host: str) -> Registry:
        """The client of registry `host`."""
        from refinerctl.registry.client import Registry

        with self._lock:  # images are checked at the same time
            if host not in self._clients:
                self._clients[host] = Registry(host, self.login, self._transport)
            return self._clients[host]

    def impatient_client(self, host: str, attempts: int = 3) -> Registry:
        """A client that gives up early, for optional information."""
        from refinerctl.registry.client import Registry
        from refinerctl.transport import Limits, Transport

        return Registry(host, self.login, Transport(Limits(attempts=attempts, connect_timeout_s=4)))

    @cached_property
    def _transport(self) -> Transport:
        from refinerctl.transport import Transport

        return Transport(tell=self._tell)

    def login(self, host: str) -> Login | None:
        """AWS's for an ECR of the credentials in use, else the stored one; None for anonymous access."""
        from refinerctl.registry.credentials import stored_login

        with self._login_lock:  # a credential helper may ask the user: once per host
            if ecr := self._ecr_of(host):
                return ecr.login()
            if host not in self._logins:
                self._logins[host] = stored_login(os.environ, host)
            return self._logins[host]

    def find(self, reference: ImageReference) -> Manifest | None:
        """The manifest of a deployable image; None if it or its repository does not exist."""
        return self._deployed_from(reference).find(reference.version)

    def blob(self, reference: ImageReference, descriptor: Descriptor) -> bytes:
        """A small blob of a deployable image. Raises NotFoundError if it does not exist."""
        return self._deployed_from(reference).blob(descriptor)

    def tags(self, reference: ImageReference) -> list[str]:
        """All tags of a deployable image's repository; none if it does not exist."""
        try:
            return self._deployed_from(reference).tags()
        except NotFoundError:
            return []

    def _deployed_from(self, reference: ImageReference) -> Repository:
        """An endpoint that replaces AWS is the only registry of its environment, whatever its images name."""
        own = self._ecr_in(None)
        host = own.host if own.is_replaced or not reference.registry else reference.registry
        return self.client(host).repository(reference.repository)

    def ecr_host(self, reference: ImageReference) -> str | None:
        """The host of the ECR that `reference` is in; without a registry, the environment's. None if not in ECR."""
        if reference.registry is None:
            own = self._ecr_in(None).host
            self._endpoints.add(own)
            return own
        return reference.registry if reference.ecr or reference.registry in self._endpoints else None

    def create_repository(self, host: str, name: str) -> None:
        """Create a repository in the ECR at `host`."""
        ecr, named = self._ecr_of(host), ImageReference(name, host).ecr
        # A registry has several host names: with FIPS, with IPv6.
        same = ecr is not None and (ecr.host == host or (named and named == ImageReference(name, ecr.host).ecr))
        if ecr is None or not same:
            raise UsageError(f"{host} is not the ECR registry of the account in use: cannot create {name} there")
        self._tell(f"creating repository {host}/{name}")
        ecr.create_repository(name)

    def _ecr_in(self, region: str | None) -> EcrRegistry:
        if region not in self._ecr:
            self._ecr[region] = self._new_ecr(region)
        return self._ecr[region]

    def _ecr_of(self, host: str) -> EcrRegistry | None:
        """The ECR at a host, if the credentials in use are for it."""
        if host in self._endpoints:
            return self._ecr_in(None)
        named = ImageReference("any", host).ecr
        # An emulator's credentials are not those of an account.
        return None if named is None or self._embedded else self._ecr_in(named[1])
