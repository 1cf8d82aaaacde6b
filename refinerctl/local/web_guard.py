"""Refuses requests that web pages cause: a page in the developer's browser can send any request to 127.0.0.1.

A browser marks such a request with Origin or Sec-Fetch-Site. After DNS rebinding it does not, but then Host has the
page's own name. SDKs, CLIs, Terraform and functions send neither, and name a loopback address.

`python -m refinerctl.local.web_guard` runs the AWS emulator behind this check.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from refinerctl.addresses import is_loopback

# What a browser sends for an address that the user typed in, and for a page's requests to its own server.
_NOT_FOREIGN = ("none", "same-origin")

# https://asgi.readthedocs.io/en/latest/specs/main.html
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def refusal(headers: Mapping[str, str]) -> str | None:
    """Why a request is refused, as a sentence; None if no web page can have caused it. Names are in lower case."""
    if "origin" in headers or headers.get("sec-fetch-site", "none") not in _NOT_FOREIGN:
        return "Refused: the local environment does not answer requests of web pages.\n"
    if not _is_this_machine(headers.get("host", "")):
        return "Refused: the header Host does not name this machine; use 127.0.0.1 or localhost.\n"
    return None


def _is_this_machine(host: str) -> bool:
    """Whether a Host header has a loopback address or a name below localhost, as bucket.s3.localhost of an SDK."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    # https://www.rfc-editor.org/rfc/rfc6761#section-6.3: no such name is in the DNS.
    return name.endswith(".localhost") or is_loopback(host)


class GuardedHandler(BaseHTTPRequestHandler):
    """Handler of a server of the local environment. Logs nothing: the functions' own output is logged instead."""

    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        reason = refusal({name.lower(): value for name, value in self.headers.items()})
        if reason is None:
            return True
        self.close_connection = True  # the body is not read
        self.answer(403, reason.encode(), {"Content-Type": "text/plain"})
        return False

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


def guarded(app: App) -> App:
    """`app` behind the check."""

    async def call(scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        reason = None if scope["type"] == "lifespan" else refusal(headers)
        if reason is None:
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # before it is accepted: the server answers 403
        else:
            body = reason.encode()
            plain = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": plain})
            await send({"type": "http.response.body", "body": body})

    return call


def main() -> None:
    """Run ministack, configured by environment variables."""
    from ministack import app as ministack

    ministack.app = guarded(ministack.app)  # main() passes it to the HTTP server
    ministack.main()


if __name__ == "__main__":
    main()
