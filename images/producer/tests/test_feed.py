"""A feed's new products become input objects once, and are published once."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from producer.http_source import FeedError
from producer.tests.environment import Context, Environment


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
    site = Site()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join()


@pytest.fixture
def site(environment: Environment) -> Iterator[Site]:
    with serving() as site:
        environment.variables["RNR_FEED_URL"] = site.url
        yield site


def test_new_products_are_stored_and_published_once(environment: Environment, site: Site) -> None:
    site.add("a", "b")
    site.add("old", hours_ago=25)

    first = environment.run()
    second = environment.run()
    site.add("c")
    third = environment.run()

    assert (first["feed"]["stored"], first["published"]) == (2, 2)
    assert (second["feed"]["not_modified"], second["published"], second["duplicates"]) == (True, 0, 2)
    assert (third["feed"]["stored"], third["feed"]["known"], third["published"]) == (1, 2, 1)
    assert environment.stored() == [f"rnr/input/{name}.json" for name in "abc"]
    assert json.loads(environment.s3.get_object(Bucket="bucket", Key="rnr/input/a.json")["Body"].read()) == {
        "id": "a",
        "productText": "stage 4.2 ft",
    }
    assert site.asked == ["/products", "/products/a", "/products/b", "/products", "/products", "/products/c"]
    assert len(environment.messages()) == 3


def test_products_are_not_fetched_again_without_redis(environment: Environment, site: Site) -> None:
    site.add("a")
    environment.run()
    environment.redis.flushall()

    result = environment.run()

    assert (result["feed"]["known"], result["feed"]["stored"]) == (1, 0)
    assert site.asked.count("/products/a") == 1


@pytest.mark.parametrize("link_header", [False, True])
def test_all_pages_are_read_until_one_is_too_old(environment: Environment, site: Site, link_header: bool) -> None:
    site.link_header = link_header
    site.pages = [[], [], [], []]
    site.add("a")
    site.add("b", page=1)
    site.add("old", page=2, hours_ago=25)

    assert environment.run()["feed"]["stored"] == 2
    assert [path for path in site.asked if "page" in path] == ["/products?page=1", "/products?page=2"]


def test_a_server_that_is_busy_for_a_moment_is_asked_again(environment: Environment, site: Site) -> None:
    site.add("a")
    site.answers["/products"] = [Answer(503), Answer(429, headers={"Retry-After": "1"})]

    assert environment.run()["feed"]["stored"] == 1
    assert site.asked == ["/products"] * 3 + ["/products/a"]


def test_a_server_that_asks_to_wait_is_not_asked_before(environment: Environment, site: Site) -> None:
    site.answers["/products"] = [Answer(429, headers={"Retry-After": "3600"})]
    environment.put("other.csv")

    with pytest.raises(FeedError, match="status 429, Retry-After 3600 s"):
        environment.run()

    assert environment.lines("run failed")[0]["published"] == 1  # other inputs are not kept back
    environment.run()
    assert site.asked == ["/products"]
    assert environment.lines("feed skipped")


def test_products_that_cannot_be_taken_are_named_and_the_others_stored(environment: Environment, site: Site) -> None:
    site.add("ok", "html", "large", "../x")
    site.add("elsewhere", url="https://example.com/products/elsewhere")
    site.pages[0] += [{"id": "no-url"}, "text", {"id": 5, "@id": "x", "issuanceTime": "now"}]  # type: ignore[list-item]
    site.answers["/products/html"] = [Answer(body=b"<html>")]
    bomb = gzip.compress(b" " * (17 * 2**20))
    site.answers["/products/large"] = [Answer(body=bomb, headers={"Content-Encoding": "gzip"})]

    feed = environment.run()["feed"]

    assert (feed["stored"], feed["refused"]) == (1, 7)
    assert environment.stored() == ["rnr/input/ok.json"]
    reasons = " ".join(line["reason"] for line in environment.lines("product refused"))
    for reason in ("not JSON", "larger than 16777216 bytes", "'../x' cannot be a name", "not on the feed's server"):
        assert reason in reasons
    assert environment.run()["feed"]["not_modified"]


def test_a_product_that_is_not_there_yet_is_asked_for_again(environment: Environment, site: Site) -> None:
    site.add("a", "b")
    site.answers["/products/a"] = [Answer(404)]

    first, second = environment.run()["feed"], environment.run()["feed"]

    assert (first["stored"], first["missing"]) == (1, 1)
    assert (second["stored"], second["missing"]) == (1, 0)


def test_what_the_time_does_not_suffice_for_is_left_to_the_next_run(environment: Environment, site: Site) -> None:
    site.add("a", "b", "c")

    result = environment.run(Context(lambda: 100.0 if "/products/a" in site.asked else 300.0))

    assert (result["feed"]["stored"], result["feed"]["left"]) == (1, 2)
    assert environment.run()["feed"]["stored"] == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(body=b"<html>"), "not JSON"),
        (Answer(body=b"[]"), "not a JSON object"),
        (Answer(), "no list @graph"),
        (Answer(403), "status 403"),
        (Answer(301, headers={"Location": "http://169.254.169.254/"}), "status 301"),
    ],
)
def test_a_feed_that_cannot_be_read_fails_the_run(
    environment: Environment, site: Site, answer: Answer, reason: str
) -> None:
    site.answers["/products"] = [answer]

    with pytest.raises(FeedError, match=reason) as caught:
        environment.run()

    assert site.url in str(caught.value)
