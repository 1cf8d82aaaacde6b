"""A blob's bytes as they come from a registry: verified, resumed where they break off."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from refinerctl.images import Descriptor
from refinerctl.transport import TransportError

if TYPE_CHECKING:
    from refinerctl.registry.client import Repository

# A download that gets this far between two breaks is getting on: it is not given up.
GETTING_ON_BYTES = 1024**2


class CorruptBlobError(TransportError):
    """The source sent other bytes than the digest promises."""


def verified(source: Repository, blob: Descriptor) -> Iterator[memoryview]:
    """The blob's bytes, resumed where they break off; the last ones only once digest and size are right.

    Raises CorruptBlobError, or TransportError when breaking off again and again.
    """
    transport, sha = source.registry.transport, hashlib.sha256()
    done, attempt, last_break = 0, 1, 0
    if not blob.size:
        _compare(source, blob, sha.hexdigest())
    while done < blob.size:
        try:
            for chunk in source.read_blob(blob, done):
                sha.update(chunk)
                done += len(chunk)
                if done == blob.size:
                    _compare(source, blob, sha.hexdigest())
                yield chunk
        except CorruptBlobError:
            raise
        except TransportError as error:
            if done - last_break >= GETTING_ON_BYTES:
                attempt = 1
            if attempt >= transport.limits.attempts:
                error.exhausted = True  # whoever called need not begin again
                raise
            transport.wait(attempt, f"{blob.digest[:19]}… at {done} of {blob.size} bytes", error)
            attempt, last_break = attempt + 1, done


def _compare(source: Repository, blob: Descriptor, found: str) -> None:
    if blob.digest != f"sha256:{found}":
        raise CorruptBlobError(
            f"{source.name} sends {blob.digest} corrupted: what came has sha256:{found}",
            hint="The registry's storage or a proxy on the way is damaged.",
        )
