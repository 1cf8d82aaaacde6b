"""A blob on its way from one registry to another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from enum import Enum

from refinerctl.console import BlobProgress
from refinerctl.errors import RefinerctlError
from refinerctl.images import Descriptor
from refinerctl.registry.client import Repository
from refinerctl.registry.download import verified


class Moved(Enum):
    COPIED = "copied"
    MOUNTED = "mounted"


class CancelledError(RefinerctlError):
    """Another blob failed, or somebody interrupted."""


def copy_blob(
    source: Repository, target: Repository, blob: Descriptor, progress: BlobProgress, cancelled: threading.Event
) -> Moved:
    """Copy one blob, or have the registry mount it if both are the same. An upload that breaks begins again.

    Raises TransportError when it keeps breaking, CorruptBlobError naming the digest, CancelledError.
    """
    mount_from = source if source.registry is target.registry and source.path != target.path else None

    def body() -> Iterator[memoryview]:
        progress.begin(blob.digest, blob.size)
        for chunk in verified(source, blob):
            if cancelled.is_set():
                raise CancelledError(f"copying {blob.digest} was interrupted")
            yield chunk
            progress.moved(blob.digest, len(chunk))

    def once() -> Moved:
        if cancelled.is_set():
            raise CancelledError(f"copying {blob.digest} was interrupted")
        location = target.start_upload(blob, mount_from)
        if location is None:
            return Moved.MOUNTED
        target.upload(blob, location, body)
        return Moved.COPIED

    moved = target.registry.transport.retried(target.name, once)
    progress.end(blob.digest)
    return moved
