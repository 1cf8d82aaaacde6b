"""Verify who built an image: by GitHub's attestations and Sigstore's signatures, before it is copied.

Library `sigstore` checks certificate chain, certificate log, transparency log and signature; this module checks what
the certificate says about the workflow, and what was signed.
"""

from __future__ import annotations

import base64
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.images import Build, BuiltBy, short_digests
from refinerctl.registry.attachments import bundles, cosign_signatures

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle
    from sigstore.verify import Verifier

    from refinerctl.registry.client import Repository

GITHUB = "https://github.com/"
# Enterprises may have issuers below it: https://docs.github.com/en/actions/reference/security/oidc
ISSUER = "https://token.actions.githubusercontent.com"
# https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
_FULCIO = "1.3.6.1.4.1.57264.1."
_ISSUER, _REPOSITORY, _COMMIT, _REF, _WORKFLOW, _RUN = (f"{_FULCIO}{number}" for number in (8, 12, 13, 14, 18, 21))
_IN_TOTO = "application/vnd.in-toto+json"
# A statement of another type may say anything about an image, such as that it failed a scan.
_PREDICATES = ("https://slsa.dev/provenance/", "https://sigstore.dev/cosign/sign/")
_SHOWN = 5
_EXTRA = "Install the extra `provenance`: pip install 'refinerctl[provenance]'."


class _InvalidError(Exception):
    """Why a bundle proves nothing about this image."""


