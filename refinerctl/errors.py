"""The errors that a user meets. Each knows its exit code; what is raised here is one sentence, not a stack."""

from __future__ import annotations


class RefinerctlError(Exception):
    """What failed, on which resource; `hint` says what to do next. Exit code 1."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Terminated(BaseException):
    """SIGTERM: unwinds like Ctrl-C, so that everything is cleaned up."""


class UsageError(RefinerctlError):
    """The request itself makes no sense. Exit code 2."""

    exit_code = 2


class NotFoundError(RefinerctlError):
    """A resource that the request names does not exist."""


class AccessDeniedError(RefinerctlError):
    """The credentials in use may not do this."""


class TransientError(RefinerctlError):
    """Trouble that may be over when the same is tried again."""


class TimedOutError(RefinerctlError):
    """What was waited for did not come in time. Exit code 3."""

    exit_code = 3


class RefusedError(RefinerctlError):
    """A safety check said no; nothing was changed. Exit code 4."""

    exit_code = 4


# Exit code of a command that succeeded and found differences.
DIFFERENCES = 5
