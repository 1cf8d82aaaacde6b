"""The errors that a user sees. Each has its exit code; its message is one sentence, not a traceback."""

from __future__ import annotations

from collections.abc import Iterable

# Maximum number of names in a hint.
MAX_NAMES = 100


class RefinerctlError(Exception):
    """What failed, on which resource; `hint` says what to do next. Exit code 1."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Terminated(BaseException):
    """SIGTERM: handled like Ctrl-C, so that everything is cleaned up."""


class FatalError(BaseException):
    """Ends the run with `error`: code that handles failed reads does not catch it."""

    def __init__(self, error: RefinerctlError) -> None:
        super().__init__(error.message)
        self.error = error


class UsageError(RefinerctlError):
    """The command line or a setting is invalid. Exit code 2."""

    exit_code = 2


class NotFoundError(RefinerctlError):
    """A resource that the request names does not exist."""


class AccessDeniedError(RefinerctlError):
    """The credentials in use do not allow this."""


class TransientError(RefinerctlError):
    """An error after which a retry may succeed. `is_uncertain`: the request may have had an effect nevertheless."""

    def __init__(self, message: str, *, hint: str | None = None, is_uncertain: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_uncertain = is_uncertain


class TimedOutError(RefinerctlError):
    """A wait has timed out. Exit code 3."""

    exit_code = 3


class RefusedError(RefinerctlError):
    """A safety check refused; nothing was changed. Exit code 4."""

    exit_code = 4


# Exit code of a command that succeeded and found differences.
DIFFERENCES = 5


def known_names(given: str, known: Iterable[str], what: str) -> str:
    """A hint for the unknown name `given`: the most similar known name, then all known names, similar ones first.

    `what` is the plural noun for the known names, such as `Rulesets`.
    """
    from difflib import get_close_matches

    names = list(dict.fromkeys(known))
    if not names:
        return f"{what}: none."
    lower = {name.lower(): name for name in names}
    near = [lower[name] for name in get_close_matches(given.lower(), lower, n=3, cutoff=0.6)]
    ordered = list(dict.fromkeys([*near, *names]))
    more = f", and {len(ordered) - MAX_NAMES} more" if len(ordered) > MAX_NAMES else ""
    question = f"Did you mean {near[0]}? " if near else ""
    return f"{question}{what}: {', '.join(ordered[:MAX_NAMES])}{more}."
