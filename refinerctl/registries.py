"""The registries that a command works with, and who it is there: part of the composition root."""

from __future__ import annotations

import os
import threading
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from refinerctl.errors import UsageError
from refinerctl.images import ImageReference

if TYPE_CHECKING:
    from refinerctl.app import AppContext
    from refinerctl.aws.ecr import EcrRegistry
    from refinerctl.registry.client import Registry
    from refinerctl.registry.credentials import CredentialChain, Login


class Registries:
    """Clients of registries, each made once: a host has one connection pool and one login."""

    def __init__(self, app: AppContext) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._clients: dict[str, Registry] = {}
        self._ecr: dict[str, EcrRegistry] = {}
        # Hosts that are ECR without being called like it: another endpoint than AWS's.
        self._endpoints = {urlsplit(app.settings.endpoint_url or "").netloc} - {""}

    def client(self, host: str) -> Registry:
        """The client of registry `host`."""
        from refinerctl.registry.client import Registry

        with self._lock:  # images are checked at the same time
            if host not in self._clients:
                self._clients[host] = Registry(host, self.credentials, tell=self._app.render.note)
            return self._clients[host]

    def impatient_client(self, host: str) -> Registry:
        """The same, for questions that can do without an answer: gives up early."""
        from refinerctl.registry.client import Registry
        from refinerctl.transport import Limits

        return Registry(host, self.credentials, Limits(attempts=3, connect_timeout_s=4))

    @cached_property
    def credentials(self) -> CredentialChain:
        """The logins of all registries."""
        from refinerctl.registry.credentials import CredentialChain

        return CredentialChain(os.environ, self._ecr_login)

    def ecr_host(self, reference: ImageReference) -> str | None:
        """The host of the ECR that `reference` is in: the environment's, if it names no registry. None if in no ECR."""
        if reference.registry is None:
            self._endpoints.add(self._app.ecr.host)
            return self._app.ecr.host
        return reference.registry if reference.ecr or reference.registry in self._endpoints else None

    def create_repository(self, host: str, name: str) -> None:
        """Create a repository in the ECR at `host`."""
        ecr, named = self._ecr_of(host), ImageReference(name, host).ecr
        # A registry goes by several names: with FIPS, with IPv6.
        same = ecr is not None and (ecr.host == host or (named and named == ImageReference(name, ecr.host).ecr))
        if ecr is None or not same:
            raise UsageError(f"{host} is not the ECR of the account in use: {name} cannot be created there")
        self._app.render.note(f"creating repository {host}/{name}")
        ecr.create_repository(name)

    def _ecr_login(self, host: str) -> Login | None:
        ecr = self._ecr_of(host)
        return ecr.login() if ecr else None

    def _ecr_of(self, host: str) -> EcrRegistry | None:
        """The ECR behind a host, if it is one that the credentials in use are for."""
        if host in self._endpoints:
            return self._app.ecr
        named = ImageReference("any", host).ecr
        if named is None or self._app.settings.embedded:  # an emulator's credentials are nobody's in an account
            return None
        region = named[1]
        if region not in self._ecr:
            from refinerctl.aws.ecr import EcrRegistry

            self._ecr[region] = EcrRegistry(self._app.session.in_region(region), self._app.repository_settings)
        return self._ecr[region]
