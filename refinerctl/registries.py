"""The registries that a command works with, and its logins there: part of the composition root."""

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
    from refinerctl.registry.credentials import CredentialChain
    from refinerctl.transport import Login, Transport


class Registries:
    """Clients of registries, each made once: a host has one login."""

    def __init__(self, app: AppContext) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._clients: dict[str, Registry] = {}
        self._ecr: dict[str, EcrRegistry] = {}
        # Hosts of an ECR with another name: the endpoint that replaces AWS.
        self._endpoints = {urlsplit(app.settings.endpoint_url or "").netloc} - {""}

    def client(self, host: str) -> Registry:
        """The client of registry `host`."""
        from refinerctl.registry.client import Registry

        with self._lock:  # images are checked at the same time
            if host not in self._clients:
                self._clients[host] = Registry(host, self.credentials.login, self._transport)
            return self._clients[host]

    def impatient_client(self, host: str) -> Registry:
        """A client that gives up early, for questions that do not need an answer."""
        from refinerctl.registry.client import Registry
        from refinerctl.transport import Limits, Transport

        return Registry(host, self.credentials.login, Transport(Limits(attempts=3, connect_timeout_s=4)))

    @cached_property
    def _transport(self) -> Transport:
        from refinerctl.transport import Transport

        return Transport(tell=self._app.render.note)

    @cached_property
    def credentials(self) -> CredentialChain:
        """The logins of all registries."""
        from refinerctl.registry.credentials import CredentialChain

        return CredentialChain(os.environ, self._ecr_login)

    def ecr_host(self, reference: ImageReference) -> str | None:
        """The host of the ECR that `reference` is in; without a registry, the environment's. None if not in ECR."""
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
            raise UsageError(f"{host} is not the ECR of the account in use: cannot create {name} there")
        self._app.render.note(f"creating repository {host}/{name}")
        ecr.create_repository(name)

    def _ecr_login(self, host: str) -> Login | None:
        ecr = self._ecr_of(host)
        return ecr.login() if ecr else None

    def _ecr_of(self, host: str) -> EcrRegistry | None:
        """The ECR at a host, if the credentials in use are for it."""
        if host in self._endpoints:
            return self._app.ecr
        named = ImageReference("any", host).ecr
        if named is None or self._app.settings.embedded:  # an emulator's credentials are not those of an account
            return None
        region = named[1]
        if region not in self._ecr:
            from refinerctl.aws.ecr import EcrRegistry

            self._ecr[region] = EcrRegistry(self._app.session.in_region(region), self._app.repository_settings)
        return self._ecr[region]
