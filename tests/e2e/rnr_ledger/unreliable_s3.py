"""A proxy before S3 that refuses a part of the requests with 503, and breaks off a part of the inputs' downloads."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.rnr_ledger.pipeline import INPUT

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_NOT_FORWARDED = {"connection", "keep-alive", "transfer-encoding", "date", "server", "expect"}


class UnreliableS3(ThreadingHTTPServer):
    """`refused` and `broken` are shares, of requests and of inputs' downloads. Other services' requests all pass."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str, rng: random.Random) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.target = str(urlsplit(target).netloc)
        self.refused = self.broken = 0.0
        self.refusals = self.breaks = 0
        self._rng, self._lock = rng, threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def refuses(self) -> bool:
        with self._lock:
            refuses = self._rng.random() < self.refused
            self.refusals += refuses
        return refuses

    def breaks_off(self) -> bool:
        with self._lock:
            breaks = self._rng.random() < self.broken
            self.breaks += breaks
        return breaks

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A worker that is killed does not read its answer."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: UnreliableS3
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_s3 = "X-Amz-Target" not in self.headers
        if is_s3 and self.server.refuses():
            self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_FORWARDED}
        with contextlib.closing(http.client.HTTPConnection(self.server.target, timeout=60)) as upstream:
            upstream.request(self.command, self.path, body or None, headers)
            response = upstream.getresponse()
            content = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in _NOT_FORWARDED}
        is_input = self.command == "GET" and f"/{INPUT}" in self.path and response.status == http.HTTPStatus.OK
        broken = is_input and self.server.breaks_off()
        self._answer(response.status, kept, content, len(content) // 2 if broken else None)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815 - the base class's names

    def _answer(self, status: int, headers: dict[str, str], body: bytes, sent_bytes: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name in headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent_bytes])
        if sent_bytes is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return
