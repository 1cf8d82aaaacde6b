"""Copies a blob from registry to registry, as a stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError
from refinerctl.registry.client import Repository
from refinerctl.registry.manifests import Descriptor


def copy_blob(
    source: Repository, target: Repository, blob: Descriptor, progress: Progress, cancelled: threading.Event
) -> int | None:
    """Bytes copied; None if the registry mounted the blob. A broken upload starts again.

    Raises TransportError if it breaks too often, RefinerctlError when `cancelled` is set: another blob failed.
    """

    def content() -> Iterator[bytes]:
        done = 0
        progress.part(blob.digest, done, blob.size)
        for chunk in source.read(blob):
            _check_cancelled(blob, cancelled)
            yield chunk
            done += len(chunk)
            progress.part(blob.digest, done, blob.size)

    def copy() -> int | None:
        _check_cancelled(blob, cancelled)
        location = target.start_upload(blob, mount_from)
        if location is None:
            return None
        target.upload(blob, location, content)
        return blob.size

    mount_from = source if source.registry is target.registry and source.path != target.path else None
    return target.registry.transport.retry(target.name).run(copy)


def _check_cancelled(blob: Descriptor, cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise RefinerctlError(f"copying {blob.digest} was cancelled")
