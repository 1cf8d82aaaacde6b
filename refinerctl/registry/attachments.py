"""What a registry has about an image: signatures, attestations, SBOMs and other artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from refinerctl.errors import AccessDeniedError, RefinerctlError, TransientError
from refinerctl.images import is_digest, short_digests
from refinerctl.parallel import attempt, concurrently
from refinerctl.registry.client import Repository
from refinerctl.registry.manifests import Manifest

# https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#tag-based-discovery
_COSIGN_TAGS = {"sig": "signature", "att": "attestation", "sbom": "SBOM"}
# https://docs.docker.com/build/metadata/attestations/attestation-storage/
_SUBJECT_OF_ATTESTATION = "vnd.docker.reference.digest"
# https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md
_BUNDLE = "application/vnd.dev.sigstore.bundle"
CALLS_AT_ONCE = 3

Found = TypeVar("Found")


@dataclass(frozen=True)
class Attachment:
    """An artifact about the image with digest `subject`. `kind` is a word, or its artifact type."""

    kind: str
    reference: str
    subject: str

    @property
    def version(self) -> str:
        """Its digest, or cosign's tag."""
        _, at, digest = self.reference.partition("@")
        return digest if at else self.reference.rpartition(":")[2]

    @property
    def label(self) -> str:
        """Kind and version, in short."""
        kind = "Sigstore bundle" if self.kind.startswith(_BUNDLE) else self.kind
        return f"{kind} {short_digests(self.version)}"

    def at(self, reference: str) -> Attachment:
        """Its copy."""
        return replace(self, reference=reference)

    def left(self, reason: str) -> LeftAttachment:
        """The same as one that is not copied."""
        return LeftAttachment(self.kind, self.reference, self.subject, reason)


@dataclass(frozen=True)
class LeftAttachment(Attachment):
    """One that is not copied with the image."""

    reason: str


def attestations(source: Repository, index: Manifest, subject: str) -> tuple[LeftAttachment, ...]:
    """Those that an index itself has about one of its images."""
    return tuple(
        LeftAttachment(
            "attestation", source.named(entry.digest), subject, "it is part of the index, which is not copied"
        )
        for entry in index.manifests
        if entry.annotations.get(_SUBJECT_OF_ATTESTATION) == subject
    )


def attachments(source: Repository, subjects: Iterable[str]) -> tuple[tuple[Attachment, ...], RefinerctlError | None]:
    """What the repository has about these digests, and why this may not be all.

    At most 5 calls for each digest, each tried once.
    """
    questions = []
    for subject in subjects:
        questions += [partial(_by_cosign_tag, source, subject, suffix) for suffix in _COSIGN_TAGS]
        questions.append(partial(_referrers, source, subject))
    answers = concurrently([partial(attempt, question) for question in questions], CALLS_AT_ONCE)
    found = tuple(item for answer in answers for item in answer.value or ())
    return found, next((answer.error for answer in answers if answer.error), None)


def bundles(source: Repository, subjects: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The Sigstore bundles about these digests: the reference of each and its bytes, which prove nothing yet."""
    retry = source.registry.transport.retry
    for subject in subjects:
        for item in retry(source.name).run(partial(_referrers, source, subject)):
            # ghcr.io lists some bundles under another artifact type: only the manifest tells.
            manifest = _readable(partial(source.find, item.version))
            for layer in manifest.layers if manifest else ():
                if layer.media_type.startswith(_BUNDLE):
                    yield item.reference, _readable(partial(source.blob, layer)) or b""


def _readable(read: Callable[[], Found]) -> Found | None:
    """What was read; None for an artifact of another kind, or a damaged one, which must not hide others."""
    answer = attempt(read)
    if isinstance(answer.error, TransientError | AccessDeniedError):
        raise answer.error
    return answer.value


def cosign_signatures(source: Repository, subjects: Iterable[str]) -> list[str]:
    """The references of cosign's tags for signatures and attestations of these digests: no bundles are there."""
    found = [_by_cosign_tag(source, subject, suffix) for subject in subjects for suffix in ("sig", "att")]
    return [item.reference for items in found for item in items]


def referrers_tag(subject: str) -> str:
    """The tag that replaces the referrers API."""
    return subject.replace(":", "-")


def has_referrers_api(repository: Repository, subject: str) -> bool:
    """Whether a registry lists referrers by itself. ECR has said so in a header without doing it: ask the API."""
    return repository.look_up("referrers", subject) is not None


def _by_cosign_tag(source: Repository, subject: str, suffix: str) -> tuple[Attachment, ...]:
    tag = f"{referrers_tag(subject)}.{suffix}"
    if source.look_up("manifests", tag, method="HEAD") is None:
        return ()
    return (Attachment(_COSIGN_TAGS[suffix], source.named(tag), subject),)


def _referrers(source: Repository, subject: str) -> tuple[Attachment, ...]:
    """By the referrers API, or the tag that replaces it; the first page.

    https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers
    """
    response = source.look_up("referrers", subject) or source.look_up("manifests", referrers_tag(subject))
    if response is None:
        return ()
    try:
        entries = [
            (str(entry["digest"]), str(entry.get("artifactType") or entry.get("mediaType")))
            for entry in json.loads(response.body).get("manifests") or ()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefinerctlError(f"the list of referrers of {source.named(subject)} cannot be read: {error!r}") from error
    return tuple(Attachment(kind, source.named(digest), subject) for digest, kind in entries if is_digest(digest))
