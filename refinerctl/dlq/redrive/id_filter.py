"""A memory of very many ids in little space, which may err to one side."""

from __future__ import annotations

from hashlib import blake2b

# 32 Mbit for half a million ids: one in 10,000,000 others is taken for one of them. Of more ids, each half million
# has bits of its own.
_BYTES = 4 << 20
_CAPACITY = 500_000
_HASHES = 7


class IdFilter:
    """Bloom filters: an id that was added is always found, another hardly ever. `size_bytes` is a power of two."""

    def __init__(self, capacity: int = _CAPACITY, size_bytes: int = _BYTES) -> None:
        self._capacity = capacity
        self._places = size_bytes * 8 - 1
        self._filters = [bytearray(size_bytes)]
        self._room = capacity

    def add(self, item: str) -> None:
        if not self._room:
            self._filters.append(bytearray(len(self._filters[0])))
            self._room = self._capacity
        self._room -= 1
        bits = self._filters[-1]
        place, step = _seeds(item)
        for _ in range(_HASHES):
            place &= self._places
            bits[place >> 3] |= 1 << (place & 7)
            place += step

    def __contains__(self, item: str) -> bool:
        seeds = _seeds(item)
        return any(self._is_in(bits, *seeds) for bits in self._filters)

    def _is_in(self, bits: bytearray, place: int, step: int) -> bool:
        for _ in range(_HASHES):
            place &= self._places
            if not bits[place >> 3] & (1 << (place & 7)):
                return False
            place += step
        return True


def _seeds(item: str) -> tuple[int, int]:
    """Two hashes stand for any number: https://www.eecs.harvard.edu/~michaelm/postscripts/rsa2008.pdf."""
    digest = blake2b(item.encode(), digest_size=16).digest()
    # An odd step meets every place before it meets one again.
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
