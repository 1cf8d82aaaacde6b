"""Free the lock that a dead run has left on the state."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.errors import RefusedError, UsageError
from refinerctl.releases.model import StateLock
from refinerctl.terraform.stack import Stack


@dataclass(frozen=True)
class LockState:
    """Whether the state is locked, and by whom, as far as the backend tells."""

    is_held: bool
    lock: StateLock | None = None


def look(stack: Stack) -> LockState:
    """Raises RefinerctlError if the state cannot be reached."""
    stack.init()
    held, lock = stack.terraform.find_lock()
    return LockState(held, lock)


def lock_to_free(state: LockState, lock_id: str | None) -> str:
    """The id to free. Raises RefusedError if another lock than `lock_id` is held, UsageError if the id is not known."""
    if state.lock is None:
        if lock_id is None:
            raise UsageError("the state is locked, and its backend does not tell the lock's id", hint="Give it: --id.")
        return lock_id
    if lock_id not in (None, state.lock.id):
        raise RefusedError(f"the lock that is held has id {state.lock.id}, not {lock_id}")
    return state.lock.id
