"""A memory of very many ids in a fixed space, which may err to one side."""

from __future__ import annotations

from hashlib import blake2b

# 32 Mbit: of a million ids, one in 100,000 others is taken for one of them; of 200,000, one in 5,000,000,000.
_BYTES = 4 << 20
_HASHES = 7
_PLACES = (_BYTES * 8) - 1


class IdFilter:
    """A Bloom filter: an id that was added is always found, another hardly ever."""

    def __init__(self) -> None:
        self._bits = bytearray(_BYTES)

    def add(self, item: str) -> None:
        place, step = _seeds(item)
        for _ in range(_HASHES):
            self._bits[place >> 3] |= 1 << (place & 7)
            place = (place + step) & _PLACES

    def __contains__(self, item: str) -> bool:
        place, step = _seeds(item)
        for _ in range(_HASHES):
            if not self._bits[place >> 3] & (1 << (place & 7)):
                return False
            place = (place + step) & _PLACES
        return True


def _seeds(item: str) -> tuple[int, int]:
    """Two hashes stand for any number: https://www.eecs.harvard.edu/~michaelm/postscripts/rsa2008.pdf."""
    digest = blake2b(item.encode(), digest_size=16).digest()
    # An odd step meets every place before it meets one again.
    return int.from_bytes(digest[:8], "big") & _PLACES, int.from_bytes(digest[8:], "big") & _PLACES | 1
