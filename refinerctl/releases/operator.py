"""Who does something: for the ledger of releases."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Mapping

from refinerctl.errors import RefinerctlError


def operator(environ: Mapping[str, str], caller: Callable[[], str] | None) -> str:
    """In a GitLab job the user who started it and the job; else the AWS identity; else the user of this machine.

    `caller` asks AWS; None where there is no account.
    """
    if job := environ.get("CI_JOB_URL"):
        return f"{environ.get('GITLAB_USER_LOGIN', 'GitLab')} ({job})"
    if caller is not None:
        try:
            return caller()
        except RefinerctlError:
            pass  # to deploy needs no right to ask that
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
