"""Engine `docker`: an image pulled into a Docker engine and pushed from it, through the docker SDK.

What the engine does not report is read from the registries, if these can be reached: media types of layers, tags, and
whether a push is allowed, which takes the engine 50 s of retries to find out.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from refinerctl.console import Progress
from refinerctl.docker_engine import DockerEngine
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError, RefusedError
from refinerctl.images import INDEX_TYPES, ImageReference, Platform, RunsOn
from refinerctl.registry.auth import denied
from refinerctl.registry.client import PULL, PULL_AND_PUSH, Registry, Repository
from refinerctl.registry.copies import (
    CheckedCopy,
    CopyRequest,
    ImageCopy,
    choose_platform,
    first_outlook,
    look_up_attachments,
    moved_tag,
    no_platform,
    not_runnable,
    pass_gate,
    read_back_differs,
    unknown_tag,
    with_attachments,
)
from refinerctl.registry.credentials import Logins
from refinerctl.registry.manifests import Manifest, too_large

# Texts of engines for a registry's 401 and 403; the engine's own status is often 500.
_DENIED = re.compile(r"unauthorized|denied|forbidden|no basic auth|incorrect username|authorization failed", re.I)
_ONLY_IMAGE = "engine docker copies images only"
_QUERY = re.compile(r"\?[^\s\"']+")  # it may be a signed one

Told = TypeVar("Told")


class DockerCopies:
    """`logins` are sent with each call: the engine itself is never logged in.

    `registry` gives the client of a host, one that gives up early.
    """

    def __init__(self, engine: DockerEngine, logins: Logins, registry: Callable[[str], Registry]) -> None:
        self._engine = engine
        self._logins = logins
        self._registry = registry
        self._out_of_reach: set[str] = set()

    def check(self, request: CopyRequest) -> CheckedCopy:
        """As engine `registry`. Pulls nothing unless the target's tag exists and only the engine can compare it."""
        began = time.monotonic()
        found, there = self._find(request.source), self._find(request.target)
        if found is None:
            told = self._ask(request.source, partial(unknown_tag, reference=request.source))
            raise told or NotFoundError(f"{request.source} does not exist")
        digest, is_index, platforms = found
        manifest = self._manifest(request, digest)
        if manifest is None and is_index and request.platform not in platforms:
            raise no_platform(request, platforms)
        outlook = first_outlook(request, manifest.digest if manifest else digest, there and there[0], is_index)
        lacks_repository = False
        if there is not None:
            if not self._is_same(request, outlook.source_digest, there[0], manifest):
                raise moved_tag(request.target, outlook.source_digest, there[0])
            outlook = replace(outlook, notes=_about_digests(outlook.source_digest, there[0]))
        else:
            if manifest is None:
                unseen = f"the media types of its layers were not checked: no connection to {request.source.registry}"
                outlook = replace(outlook, notes=(unseen,))
            else:
                config = manifest.config if request.runs_on else None
                content = self._ask(request.source, lambda source: source.blob(config)) if config else None
                pass_gate(request, manifest, content)
                outlook = replace(outlook, bytes_copied=manifest.size, blobs_copied=len(manifest.blobs))
            # If the registry is out of reach, the repository is taken to exist.
            exists = not request.in_ecr or self._ask(request.target, Repository.exists)
            lacks_repository = exists is False
        outlook = replace(outlook, seconds=time.monotonic() - began)
        subjects = tuple({outlook.source_digest: None, digest: None})
        return CheckedCopy(request, outlook, manifest, lacks_repository=lacks_repository, subjects=subjects)

    def copy(self, checked: CheckedCopy, progress: Progress) -> ImageCopy:
        """Pull by digest, check what was pulled, push, read back."""
        if checked.is_done:
            return checked.outlook
        began, request = time.monotonic(), checked.request
        self._ask(request.target, Repository.check_push, PULL_AND_PUSH)
        repository = self._ask(request.source, lambda source: source)
        lookup = look_up_attachments(repository, checked) if repository else None
        source = replace(request.source, tag=None, digest=checked.outlook.source_digest)
        image = self._pull(source, request.platform if request.runs_on or checked.outlook.platform else None, progress)
        platform = Platform(str(image["Os"]), str(image["Architecture"]))
        if request.runs_on and platform != request.platform:
            raise not_runnable(request, f"it is built for {platform}, not for {request.platform}")
        if request.runs_on and (problem := too_large(int(image["Size"]), request.runs_on)):
            raise not_runnable(request, problem)
        digest, layers, bytes_sent = self._push(str(image["Id"]), request.target, progress)
        self._read_back(request.target, request.runs_on, digest)
        copied = replace(
            checked.outlook,
            target_digest=digest,
            platform=str(platform),
            status="copied",
            bytes_copied=bytes_sent,
            blobs_copied=layers.count("Pushed"),
            blobs_mounted=sum(layer.startswith("Mounted from") for layer in layers),
            blobs_skipped=layers.count("Layer already exists"),
            seconds=checked.outlook.seconds + time.monotonic() - began,
            notes=(*checked.outlook.notes, *_about_digests(checked.outlook.source_digest, digest)),
        )
        return with_attachments(copied, lookup, only_image=_ONLY_IMAGE) if lookup else copied

    def digest(self, reference: ImageReference) -> str | None:
        """The digest of a tag in a registry; None if it does not exist."""
        found = self._find(reference)
        return found[0] if found else None

    def check_new(self, target: ImageReference) -> None:
        """Raises an error if an image must not be published as `target`: the tag exists, or a push is not allowed."""
        self._ask(target, Repository.check_push, PULL_AND_PUSH)
        if self._find(target) is not None:
            raise RefusedError(f"{target} already exists", hint="A published tag keeps its image. Choose another tag.")

    def publish(self, image_id: str, target: ImageReference, runs_on: RunsOn | None, progress: Progress) -> str:
        """Push an image of the engine under `target`'s tag; returns its digest, read back."""
        digest, _, _ = self._push(image_id, target, progress)
        self._read_back(target, runs_on, digest)
        return digest

    def _find(self, reference: ImageReference) -> tuple[str, bool, tuple[Platform, ...]] | None:
        """Digest, whether it is an index, and its platforms if known, asked through the engine; None if not found."""
        api = self._api  # first: its error says how to install the SDK
        from docker.errors import NotFound

        with self._explained("reading", reference):
            try:
                found = api.inspect_distribution(str(reference), self._login(reference))
            except NotFound:
                return None
        platforms = tuple(
            Platform(str(item["os"]), str(item["architecture"]))
            for item in found.get("Platforms") or ()
            if item["os"] != "unknown"
        )
        return str(found["Descriptor"]["digest"]), found["Descriptor"]["mediaType"] in INDEX_TYPES, platforms

    def _manifest(self, request: CopyRequest, digest: str) -> Manifest | None:
        """The image's manifest by the engine's digest; None if the registry is out of reach."""
        manifest = self._ask(request.source, lambda source: source.find(digest))
        if manifest is not None and manifest.is_index:
            entry = choose_platform(manifest, request)
            return self._ask(request.source, lambda source: source.find(entry.digest))
        return manifest

    def _is_same(self, request: CopyRequest, digest: str, there: str, manifest: Manifest | None) -> bool:
        """Whether the target's tag is this image, maybe compressed again by the engine: then its config is the same."""
        if digest == there:
            return True
        known = self._ask(request.target, lambda target: target.find(there)) if manifest else None
        if manifest and manifest.config and known and known.config:
            return manifest.config.digest == known.config.digest
        source, target = (
            self._pull(replace(reference, tag=None, digest=found), request.platform, Progress())
            for reference, found in ((request.source, digest), (request.target, there))
        )
        return bool(source["Id"] == target["Id"])

    def _read_back(self, target: ImageReference, runs_on: RunsOn | None, pushed: str) -> None:
        found = self._find(target)
        if found is None or found[0] != pushed:
            raise read_back_differs(target, found[0] if found else None, pushed)
        if runs_on is not None and found[1]:  # with containerd's image store
            raise RefinerctlError(
                f"the Docker engine pushed {target} as an index, which {runs_on.label} does not run",
                hint="Remove the tag, and use --engine registry.",
            )

    def _ask(
        self, reference: ImageReference, question: Callable[[Repository], Told], actions: str = PULL
    ) -> Told | None:
        """The registry's own answer, refusals included; None if the registry is out of reach."""
        host = str(reference.registry)
        if host in self._out_of_reach:
            return None
        try:
            return question(self._registry(host).repository(reference.repository, actions))
        except (AccessDeniedError, NotFoundError, RefusedError):
            raise
        except RefinerctlError:
            self._out_of_reach.add(host)
            return None

    def _pull(self, reference: ImageReference, platform: Platform | None, progress: Progress) -> dict[str, Any]:
        """The pulled image as the engine describes it; `Id` is the digest of its config, `Size` is uncompressed."""
        with self._explained("pulling", reference):
            stream = self._api.pull(
                reference.name,
                tag=reference.digest,
                platform=str(platform) if platform else None,
                auth_config=self._login(reference),
                stream=True,
                decode=True,
            )
            for _ in _followed(stream, progress):
                pass
            image: dict[str, Any] = self._api.inspect_image(str(reference))
            return image

    def _push(self, image_id: str, target: ImageReference, progress: Progress) -> tuple[str, list[str], int]:
        """Push under `target`'s tag: digest, the final status of each layer, uncompressed bytes sent."""
        digest, statuses, bytes_sent = "", list[str](), dict[str, int]()
        with self._explained("pushing", target), self._tagged(image_id, target):
            login = self._login(target)
            stream = self._api.push(target.name, tag=target.tag, auth_config=login, stream=True, decode=True)
            for event in _followed(stream, progress):
                digest = str((event.get("aux") or {}).get("Digest") or digest)
                statuses.append(str(event.get("status", "")))
                if statuses[-1] == "Pushing" and (current := (event.get("progressDetail") or {}).get("current")):
                    bytes_sent[str(event.get("id"))] = int(current)
            if not digest:
                raise _StreamError("it ended without a digest")
        return digest, statuses, sum(bytes_sent.values())

    @property
    def _api(self) -> Any:  # partly untyped in the SDK
        return self._engine.client().api

    @contextlib.contextmanager
    def _tagged(self, image_id: str, target: ImageReference) -> Iterator[None]:
        """The target's tag in the engine, restored afterwards."""
        from docker.errors import ImageNotFound

        try:
            before = str(self._api.inspect_image(str(target))["Id"])
        except ImageNotFound:
            before = None
        self._api.tag(image_id, target.name, target.tag)
        try:
            yield
        finally:
            if before is None:
                self._api.remove_image(str(target), noprune=True)
            else:
                self._api.tag(before, target.name, target.tag)

    @contextlib.contextmanager
    def _explained(self, what: str, reference: ImageReference) -> Iterator[None]:
        """The SDK's errors, and those in the engine's stream, as errors with a hint."""
        from docker.errors import APIError, DockerException
        from requests import RequestException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (_StreamError, APIError) as error:
            said = str(getattr(error, "explanation", None) or error)
            words = " ".join(_QUERY.sub("?…", said).split())[:500]
            if not _DENIED.search(words):
                raise RefinerctlError(f"{what} {reference} through the Docker engine failed: {words}") from None
            host, actions = str(reference.registry), PULL_AND_PUSH if what == "pushing" else PULL
            scopes = (f"repository:{reference.repository}:{actions}",)
            raise denied(host, self._logins(host), scopes, f"the Docker engine says: {words}") from None
        except (DockerException, RequestException, HTTPError) as error:
            raise RefinerctlError(
                f"{what} {reference} failed: the Docker engine does not answer ({type(error).__name__})",
                hint="Check the engine's log.",
            ) from error

    def _login(self, reference: ImageReference) -> dict[str, str]:
        """For one call. Empty is anonymous: with None the SDK would look for a login of its own."""
        login = self._logins(str(reference.registry))
        if login is None:
            return {}
        if login.identity_token:
            return {"identitytoken": login.identity_token}
        return {"username": login.username, "password": login.password}


class _StreamError(Exception):
    """A failure that the engine reports as an event of its stream."""


def _followed(events: Iterable[dict[str, Any]], progress: Progress) -> Iterator[dict[str, Any]]:
    """The same events, reported to `progress`. Raises _StreamError for a failure."""
    sizes: dict[str, int] = {}
    for event in events:
        if error := event.get("error") or (event.get("errorDetail") or {}).get("message"):
            raise _StreamError(str(error))
        status, layer = str(event.get("status", "")), str(event.get("id", ""))
        part = f"{'push' if status.startswith('Push') else 'pull'} {layer}"
        detail = event.get("progressDetail") or {}
        if status in ("Downloading", "Pushing") and "current" in detail:
            sizes[part] = int(detail.get("total") or 0)
            progress.part(part, int(detail["current"]), sizes[part])
        elif status in ("Download complete", "Pushed") and part in sizes:
            progress.part(part, sizes[part], sizes[part])
        elif status.startswith("Retrying"):
            progress.update(f"the engine retries layer {layer}")
        yield event


def _about_digests(source: str, target: str) -> tuple[str, ...]:
    return (
        () if source == target else (f"the Docker engine compressed the layers again: digest {source} became {target}",)
    )
