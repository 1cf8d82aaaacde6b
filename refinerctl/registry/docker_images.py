"""Images in a Docker engine, pulled from registries and pushed to them, through the docker SDK.

The SDK's low-level calls give the engine's own stream of events; an error is one of them, never an exception.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from refinerctl.docker_engine import DockerEngine
from refinerctl.errors import RefinerctlError
from refinerctl.images import ImageReference, Platform
from refinerctl.registry.auth import denied, user_of
from refinerctl.registry.client import PULL, PULL_AND_PUSH

if TYPE_CHECKING:
    from refinerctl.console import BlobProgress
    from refinerctl.registry.credentials import Credentials

# Engines put a registry's 401 and 403 into these words; the status is theirs, and often 500.
_DENIED = re.compile(r"unauthorized|denied|forbidden|no basic auth|incorrect username|authorization failed", re.I)
_QUERY = re.compile(r"\?[^\s\"']+")  # it may be a signed one


@dataclass(frozen=True)
class Distribution:
    """What a registry has under a reference, by the engine's word. `platforms` are empty where it does not tell."""

    digest: str
    media_type: str
    platforms: tuple[Platform, ...]


@dataclass(frozen=True)
class EngineImage:
    """An image in the engine. `id` is the digest of its config; `size` in bytes, uncompressed."""

    id: str
    platform: Platform
    size: int


@dataclass(frozen=True)
class Pushed:
    """What a push has done. Counts are of layers: of the config the engine says nothing. `bytes_sent` uncompressed."""

    digest: str
    layers_sent: int
    layers_mounted: int
    layers_there: int
    bytes_sent: int


class DockerImages:
    """Images of the engine. Each call carries the login of its registry: the engine itself is never logged in."""

    def __init__(self, engine: DockerEngine, credentials: Credentials) -> None:
        self._engine = engine
        self._credentials = credentials

    def find(self, reference: ImageReference) -> Distribution | None:
        """What the registry has, asked through the engine; None if there is no such tag, digest or repository."""
        from docker.errors import NotFound

        with self._explained("asking for", reference):
            try:
                found: Any = self._api.inspect_distribution(str(reference), self._login(reference))
            except NotFound:
                return None
        platforms = found.get("Platforms") or ()
        return Distribution(
            digest=str(found["Descriptor"]["digest"]),
            media_type=str(found["Descriptor"]["mediaType"]),
            platforms=tuple(
                Platform(str(item["os"]), str(item["architecture"])) for item in platforms if item["os"] != "unknown"
            ),
        )

    def pull(self, reference: ImageReference, platform: Platform | None, progress: BlobProgress) -> EngineImage:
        """Pull by digest, from an index what is for `platform`. Raises RefinerctlError, AccessDeniedError."""
        with self._explained("pulling", reference):
            stream = self._api.pull(
                reference.name,
                tag=reference.digest,
                platform=str(platform) if platform else None,
                auth_config=self._login(reference),
                stream=True,
                decode=True,
            )
            for _ in _told(_without_errors(stream), progress):
                pass
            return self._inspect(reference)

    def _inspect(self, reference: ImageReference) -> EngineImage:
        found: Any = self._api.inspect_image(str(reference))
        platform = Platform(str(found["Os"]), str(found["Architecture"]))
        return EngineImage(str(found["Id"]), platform, int(found["Size"]))

    def push(self, image: EngineImage, target: ImageReference, progress: BlobProgress) -> Pushed:
        """Push under `target`'s tag. The engine itself has that tag for no longer than this takes."""
        with self._explained("pushing", target), self._tagged(image, target):
            stream = self._api.push(
                target.name, tag=target.tag, auth_config=self._login(target), stream=True, decode=True
            )
            return _pushed(_told(_without_errors(stream), progress))

    @property
    def _api(self) -> Any:  # the SDK's types leave half of it untyped
        return self._engine.client().api

    @contextlib.contextmanager
    def _tagged(self, image: EngineImage, target: ImageReference) -> Iterator[None]:
        """The target's tag in the engine, put back afterwards to what it was."""
        from docker.errors import ImageNotFound

        try:
            before = str(self._api.inspect_image(str(target))["Id"])
        except ImageNotFound:
            before = None
        self._api.tag(image.id, target.name, target.tag)
        try:
            yield
        finally:
            if before is None:
                self._api.remove_image(str(target), noprune=True)
            else:
                self._api.tag(before, target.name, target.tag)

    @contextlib.contextmanager
    def _explained(self, what: str, reference: ImageReference) -> Iterator[None]:
        """The SDK's errors, and those in the engine's stream, as what a user can do something about."""
        from docker.errors import APIError, DockerException
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except _StreamError as error:
            raise self._failure(what, reference, str(error)) from None
        except APIError as error:
            raise self._failure(what, reference, str(error.explanation or error)) from None
        except (DockerException, RequestException, HTTPError) as error:
            raise RefinerctlError(
                f"{what} {reference} failed: the Docker engine gives no answer ({type(error).__name__})",
                hint="See the engine's log.",
            ) from error

    def _failure(self, what: str, reference: ImageReference, said: str) -> RefinerctlError:
        words = " ".join(_QUERY.sub("?…", said).split())[:500]
        if _DENIED.search(words):
            host, actions = str(reference.registry), PULL_AND_PUSH if what == "pushing" else PULL
            scope = f"repository:{reference.repository}:{actions}"
            return denied(host, user_of(self._credentials.login(host)), (scope,), f"the Docker engine says: {words}")
        return RefinerctlError(f"{what} {reference} through the Docker engine failed: {words}")

    def _login(self, reference: ImageReference) -> dict[str, str]:
        """For one call. Empty is nobody: with None the SDK would look for a login of its own."""
        login = self._credentials.login(str(reference.registry))
        if login is None:
            return {}
        if login.identity_token:
            return {"identitytoken": login.identity_token}
        return {"username": login.username, "password": login.password}


