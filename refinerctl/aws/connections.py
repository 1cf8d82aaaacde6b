"""Event handlers of all AWS clients, those of credential providers included: for failures at the start, and waits."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import urlsplit

from refinerctl.aws.errors import explain, is_not_connected
from refinerctl.errors import FatalError
from refinerctl.network import NETWORK, install
from refinerctl.waits import WAITS

# A request with a body of this size takes long to send; the server cannot answer before it has all of it.
LARGE_BYTES = 1_000_000


def prepare(session: Any) -> None:
    """Make the clients of a boto3 session fail quickly at the start of a command, and report slow servers.

    Credential providers create clients of their own, with the SDK's defaults: a timeout of a minute, five attempts.
    """
    from botocore.config import Config

    install()
    core = session._session
    core.register_component("data_loader", _descriptions(core.get_config_variable("data_path")))
    core.set_default_client_config(Config(connect_timeout=5, read_timeout=20))
    session.events.register("needs-retry", _give_up)
    session.events.register("before-call", begin_wait)
    session.events.register("after-call", _end_wait)
    session.events.register("after-call-error", _end_wait)


@cache
def _descriptions(data_path: str | None) -> Any:
    """The SDK's reader of its descriptions of services, which keeps what it has read: one for all sessions."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def end_run(exception: Exception, **_: object) -> None:
    """Handler of `after-call-error`: raises FatalError if no server has answered this command yet.

    Otherwise a command that calls many services would wait for one after the other.
    """
    if NETWORK.is_silent and is_not_connected(exception) and (error := explain(exception)) is not None:
        raise FatalError(error) from exception


def begin_wait(params: dict[str, Any], context: dict[str, Any], **_: object) -> None:
    """Handler of `before-call`: from now on, the server is reported if it is slow."""
    body = params.get("body")
    if not isinstance(body, bytes | bytearray) or len(body) < LARGE_BYTES:
        WAITS.begin(id(context), urlsplit(params["url"]).netloc)


def _end_wait(context: dict[str, Any], **_: object) -> None:
    WAITS.end(id(context))


def _give_up(caught_exception: Exception | None, request_dict: dict[str, Any], attempts: int, **_: object) -> None:
    """Handler of `needs-retry`: raises the error if a server cannot be reached at the start of a command.

    Errors that a server sends, and those of established connections, are retried as usual.
    """
    url = request_dict["url"]
    if caught_exception is None:
        NETWORK.answered(url)
    elif attempts >= NETWORK.attempts and is_not_connected(caught_exception) and NETWORK.is_starting(url):
        raise caught_exception
