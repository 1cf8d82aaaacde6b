"""What every client of AWS does at the start of a command and while it waits, also those of credential providers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from refinerctl.aws.errors import explain, is_not_connected
from refinerctl.errors import FatalError
from refinerctl.network import NETWORK, install
from refinerctl.waits import WAITS

# The body of a request that takes its time on the way: the server cannot answer yet.
LARGE_BYTES = 1_000_000


def prepare(session: Any) -> None:
    """Let the clients of a boto3 session give up quickly at the start, and tell which server is waited for.

    The providers of credentials make clients of their own, with an SDK's default timeouts: a minute, five times.
    """
    from botocore.config import Config

    install()
    session._session.set_default_client_config(Config(connect_timeout=5, read_timeout=20))
    session.events.register("needs-retry", _give_up)
    session.events.register("before-call", begin_wait)
    session.events.register("after-call", _end_wait)
    session.events.register("after-call-error", _end_wait)


def end_run(exception: Exception, **_: object) -> None:
    """A handler of `after-call-error`: raises FatalError if nothing can be reached.

    A command that asks many services would else wait for one after the other.
    """
    if NETWORK.is_silent and is_not_connected(exception) and (error := explain(exception)) is not None:
        raise FatalError(error) from exception


def begin_wait(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """A handler of `before-call`: the user is told of a server that takes long to answer."""
    body = params.get("body")
    if not isinstance(body, bytes | bytearray) or len(body) < LARGE_BYTES:
        WAITS.begin(id(context), urlsplit(params["url"]).netloc)


def _end_wait(context: dict[str, Any], **_: object) -> None:
    WAITS.end(id(context))


def _give_up(caught_exception: Exception | None, request_dict: dict[str, Any], attempts: int, **_: object) -> None:
    """A handler of `needs-retry`: raises the error of a server that cannot be reached at the start of a command.

    Errors that a server sends, and those of a connection that there was, are repeated as patiently as ever.
    """
    if caught_exception is None:
        NETWORK.answered(request_dict["url"])
    elif attempts >= NETWORK.tries and is_not_connected(caught_exception) and NETWORK.is_starting(request_dict["url"]):
        raise caught_exception