@dataclass(frozen=True)
class ProvenanceVerifier:
    """`verifiers` are one for each trusted root; `given` are the bundles to use instead of the registry's, if any."""

    verifiers: Sequence[Verifier]
    given: Sequence[tuple[str, bytes]] | None = None

    def verify(
        self, image: str, required: BuiltBy, tag: str | None, source: Repository, subjects: Sequence[str]
    ) -> Build:
        """The build of an image by one of its digests, of the image and of the index that names it.

        Raises RefusedError with each reason if no bundle proves that `required` built it from `tag` (None: any).
        """
        from sigstore.errors import Error

        reasons = []
        for reference, content in bundles(source, subjects) if self.given is None else self.given:
            try:
                return self._build(content, required, tag, subjects)
            except _InvalidError as error:
                reason = str(error)
            except (Error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                reason = f"invalid bundle: {' '.join(str(error).split())[:200]}"
            reasons.append(f"{short_digests(reference)}: {reason}")
        if not reasons:
            reasons = [
                _not_found(source, subjects)
                if self.given is None
                else "the files of --provenance-bundle contain no bundle"
            ]
        more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise RefusedError(
            f"cannot verify that {image} was built by {required}: {'; '.join(reasons[:_SHOWN])}{more}",
            hint="Nothing was copied. Check who published this image, and what its workflow attests.",
        )

    def _build(self, content: bytes, required: BuiltBy, tag: str | None, subjects: Sequence[str]) -> Build:
        from sigstore.errors import CertValidationError, VerificationError
        from sigstore.models import Bundle

        document = json.loads(content)
        if not document["verificationMaterial"].get("tlogEntries"):
            raise _InvalidError("no transparency log entry, as in attestations of private repositories: not supported")
        bundle, claims = Bundle.from_json(content), _Claims()
        for verifier in self.verifiers:
            try:
                signed = _signed_digests(verifier, bundle, document, claims)
                break
            except CertValidationError as error:
                failure = _chain_problem(bundle.signing_certificate, str(error))
            except VerificationError as error:
                failure = f"invalid signature: {' '.join(map(str, error.args))[:200]}"
        else:
            raise _InvalidError(failure)
        if not signed & set(subjects):
            raise _InvalidError(f"other digest: it is for {', '.join(sorted(signed)) or 'no sha256 digest'}")
        return claims.build(required, tag)


class _Claims:
    """What a certificate says about the workflow run. The library passes it on, its chain being verified."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def verify(self, cert: Certificate) -> None:
        """Keep the claims: they are checked when the signature is, so that a reason is never an impostor's word."""
        from cryptography.hazmat import asn1

        self._values = {
            extension.oid.dotted_string: asn1.decode_der(str, extension.value.public_bytes())
            for extension in cert.extensions
            if extension.oid.dotted_string in (_ISSUER, _REPOSITORY, _COMMIT, _REF, _WORKFLOW, _RUN)
        }

    def build(self, required: BuiltBy, tag: str | None) -> Build:
        """Raises _InvalidError if it is not the required one."""
        issuer, uri, commit, ref, config, run = (
            self._values.get(name, "") for name in (_ISSUER, _REPOSITORY, _COMMIT, _REF, _WORKFLOW, _RUN)
        )
        if issuer != ISSUER and not issuer.startswith(f"{ISSUER}/"):
            raise _InvalidError(f"other issuer: {issuer or 'none'}, not GitHub Actions")
        repository = uri.removeprefix(GITHUB)
        # GitHub's names differ in more than case.
        if not uri.startswith(GITHUB) or repository.lower() != required.repository.lower():
            raise _InvalidError(f"other repository: {uri or 'none'}")
        path, _, config_ref = config.removeprefix(f"{uri}/").partition("@")
        if required.workflow not in (None, path):
            raise _InvalidError(f"other workflow: {path or 'none'}")
        if tag is not None and (ref, config_ref) != (f"refs/tags/{tag}",) * 2:
            raise _InvalidError(f"other tag: built from {ref or 'no ref'}, not from tag {tag}")
        return Build(repository, path, ref, commit, run)


def provenance_verifier(bundle_files: Sequence[Path], trusted_root: Path | None) -> ProvenanceVerifier:
    """With the bundles of these files, and Sigstore's public trusted root unless a file is given.

    Raises RefinerctlError without the extra, for unusable files, or if Sigstore cannot be reached.
    """
    try:
        from sigstore.verify import Verifier
    except ImportError as error:
        raise RefinerctlError(f"verification of provenance is not installed: {error}", hint=_EXTRA) from error
    for name in ("sigstore", "tuf"):  # each of their errors is raised, too
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    lines = [
        (f"{path}, line {number}", line) for path in bundle_files for number, line in enumerate(_documents(path), 1)
    ]
    given = lines if bundle_files else None
    if trusted_root is not None:
        return ProvenanceVerifier(_verifiers(trusted_root), given)
    try:
        return ProvenanceVerifier([Verifier.production()], given)
    except Exception as error:  # of TUF, of the network, of a home folder that is read-only
        cause: BaseException = error
        while deeper := cause.__cause__ or cause.__context__:
            cause = deeper
        raise RefinerctlError(
            f"Sigstore's trusted root cannot be loaded from tuf-repo-cdn.sigstore.dev: {cause}",
            hint="Without this connection pass --trusted-root FILE (`gh attestation trusted-root` writes one).",
        ) from error


def _verifiers(path: Path) -> list[Verifier]:
    """One for each trusted root of a file that has a transparency log."""
    from sigstore.errors import Error
    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier

    found = []
    try:
        for document in _documents(path):
            if json.loads(document).get("tlogs"):  # GitHub's own, for private repositories, has none
                with tempfile.NamedTemporaryFile() as file:
                    file.write(document)
                    file.flush()
                    found.append(Verifier(trusted_root=TrustedRoot.from_file(file.name)))
    except (Error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefinerctlError(f"{path} is not a trusted root of Sigstore: {error}") from error
    if not found:
        raise RefinerctlError(f"{path} has no trusted root with a transparency log")
    return found


def _documents(path: Path) -> list[bytes]:
    """The JSON documents of a file: one, or one on each line, as `gh attestation download` writes them."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RefinerctlError(f"cannot read {path}: {error.strerror}") from error
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return [line for line in content.splitlines() if line.strip()]
    return [content]


def _signed_digests(verifier: Verifier, bundle: Bundle, document: dict[str, Any], claims: _Claims) -> set[str]:
    """The digests that a valid bundle is about. Raises the library's errors, and _InvalidError."""
    from sigstore.hashes import Hashed
    from sigstore_models.common.v1 import HashAlgorithm

    if "dsseEnvelope" in document:
        return _subjects(*verifier.verify_dsse(bundle, claims))
    # A signature of the manifest itself, as of any file.
    digest = base64.b64decode(document["messageSignature"]["messageDigest"]["digest"])
    verifier.verify_artifact(Hashed(algorithm=HashAlgorithm.SHA2_256, digest=digest), bundle, claims)
    return {f"sha256:{digest.hex()}"}


def _subjects(media_type: str, payload: bytes) -> set[str]:
    """The digests that a statement is about: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md"""
    if media_type != _IN_TOTO:
        raise _InvalidError(f"it signs {media_type}, not an in-toto statement")
    statement = json.loads(payload)
    predicate = str(statement["predicateType"])
    if not predicate.startswith(_PREDICATES):
        raise _InvalidError(f"it is neither provenance nor a signature: {predicate}")
    digests = (subject["digest"].get("sha256") for subject in statement["subject"])
    return {f"sha256:{digest}" for digest in digests if digest}


def _chain_problem(certificate: Certificate, message: str) -> str:
    if "not valid at validation time" in message:
        began, ended = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return f"expired certificate: signed outside of its validity, {began:%Y-%m-%dT%H:%M:%SZ} to {ended:%H:%M:%SZ}"
    return f"unknown certificate authority: {message}"


def _not_found(source: Repository, subjects: Sequence[str]) -> str:
    if older := cosign_signatures(source, subjects):
        return f"no bundle found, only {', '.join(map(short_digests, older))}: cosign 2 and older are not supported"
    return "no attestation or signature found"
