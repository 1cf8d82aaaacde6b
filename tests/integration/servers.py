"""Small HTTP servers that answer as S3 does, well or badly."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from refinerctl.aws.session import AwsSession


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    size: int
    authorization: str = ""
    body: bytes = b""  # of a small one


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # the connection is reset after so many bytes of the body


_SMALL = 2000
RESET = Answer(0)  # the connection is reset before the request's body has been read


def error(status: int, code: str, message: str = "message") -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode())


@dataclass
class Server:
    url: str
    requests: list[Request] = field(default_factory=list)

    def count(self) -> Counter[str]:
        return Counter(request.method for request in self.requests)

    def session(self) -> AwsSession:
        return AwsSession("us-east-1", profile=None, endpoint_url=self.url, embedded=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _do(self) -> None:
        url = urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.rfile.read(size) if size < _SMALL and self.command == "POST" else b""
        request = Request(self.command, url.path, query, size, self.headers.get("Authorization", ""), body)
        self.server.seen.append(request)
        given = self.server.answer(request)
        size -= len(body)
        if given is RESET:
            self.rfile.read(min(size, 1000))
            self._reset()
        else:
            self._drain(size)
            self._give(given)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _do  # noqa: N815 - the base class's names

    def _give(self, given: Answer) -> None:
        self.send_response(given.status)
        for name, value in given.headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(given.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(given.body[: given.cut_after])
            if given.cut_after is not None:
                self.wfile.flush()
                self._reset()

    def _drain(self, size: int) -> None:
        while size > 0:
            size -= len(self.rfile.read(min(size, 65536)) or b"x" * size)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.seen: list[Request] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that are cut on purpose end in errors."""


@contextmanager
def serving(answer: Callable[[Request], Answer]) -> Iterator[Server]:
    """A server that gives what `answer` says; bodies are read and thrown away."""
    server = _Server(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", server.seen)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def multipart(fault: Callable[[Request], Answer | None] = lambda _: None) -> Callable[[Request], Answer]:
    """An S3 that takes multipart uploads and keeps nothing; `fault` may answer instead."""

    def answer(request: Request) -> Answer:
        if (bad := fault(request)) is not None:
            return bad
        if "uploads" in request.query:
            xml = b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
            return Answer(200, xml)
        if request.method == "POST":
            xml = b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
            return Answer(200, xml, {"x-amz-version-id": "made-by-complete"})
        if request.method == "DELETE":
            return Answer(204)
        return Answer(200, b"", {"ETag": '"part"', "x-amz-version-id": "made-by-put"})

    return answer
