"""A registry and its repositories: requests with login, redirects and retries; manifests, tags and blobs."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from refinerctl.addresses import base_url, check_reach, joined
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import INDEX_TYPES, MANIFEST_TYPES, is_digest, is_tag
from refinerctl.registry.auth import Authorizer, Scopes
from refinerctl.registry.credentials import DOCKER_HUB_HOSTS, Logins
from refinerctl.registry.manifests import Descriptor, Manifest, digest_of, parse_manifest
from refinerctl.transport import SMALL_BODY_BYTES, Response, Transport, TransportError

PULL = "pull"
PULL_AND_PUSH = "pull,push"

# Minimum rate at which a registry checks and stores a blob before it responds.
STORED_BYTES_PER_S = 20e6
# A download with this much progress since the last interruption is not given up.
PROGRESS_BYTES = 1024**2
TAGS_PER_PAGE = 1000
# More than any repository has: otherwise the registry is faulty, or tries to exhaust the memory.
MAX_PAGES = 10_000
MAX_TAGS = 1_000_000

OK, CREATED, ACCEPTED, NO_CONTENT, PARTIAL = 200, 201, 202, 204, 206
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404
# How registries answer for what they do not have or do not know.
UNSUPPORTED = (400, 404, 405, 501)
# How registries refuse a body in the last PUT of an upload.
BODY_REFUSED = (400, 404, 405, 411, 415, 416, 501)

_ACCEPT = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}

MAX_HOPS = 8
REDIRECTS = (301, 302, 303, 307, 308)

# Content that is sent in pieces is created again for each attempt.
Content = bytes | Callable[[], Iterable[bytes]] | None


class Registry:
    """One registry by its host name, as image references have it. Safe to share between threads."""

    def __init__(self, host: str, logins: Logins, transport: Transport) -> None:
        self.host = host
        self.transport = transport
        # Whether blobs have to be sent by PATCH: known after the first refusal.
        self.sends_by_patch = False
        self._base = base_url("registry-1.docker.io" if host in DOCKER_HUB_HOSTS else host)
        self._auth = Authorizer(host, logins, transport.fetch)

    def repository(self, name: str, actions: str = PULL) -> Repository:
        """Repository `name`. The token is asked for `actions`: PULL or PULL_AND_PUSH."""
        full = f"library/{name}" if self.host in DOCKER_HUB_HOSTS and "/" not in name else name
        return Repository(self, full, actions)

    def fetch(
        self, scopes: Scopes, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """A small response, read whole; retried. `url` may be a path. Raises AccessDeniedError for 401 and 403."""
        retry = self.transport.retry(self.host)
        return retry.run(lambda: self.open(scopes, method, url, headers, body).whole())

    def open(
        self,
        scopes: Scopes,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Content = None,
        patience_s: float = 0.0,
    ) -> Response:
        """A response whose body is not yet read; one attempt. Logs in after a 401, follows redirects of GET and HEAD.

        Only the registry itself gets the Authorization header.
        """
        url, challenged = joined(self._base, url), False
        for _ in range(MAX_HOPS):
            own = origin(url) == origin(self._base)
            login = self._auth.header(scopes) if own else None
            sent = {**(headers or {}), **({"Authorization": login} if login else {})}
            response = self.transport.send(method, url, sent, body() if callable(body) else body, patience_s)
            location = response.headers.get("Location")
            if response.status in REDIRECTS and location and method in ("GET", "HEAD"):
                url = self.led_to(url, location)
            elif response.status in (UNAUTHORIZED, FORBIDDEN) and own:
                challenge = response.headers.get("WWW-Authenticate") or ""
                is_new = response.status == UNAUTHORIZED and not challenged
                if not is_new or not self._auth.learn(challenge, scopes, login):
                    raise self._auth.denied(scopes, _reason(response))
                challenged = True
            else:
                return response
            response.whole()  # frees the connection
        raise RefinerctlError(f"too many redirects from {self.host}")

    def led_to(self, url: str, location: str) -> str:
        """The URL that a Location header at `url` names. Raises RefinerctlError if it must not be followed."""
        target = joined(joined(self._base, url), location)
        check_reach(self.host, target)
        return target

    def failed(self, what: str, response: Response) -> RefinerctlError:
        """The error for a response that a retry does not change, in the registry's own words."""
        return RefinerctlError(f"{self.host}: {what} failed: {_reason(response)}")


