"""A registry and its repositories: manifests, tags, blobs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import HTTPException
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.http import Response, is_loopback
from refinerctl.images import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Manifest,
    digest_of,
    is_digest,
    parse_manifest,
)
from refinerctl.registry.answers import joined, next_page, origin, reason, tags_of
from refinerctl.registry.auth import Authorizer, Scopes, denied
from refinerctl.registry.credentials import DOCKER_HUB_HOSTS, Credentials
from refinerctl.registry.download import verified
from refinerctl.transport import (
    SMALL_ANSWER_BYTES,
    Answer,
    Limits,
    Tell,
    Transport,
    TransportError,
    base_url,
    lost,
    read,
)

PULL = "pull"
PULL_AND_PUSH = "pull,push"

# One send has to get through before the connection times out, on a slow line, too.
CHUNK_BYTES = 512 * 1024
# What a registry may take to check and store a blob before it answers: 20 MB/s.
SLOWEST_STORE = 20e6
TAGS_PER_PAGE = 1000
# More than any repository has: a registry that goes on and on is broken, or wants our memory.
MAX_PAGES = 10_000
MAX_TAGS = 1_000_000
MAX_HOPS = 8

OK, CREATED, ACCEPTED, NO_CONTENT, PARTIAL = 200, 201, 202, 204, 206
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404
REDIRECTS = (301, 302, 303, 307, 308)
# How registries say that the last PUT of an upload may carry no body.
BODY_REFUSED = (400, 404, 405, 411, 415, 416, 501)

_ACCEPT = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}

AnyResponse = TypeVar("AnyResponse", Answer, Response)
Body = Callable[[], Iterable[memoryview]]


class Registry:
    """One registry by its host name, as it stands in image references. Safe to share between threads.

    `tell` hears of each request that is tried again.
    """

    def __init__(
        self, host: str, credentials: Credentials, limits: Limits | None = None, tell: Tell = lambda _: None
    ) -> None:
        self.host = host
        self.transport = Transport(limits or Limits(), tell)
        # Whether blobs have to be sent by PATCH: learnt when the first is refused.
        self.sends_by_patch = False
        self._base = base_url("registry-1.docker.io" if host in DOCKER_HUB_HOSTS else host)
        self._auth = Authorizer(host, credentials, self.transport.fetch)

    def repository(self, name: str, actions: str = PULL) -> Repository:
        """Repository `name`. `actions` are what the token is asked for: PULL or PULL_AND_PUSH."""
        full = f"library/{name}" if self.host in DOCKER_HUB_HOSTS and "/" not in name else name
        return Repository(self, full, actions)

    def fetch(
        self, method: str, url: str, scopes: Scopes, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """A small answer, whatever its status but 401 and 403, which raise AccessDeniedError. `url` may be a path."""
        return self._exchange(
            method, url, scopes, headers, lambda to, given: self.transport.fetch(method, to, given, body)
        )

    def open(self, url: str, scopes: Scopes, headers: Mapping[str, str]) -> Response:
        """GET with the body still to be read, once."""
        return self._exchange("GET", url, scopes, headers, lambda to, given: self.transport.send("GET", to, given))

    def send(self, method: str, url: str, scopes: Scopes, headers: Mapping[str, str], body: Body, size: int) -> Answer:
        """Stream `size` bytes, once; `body` gives them from the beginning each time that it is called."""

        def send(to: str, given: Mapping[str, str]) -> Answer:
            return read(self.transport.send(method, to, given, body(), patience_s=size / SLOWEST_STORE))

        return self._exchange(method, url, scopes, {**headers, "Content-Length": str(size)}, send)

    def _exchange(
        self,
        method: str,
        url: str,
        scopes: Scopes,
        headers: Mapping[str, str] | None,
        send: Callable[[str, Mapping[str, str]], AnyResponse],
    ) -> AnyResponse:
        """Log in where a 401 asks for it, follow redirects; no other host than the registry sees the Authorization."""
        url, challenged = joined(self._base, url), False
        for _ in range(MAX_HOPS):
            ours = origin(url) == origin(self._base)
            login = self._auth.header(scopes) if ours else None
            response = send(url, {**(headers or {}), **({"Authorization": login} if login else {})})
            location = response.headers.get("Location")
            if response.status in REDIRECTS and location and method in ("GET", "HEAD"):
                url = self._redirected(url, location)
            elif response.status == UNAUTHORIZED and ours and not challenged:
                challenged = True
                if not self._auth.learn(response.headers.get("WWW-Authenticate") or "", scopes, login):
                    raise denied(self.host, self._auth.user, scopes, reason(_whole(response)))
            elif response.status in (UNAUTHORIZED, FORBIDDEN) and ours:
                raise denied(self.host, self._auth.user, scopes, reason(_whole(response)))
            else:
                return response
            _whole(response)  # frees the connection
        raise RefinerctlError(f"{self.host} redirects in a circle")

    def _redirected(self, url: str, location: str) -> str:
        target = joined(url, location)
        if is_loopback(urlsplit(target).netloc) and not is_loopback(self.host):
            raise RefinerctlError(f"{self.host} redirects to a server on this machine, which is none of its own")
        return target

    def failed(self, what: str, answer: Answer) -> RefinerctlError:
        """An answer that nothing can be done about, in the registry's own words."""
        return RefinerctlError(f"{self.host}: {what} failed: {reason(answer)}")


