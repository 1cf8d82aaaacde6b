"""Which lock `unlock` releases."""

from __future__ import annotations

import pytest

from refinerctl.errors import RefusedError, UsageError
from refinerctl.releases.unlock import lock_to_release
from refinerctl.terraform.events import StateLock

LOCK = StateLock("id-1", "alice")


def test_held_lock_is_released() -> None:
    assert lock_to_release(LOCK, None) == "id-1"
    assert lock_to_release(LOCK, "id-1") == "id-1"


def test_other_lock_than_the_named_one_is_refused() -> None:
    with pytest.raises(RefusedError, match="is id-1, not id-2"):
        lock_to_release(LOCK, "id-2")


def test_lock_without_an_id_needs_the_option() -> None:
    assert lock_to_release(StateLock(), "id-2") == "id-2"
    with pytest.raises(UsageError, match="does not report the lock's id"):
        lock_to_release(StateLock(), None)