class Repository:
    """Repository `path` of a registry. `actions` are those that the token is asked for."""

    def __init__(self, registry: Registry, path: str, actions: str) -> None:
        self.registry = registry
        self.path = path
        self.name = f"{registry.host}/{path}"
        self._scopes: Scopes = (f"repository:{path}:{actions}",)
        self._fetch = partial(registry.fetch, self._scopes)
        self._open = partial(registry.open, self._scopes)

    def find(self, reference: str) -> Manifest | None:
        """The manifest of a tag or digest; None if it does not exist."""
        return self.registry.transport.retry(self.name).run(partial(self._find, reference))

    def _find(self, reference: str) -> Manifest | None:
        response = self._fetch("GET", self._url("manifests", reference), _ACCEPT)
        if response.status == NOT_FOUND:
            return None
        if response.status != OK:
            raise self.registry.failed(f"reading {self.named(reference)}", response)
        expected = reference if is_digest(reference) else response.headers.get("Docker-Content-Digest", "")
        if is_digest(expected) and digest_of(response.body) != expected:
            raise TransportError(f"the manifest of {self.name} does not match its digest {expected}")
        return parse_manifest(response.body, response.headers.get("Content-Type") or "")

    def manifest(self, reference: str) -> Manifest:
        """The same; raises NotFoundError if it does not exist."""
        found = self.find(reference)
        if found is None:
            raise NotFoundError(f"{self.named(reference)} does not exist")
        return found

    def look_up(self, kind: str, reference: str, method: str = "GET") -> Response | None:
        """The response to one attempt, for optional information; None if the registry has no such document or API."""
        response = self._open(method, self._url(kind, reference), _ACCEPT).whole()
        if response.status in UNSUPPORTED:
            return None
        if response.status != OK:
            raise self.registry.failed(f"reading {kind} {self.named(reference)}", response)
        return response

    def exists(self) -> bool:
        """Whether the repository exists. A registry that creates repositories on the first push has none before."""
        return self._has("GET", f"{self._url('tags', 'list')}?n=1", self.name)

    def tags(self) -> list[str]:
        """All tags, each once, in the registry's order. Raises NotFoundError without the repository."""
        tags: dict[str, None] = {}
        pages: set[str] = set()
        url: str | None = f"{self._url('tags', 'list')}?n={TAGS_PER_PAGE}"
        while url and url not in pages:
            pages.add(url)
            response = self._fetch("GET", url)
            if response.status == NOT_FOUND:
                raise self._missing()
            if response.status != OK:
                raise self.registry.failed(f"listing the tags of {self.name}", response)
            tags.update(dict.fromkeys(_tags_of(response)))
            if len(pages) > MAX_PAGES or len(tags) > MAX_TAGS:
                raise RefinerctlError(f"{self.name} has too many tags: {len(tags)} in {len(pages)} pages")
            url = _next_page(url, response.headers.get("Link"))
        return list(tags)

    def has_blob(self, digest: str) -> bool:
        return self._has("HEAD", self._url("blobs", digest), f"{digest} of {self.name}")

    def _has(self, method: str, url: str, what: str) -> bool:
        response = self._fetch(method, url)
        if response.status not in (OK, NOT_FOUND):
            raise self.registry.failed(f"looking up {what}", response)
        return response.status == OK

    def blob(self, blob: Descriptor) -> bytes:
        """A small blob such as an image's config, verified. Raises RefinerctlError for more than 8 MiB."""
        if blob.size > SMALL_BODY_BYTES:
            raise RefinerctlError(
                f"{blob.digest} of {self.name} has {blob.size} bytes, which is too large for an image config"
            )
        return self.registry.transport.retry(self.name).run(lambda: b"".join(self.read(blob)))

    def read(self, blob: Descriptor) -> Iterator[bytes]:
        """A blob's bytes, resumed after each break; the last ones come only if digest and size are right.

        Raises TransportError if the connection breaks too often or the bytes are others, NotFoundError.
        """
        retry = self.registry.transport.retry(f"{self.name} {blob.digest[:19]}…")
        sha, done, last_break, last = hashlib.sha256(), 0, 0, b""
        while done < blob.size:
            headers = {"Range": f"bytes={done}-"} if done else {}
            try:
                response = self._open("GET", self._url("blobs", blob.digest), headers)
                self._check_blob(response, blob, done)
                for chunk in _chunks_from(response, done, blob.size):
                    sha.update(chunk)
                    done += len(chunk)
                    if done == blob.size:
                        last = chunk
                    else:
                        yield chunk
                if done < blob.size:
                    raise TransportError(f"the download of {blob.digest} from {self.name} was interrupted")  # noqa: TRY301
            except TransportError as error:
                if done - last_break >= PROGRESS_BYTES:
                    retry.progressed()
                retry.wait(error)
                last_break = done
        if blob.digest != f"sha256:{sha.hexdigest()}":
            raise TransportError(
                f"{blob.digest} of {self.name} is corrupted: the digest of its bytes is sha256:{sha.hexdigest()}",
                hint="The registry's storage or a proxy may be faulty. Push the image again.",
            )
        if last:
            yield last

    def _check_blob(self, response: Response, blob: Descriptor, offset: int) -> None:
        if response.status == NOT_FOUND:
            raise NotFoundError(f"blob {blob.digest} of {self.name} does not exist, although a manifest refers to it")
        if response.status in (UNAUTHORIZED, FORBIDDEN):  # from the redirect's target: its signature may have expired
            raise TransportError(f"the storage of {self.registry.host} returned {response.status}")
        if response.status == PARTIAL and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            return
        if response.status != OK:
            raise self.registry.failed(f"reading {blob.digest} of {self.name}", response)

    def start_upload(self, blob: Descriptor, mount_from: Repository | None = None) -> str | None:
        """Start an upload: the URL for the bytes; None if the registry mounted the blob from `mount_from`."""
        url, scopes = f"{self._url('blobs', 'uploads')}/", self._scopes
        if mount_from is not None:
            url += "?" + urlencode({"mount": blob.digest, "from": mount_from.path})
            scopes = (*self._scopes, f"repository:{mount_from.path}:{PULL}")
        response = self.registry.fetch(scopes, "POST", url, {"Content-Length": "0"})
        if response.status == CREATED and mount_from is not None:
            return None
        if response.status == NOT_FOUND:
            raise self._missing()
        location = response.headers.get("Location")
        if response.status != ACCEPTED or not location:
            raise self.registry.failed(f"starting an upload to {self.name}", response)
        return self.registry.led_to(url, location)

    def check_push(self) -> None:
        """Start an upload and cancel it. Raises AccessDeniedError or NotFoundError as a push would."""
        location = self.start_upload(Descriptor("application/octet-stream", digest_of(b""), 0))
        with contextlib.suppress(RefinerctlError):  # the registry cancels it later
            self._fetch("DELETE", location or "")

    def upload(self, blob: Descriptor, location: str, content: Callable[[], Iterable[bytes]]) -> None:
        """Send a blob to the URL of `start_upload`; `content` gives its bytes from the start, each time it is called.

        Raises TransportError if it breaks: a failed upload is started anew.
        """
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        patience_s = blob.size / STORED_BYTES_PER_S
        if not self.registry.sends_by_patch:
            url = _with_digest(location, blob)
            response = self._open("PUT", url, headers, content, patience_s).whole()
            if response.status in (CREATED, NO_CONTENT):
                return
            if response.status not in BODY_REFUSED:
                raise self.registry.failed(f"storing {blob.digest} in {self.name}", response)
            self.registry.sends_by_patch = True
            location = self.start_upload(blob) or location
        response = self._open("PATCH", location, headers, content, patience_s).whole()
        if response.status in (ACCEPTED, NO_CONTENT, CREATED):
            location = self.registry.led_to(location, response.headers.get("Location") or location)
            response = self._fetch("PUT", _with_digest(location, blob), {"Content-Length": "0"})
        if response.status not in (CREATED, NO_CONTENT):
            self.registry.sends_by_patch = False  # rejected for another reason
            raise self.registry.failed(f"storing {blob.digest} in {self.name}", response)

    def push_manifest(self, manifest: Manifest, reference: str) -> None:
        """Put the manifest, byte for byte, under a tag or under its digest."""
        url, headers = self._url("manifests", reference), {"Content-Type": manifest.media_type}
        response = self._fetch("PUT", url, headers, manifest.raw)
        if response.status == NOT_FOUND:
            raise self._missing()
        if response.status not in (CREATED, OK, ACCEPTED):
            raise self.registry.failed(f"pushing {self.named(reference)}", response)

    def named(self, reference: str) -> str:
        return f"{self.name}{'@' if is_digest(reference) else ':'}{reference}"

    def _missing(self) -> NotFoundError:
        return NotFoundError(f"repository {self.name} does not exist")

    def _url(self, kind: str, reference: str) -> str:
        return f"/v2/{quote(self.path)}/{kind}/{quote(reference, safe=':')}"


