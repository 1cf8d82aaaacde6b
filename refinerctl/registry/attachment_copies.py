"""Copies signatures, attestations and other artifacts with their image, as far as the target accepts them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError
from refinerctl.images import OCI_INDEX, is_digest
from refinerctl.parallel import attempt
from refinerctl.registry.attachments import Attachment, LeftAttachment, has_referrers_api, referrers_tag
from refinerctl.registry.blob_copies import copy_blob
from refinerctl.registry.client import Repository
from refinerctl.registry.manifests import Manifest, parse_manifest


def copy_attachments(
    source: Repository, target: Repository, found: Iterable[Attachment], subject: str
) -> tuple[tuple[Attachment, ...], tuple[LeftAttachment, ...]]:
    """Copy what was found about the image `subject`, which is in the target by its digest.

    Returns the copies, by their references in the target, and what could not be copied: never an error, because the
    image is complete without.
    """
    copies: list[Attachment] = []
    left: list[LeftAttachment] = []
    referrers: dict[Attachment, Manifest] = {}
    for item in found:
        answer = attempt(partial(_copy, source, target, item))
        if answer.value is None:
            left.append(item.left(answer.error.message if answer.error else "it no longer exists"))
        elif is_digest(item.version):
            referrers[item] = answer.value
        else:
            copies.append(item.at(target.named(item.version)))
    listing = attempt(partial(_list_referrers, target, subject, list(referrers.values())))
    for item in referrers:
        if listing.error:
            left.append(item.left(f"copied, but not listed in the target: {listing.error.message}"))
        else:
            copies.append(item.at(target.named(item.version)))
    return tuple(copies), tuple(left)


def _copy(source: Repository, target: Repository, item: Attachment) -> Manifest | None:
    """Its manifest, None if the source does not have it any more."""
    manifest = source.find(item.version)
    if manifest is None:
        return None
    if not is_digest(item.version) and (there := target.find(item.version)):
        if there.digest != manifest.digest:
            raise RefinerctlError("the target's tag has other content, which is kept")
        return manifest
    for blob in manifest.blobs:
        if not target.has_blob(blob.digest):
            copy_blob(source, target, blob, Progress(), threading.Event())
    target.push_manifest(manifest, item.version)
    return manifest


def _list_referrers(target: Repository, subject: str, manifests: list[Manifest]) -> None:
    """In a registry without the referrers API, add them to the index at the tag that replaces it.

    https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject
    """
    if not manifests or has_referrers_api(target, subject):
        return
    tag = referrers_tag(subject)
    there = target.find(tag)
    entries: list[dict[str, Any]] = json.loads(there.raw)["manifests"] if there and there.is_index else []
    known = {entry["digest"] for entry in entries}
    entries += [_entry(manifest) for manifest in manifests if manifest.digest not in known]
    if len(entries) > len(known):
        raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        target.push_manifest(parse_manifest(raw, OCI_INDEX), tag)


def _entry(manifest: Manifest) -> dict[str, Any]:
    document = json.loads(manifest.raw)
    config = manifest.config.media_type if manifest.config else ""
    return {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.raw),
        "artifactType": document.get("artifactType") or config,
        **({"annotations": document["annotations"]} if document.get("annotations") else {}),
    }