class Repository:
    """One repository. Its blobs and manifests are verified by digest as they are read."""

    def __init__(self, registry: Registry, path: str, actions: str) -> None:
        self.registry = registry
        self.path = path
        self.name = f"{registry.host}/{path}"
        self._scopes: Scopes = (f"repository:{path}:{actions}",)

    def find(self, reference: str) -> Manifest | None:
        """The manifest of a tag or digest; None if there is none."""
        return self.registry.transport.retried(self.name, lambda: self._find(reference))

    def _find(self, reference: str) -> Manifest | None:
        answer = self.registry.fetch("GET", self._url("manifests", reference), self._scopes, _ACCEPT)
        if answer.status == NOT_FOUND:
            return None
        if answer.status != OK:
            raise self.registry.failed(f"reading {self.name}:{reference}", answer)
        expected = reference if is_digest(reference) else answer.headers.get("Docker-Content-Digest", "")
        if is_digest(expected) and digest_of(answer.body) != expected:
            raise TransportError(f"the manifest of {self.name} does not have its digest {expected}")
        return parse_manifest(answer.body, answer.headers.get("Content-Type") or "")

    def manifest(self, reference: str) -> Manifest:
        """The same; raises NotFoundError if there is none."""
        found = self.find(reference)
        if found is None:
            raise NotFoundError(f"there is no {self._named(reference)}")
        return found

    def digest(self, reference: str) -> str | None:
        """The digest that a tag stands for; None if there is no such tag or manifest."""
        answer = self.registry.fetch("HEAD", self._url("manifests", reference), self._scopes, _ACCEPT)
        if answer.status == NOT_FOUND:
            return None
        given = answer.headers.get("Docker-Content-Digest", "")
        if answer.status == OK and is_digest(given):
            return given
        found = self.find(reference)
        return found.digest if found else None

    def exists(self) -> bool:
        """Whether the registry has the repository. One that makes repositories on the first push has none before."""
        answer = self.registry.fetch("GET", f"{self._url('tags', 'list')}?n=1", self._scopes)
        if answer.status not in (OK, NOT_FOUND):
            raise self.registry.failed(f"asking for {self.name}", answer)
        return answer.status == OK

    def tags(self) -> list[str]:
        """All tags, each once, in the registry's order. Raises NotFoundError without the repository."""
        tags: dict[str, None] = {}
        pages: set[str] = set()
        url: str | None = f"{self._url('tags', 'list')}?n={TAGS_PER_PAGE}"
        while url and url not in pages:
            pages.add(url)
            answer = self.registry.fetch("GET", url, self._scopes)
            if answer.status == NOT_FOUND:
                raise NotFoundError(f"there is no repository {self.name}")
            if answer.status != OK:
                raise self.registry.failed(f"listing the tags of {self.name}", answer)
            tags.update(dict.fromkeys(tags_of(answer.body)))
            if len(pages) > MAX_PAGES or len(tags) > MAX_TAGS:
                raise RefinerctlError(f"{self.name} has no end of tags: {len(tags)} in {len(pages)} pages")
            url = next_page(url, answer.headers.get("Link"))
        return list(tags)

    def has_blob(self, digest: str) -> bool:
        answer = self.registry.fetch("HEAD", self._url("blobs", digest), self._scopes)
        if answer.status not in (OK, NOT_FOUND):
            raise self.registry.failed(f"asking {self.name} for {digest}", answer)
        return answer.status == OK

    def blob(self, blob: Descriptor) -> bytes:
        """A small blob such as an image's config, verified. Raises RefinerctlError for more than 8 MiB."""
        if blob.size > SMALL_ANSWER_BYTES:
            raise RefinerctlError(f"{blob.digest} of {self.name} has {blob.size} bytes; that is no config")
        return self.registry.transport.retried(self.name, lambda: b"".join(map(bytes, verified(self, blob))))

    def read_blob(self, blob: Descriptor, offset: int = 0) -> Iterator[memoryview]:
        """What there is of the blob's bytes from `offset` on, as they come, unverified: good until the next ones.

        Raises TransportError where they break off, NotFoundError if there is no such blob.
        """
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        response = self.registry.open(self._url("blobs", blob.digest), self._scopes, headers)
        try:
            self._check_blob(response, blob, offset)
            skip = offset if response.status == OK else 0  # then the server does not know ranges
            left = skip + blob.size - offset
            buffer = memoryview(bytearray(min(left, CHUNK_BYTES)))
            while left and (count := response.readinto(buffer[:left])):
                left -= count
                if skip < count:
                    yield buffer[skip:count]
                skip = max(0, skip - count)
            if left:
                raise TransportError(f"{blob.digest} from {self.name} broke off")
        except (HTTPException, OSError) as error:
            raise lost(self.registry.host, error) from error
        finally:
            response.close()

    def _check_blob(self, response: Response, blob: Descriptor, offset: int) -> None:
        if response.status == NOT_FOUND:
            raise NotFoundError(f"{self.name} has no blob {blob.digest}, which its manifest names")
        if response.status in (UNAUTHORIZED, FORBIDDEN):  # where we were redirected to: ask for another address
            raise TransportError(f"the storage of {self.registry.host} answers {response.status}")
        if response.status == PARTIAL and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            return
        if response.status != OK:
            raise self.registry.failed(f"reading {blob.digest} of {self.name}", read(response))

    def start_upload(self, blob: Descriptor, mount_from: Repository | None = None) -> str | None:
        """Open an upload: where to send the bytes; None if the registry took the blob over from `mount_from`."""
        url, scopes = f"{self._url('blobs', 'uploads')}/", self._scopes
        if mount_from is not None:
            url += "?" + urlencode({"mount": blob.digest, "from": mount_from.path})
            scopes = (*self._scopes, f"repository:{mount_from.path}:{PULL}")
        answer = self.registry.fetch("POST", url, scopes, {"Content-Length": "0"})
        if answer.status == CREATED and mount_from is not None:
            return None
        if answer.status == NOT_FOUND:
            raise NotFoundError(f"there is no repository {self.name}")
        if answer.status != ACCEPTED or not answer.headers.get("Location"):
            raise self.registry.failed(f"starting an upload to {self.name}", answer)
        return joined(url, answer.headers["Location"])

    def may_push(self) -> bool:
        """True, or AccessDeniedError or NotFoundError as for a push: opens an upload and calls it off."""
        location = self.start_upload(Descriptor("application/octet-stream", digest_of(b""), 0))
        with contextlib.suppress(RefinerctlError):  # then it runs out there
            self.registry.fetch("DELETE", location or "", self._scopes)
        return True

    def upload(self, blob: Descriptor, location: str, body: Body) -> None:
        """Send a blob to where `start_upload` said; `body` gives its bytes from the beginning on each call.

        Raises TransportError if it breaks: an upload that has failed is started anew.
        """
        if not self.registry.sends_by_patch:
            answer = self._send("PUT", _with_digest(location, blob), blob, body)
            if answer.status in (CREATED, NO_CONTENT):
                return
            if answer.status not in BODY_REFUSED:
                raise self.registry.failed(f"storing {blob.digest} in {self.name}", answer)
            self.registry.sends_by_patch = True
            location = self.start_upload(blob) or location
        answer = self._send("PATCH", location, blob, body)
        if answer.status in (ACCEPTED, NO_CONTENT, CREATED):
            location = joined(location, answer.headers.get("Location") or location)
            url = _with_digest(location, blob)
            answer = self.registry.fetch("PUT", url, self._scopes, {"Content-Length": "0"})
        if answer.status not in (CREATED, NO_CONTENT):
            self.registry.sends_by_patch = False  # then it was something else that the registry did not like
            raise self.registry.failed(f"storing {blob.digest} in {self.name}", answer)

    def _send(self, method: str, url: str, blob: Descriptor, body: Body) -> Answer:
        headers = {"Content-Type": "application/octet-stream"}
        return self.registry.send(method, url, self._scopes, headers, body, blob.size)

    def push_manifest(self, manifest: Manifest, reference: str) -> None:
        """Put the manifest's very bytes under a tag, or under its digest."""
        url, headers = self._url("manifests", reference), {"Content-Type": manifest.media_type}
        answer = self.registry.fetch("PUT", url, self._scopes, headers, manifest.raw)
        if answer.status == NOT_FOUND:
            raise NotFoundError(f"there is no repository {self.name}")
        if answer.status not in (CREATED, OK, ACCEPTED):
            raise self.registry.failed(f"pushing {self._named(reference)}", answer)

    def _named(self, reference: str) -> str:
        return f"{self.name}{'@' if is_digest(reference) else ':'}{reference}"

    def _url(self, kind: str, reference: str) -> str:
        return f"/v2/{quote(self.path)}/{kind}/{quote(reference, safe=':')}"


def _with_digest(location: str, blob: Descriptor) -> str:
    return f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': blob.digest})}"


def _whole(response: Answer | Response) -> Answer:
    return response if isinstance(response, Answer) else read(response)
