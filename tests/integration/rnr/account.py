"""An AWS account: the emulator, with a broker that is a real RabbitMQ, and with what a test wants to be answered."""

from __future__ import annotations

import http.client
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from refinerctl.local.rabbitmq import RabbitMQServer

# Status, headers, body.
Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Account:
    """`before` and `after` are called with a request's name before it is handled, and before it is answered.

    A name is an AWS operation, or method and path. `before` may answer itself. `/api/` is the management API.
    """

    emulator_url: str
    name: str
    broker: RabbitMQServer | None = None
    amqp_url: str = ""
    api_url: str = ""
    before: Callable[[str], Reply | None] = lambda _name: None
    after: Callable[[str], None] = lambda _name: None
    seen: list[str] = field(default_factory=list)
    url: str = ""

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        target = headers.get("X-Amz-Target", "").rpartition(".")[2]
        name = target or f"{method} {urlsplit(path).path}"
        self.seen.append(name)
        if (found := self.before(name)) is None:
            found = self._broker_reply(path) or self._forwarded(method, path, headers, body)
        self.after(name)
        return found

    def _broker_reply(self, path: str) -> Reply | None:
        if not path.startswith("/v1/brokers"):
            return None
        if self.broker is None:
            return as_json({"brokerSummaries": []})
        if not path.startswith("/v1/brokers/"):
            return as_json({"brokerSummaries": [{"brokerName": f"{self.name}-broker", "brokerId": "b-1"}]})
        endpoint = {"endpoints": [self.amqp_url or self.broker.endpoint], "consoleURL": self.api_url or self.url}
        return as_json({"brokerState": "RUNNING", "engineVersion": "3.13", "brokerInstances": [endpoint]})

    def _forwarded(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        is_api = path.startswith("/api/") and self.broker is not None
        url = urlsplit(self.broker.api_url if is_api and self.broker else self.emulator_url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            dropped = _HOP if method != "HEAD" else _HOP[1:]
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
            return answer.status, kept, answer.read()
        except OSError:
            return 503, {}, b""
        finally:
            connection.close()


_HOP = ("content-length", "transfer-encoding", "connection", "date", "server")


def as_json(document: Any, status: int = 200, **headers: str) -> Reply:
    return status, headers, json.dumps(document).encode()


@contextmanager
def served(account: Account) -> Iterator[Account]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            status, answered, content = account.reply(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in answered.items():
                self.send_header(name, value)
            if self.command != "HEAD" or not any(name.lower() == "content-length" for name in answered):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_POST = do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that was killed reads no answer."""

    with Server(("127.0.0.1", 0), Handler) as server:
        account.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield account
        server.shutdown()


def environment(account: Account) -> dict[str, str]:
    """The variables of a command in this account."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "REFINERCTL_ENDPOINT_URL": account.url,
    }
