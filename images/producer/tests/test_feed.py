"""A feed's new products become input objects once, and are published once."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from producer.http_source import FeedError
from producer.tests.environment import Context, Environment
from producer.tests.site import Answer, Site, serving


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
