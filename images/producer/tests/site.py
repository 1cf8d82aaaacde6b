"""An HTTP server of products."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)


class Site(ThreadingHTTPServer):
    """A server of products, with the paths that were asked for. `answers` are given instead of its own, each once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/products"
        self.pages: list[list[dict[str, Any]]] = [[]]
        self.link_header = False
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []

    def add(self, *ids: str, page: int = 0, hours_ago: float = 0, url: str = "") -> None:
        issued = (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat(timespec="seconds")
        for id_ in ids:
            product = {"@id": url or f"{self.url}/{id_}", "id": id_, "issuanceTime": issued, "productCode": "HML"}
            self.pages[page].append(product)

    def answer(self, path: str, conditions: dict[str, str]) -> Answer:
        self.asked.append(path)
        if self.answers.get(path):
            return self.answers[path].pop(0)
        if not path.startswith("/products?") and path != "/products":
            return Answer(body=json.dumps({"id": path.rsplit("/", 1)[1], "productText": "stage 4.2 ft"}).encode())
        number = int(path.partition("page=")[2] or 0)
        etag = f'"{sum(len(page) for page in self.pages)}"'
        if conditions.get("If-None-Match") == etag:
            return Answer(304, b"")
        page: dict[str, Any] = {"@context": {}, "@graph": self.pages[number]}
        headers = {"ETag": etag, "Last-Modified": "Fri, 27 Nov 2026 12:00:00 GMT"}
        if number + 1 < len(self.pages):
            following = f"/products?page={number + 1}"
            if self.link_header:
                headers["Link"] = f'<{self.url}>; rel="first", <{following}>; rel="next"'
            else:
                page["pagination"] = {"next": following}
        return Answer(200, json.dumps(page).encode(), headers)


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        answer = self.server.answer(self.path, dict(self.headers))
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


@contextmanager
def serving() -> Iterator[Site]:
    """A server that runs, on a free port."""
    site = Site()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join()