class _StreamError(Exception):
    """An event of the engine's stream that tells of a failure."""


def _without_errors(stream: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for event in stream:
        if error := event.get("error") or (event.get("errorDetail") or {}).get("message"):
            raise _StreamError(str(error))
        yield event


def _told(events: Iterable[dict[str, Any]], progress: BlobProgress) -> Iterator[dict[str, Any]]:
    """The same events, each layer's progress told on the way."""
    seen: dict[tuple[str, str], int] = {}
    for event in events:
        status, layer = str(event.get("status", "")), str(event.get("id", ""))
        detail = event.get("progressDetail") or {}
        if status in ("Downloading", "Pushing") and "current" in detail:
            before = seen.get((status, layer))
            if before is None:
                progress.begin(layer, int(detail.get("total") or 0))
            seen[status, layer] = current = int(detail["current"])
            progress.moved(layer, current - (before or 0))
        elif status in ("Download complete", "Pushed"):
            progress.end(layer)
        elif status.startswith("Retrying"):
            progress.update(f"the engine tries layer {layer} again")
        yield event


def _pushed(events: Iterable[dict[str, Any]]) -> Pushed:
    digest, sent, mounted, there, bytes_sent = "", 0, 0, 0, dict[str, int]()
    for event in events:
        status = str(event.get("status", ""))
        digest = str((event.get("aux") or {}).get("Digest") or digest)
        sent += status == "Pushed"
        mounted += status.startswith("Mounted from")
        there += status == "Layer already exists"
        if status == "Pushing" and (current := (event.get("progressDetail") or {}).get("current")):
            bytes_sent[str(event.get("id"))] = int(current)
    if not digest:
        raise _StreamError("it broke off without a digest")
    return Pushed(digest, sent, mounted, there, sum(bytes_sent.values()))