def _chunks_from(response: Response, offset: int, size: int) -> Iterator[bytes]:
    """A blob's bytes from `offset` on, at most `size` - `offset`."""
    skip = offset if response.status == OK else 0  # a server without ranges sends the whole blob
    left = size - offset
    with contextlib.closing(response.chunks()) as chunks:
        for chunk in chunks:
            wanted = chunk[skip : skip + left]
            skip = max(0, skip - len(chunk))
            left -= len(wanted)
            if wanted:
                yield wanted
            if not left:
                return


def _with_digest(location: str, blob: Descriptor) -> str:
    return f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': blob.digest})}"


def _tags_of(response: Response) -> list[str]:
    """The valid tags: others cannot be requested, or contain control characters."""
    try:
        return [tag for tag in map(str, json.loads(response.body).get("tags") or []) if is_tag(tag)]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise RefinerctlError(f"the list of tags of {response.host} cannot be read: {error}") from error


def _next_page(url: str, link: str | None) -> str | None:
    """https://www.rfc-editor.org/rfc/rfc8288: `<url>; rel="next"`. A path: the next page is the registry's own."""
    for part in (link or "").split(","):
        target, _, parameters = part.strip().partition(">")
        if target.startswith("<") and 'rel="next"' in parameters.replace("rel=next", 'rel="next"'):
            following = urlsplit(joined(url, target[1:]))
            return f"{following.path}?{following.query}"
    return None


def _reason(response: Response) -> str:
    """https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes"""
    try:
        error: dict[str, Any] = json.loads(response.body)["errors"][0]
        code, message = str(error.get("code") or ""), str(error.get("message") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return str(response.status)
    return f"{response.status} {code}: {message[:300]}"


def origin(url: str) -> tuple[str, str | None, int | None]:
    """https://www.rfc-editor.org/rfc/rfc6454: scheme, host and port, however they are written."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError as error:
        raise RefinerctlError("the server sent an invalid URL in a header") from error
