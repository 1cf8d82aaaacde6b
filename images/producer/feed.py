"""An HTTP JSON-LD feed of products (https://api.weather.gov/products?type=HML): new ones become input objects."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from botocore.exceptions import BotoCoreError, ClientError

from producer.cache import Cache
from producer.http_source import FeedError, HttpSource, RefusedError, RetryLaterError
from producer.settings import Settings
from rnr_common.log import Logger

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_PAGES = 100
MAX_PAGE_BYTES = 32 * 2**20
MAX_PRODUCT_BYTES = 16 * 2**20
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


@dataclass
class FeedResult:
    """Products by what became of them. `left`: listed, but not handled because the time was over."""

    not_modified: bool = False
    stored: int = 0
    known: int = 0
    refused: int = 0
    missing: int = 0
    left: int = 0


@dataclass(frozen=True)
class _Product:
    id: str
    url: str
    issued: datetime


class Feed:
    """The feed for one run. It takes at most half of the time that is left."""

    def __init__(
        self, settings: Settings, s3: S3Client, cache: Cache, log: Logger, time_left: Callable[[], float]
    ) -> None:
        self._url = str(settings.feed_url)
        self._settings = settings
        self._s3 = s3
        self._cache = cache
        self._log = log
        reserve_s = time_left() / 2
        self._time_left: Callable[[], float] = lambda: time_left() - reserve_s
        self._http = HttpSource(self._url, settings.name, self._time_left)
        self.result = FeedResult()
        self._validators: dict[str, str] = {}

    def store_new(self, since: datetime) -> None:
        """Store products that were issued after `since` and are not stored yet.

        What the feed's next answer is compared with (ETag, Last-Modified) is remembered only after all were stored.
        """
        wait_key, validators_key = self._key("wait", self._url), self._key("validators", self._url)
        waiting, validators = self._cache.execute([("GET", wait_key), ("GET", validators_key)]) or (None, None)
        if waiting:
            self._log.warn("feed skipped", reason="the server has asked to wait", url=self._url)
            return
        try:
            for products in self._pages(json.loads(validators) if validators else {}, since):
                self._store_page(products)
        except RetryLaterError as error:
            self._cache.execute([("SET", wait_key, "1", "EX", error.seconds)])
            raise
        complete = not self.result.left and not self.result.missing
        if self._validators and complete:
            value = json.dumps(self._validators)
            self._cache.execute([("SET", validators_key, value, "EX", self._settings.claim_hours * 3600)])

    def _pages(self, conditions: dict[str, str], since: datetime) -> Iterator[list[_Product]]:
        url: str | None = self._url
        for number in range(MAX_PAGES):
            if url is None:
                return
            response = self._http.get(url, MAX_PAGE_BYTES, conditions if number == 0 else {})
            if response.status == 304:
                self.result.not_modified = True
                return
            if response.status != 200:
                raise FeedError(f"{url}: status {response.status}")
            if number == 0:
                names = (("ETag", "If-None-Match"), ("Last-Modified", "If-Modified-Since"))
                self._validators = {ask: response.headers[name] for name, ask in names if name in response.headers}
            page = _json_object(response.body, url)
            products = self._products(page, url)
            recent = [product for product in products if product.issued >= since]
            yield recent
            if products and not recent:  # newest first: what follows is older
                return
            url = _next_page(page, response.links, url)
        self._log.warn("feed has more pages than are read", url=self._url, pages=MAX_PAGES)

    def _products(self, page: dict[str, Any], url: str) -> list[_Product]:
        graph = page.get("@graph")
        if not isinstance(graph, list):
            raise RefusedError(f"{url}: there is no list @graph; is it a JSON-LD feed of products?")
        products = []
        for entry in graph:
            try:
                products.append(_product(entry, url))
            except (KeyError, TypeError, ValueError) as error:
                self.result.refused += 1
                self._log.warn("product refused", reason=f"entry of the feed: {error}", url=url)
        return products

    def _store_page(self, products: list[_Product]) -> None:
        keys = [self._key("product", product.id) for product in products]
        known = self._cache.execute([("GET", key) for key in keys]) or [None] * len(keys)
        for key, product, is_known in zip(keys, products, known, strict=True):
            if is_known:
                self.result.known += 1
            elif self._time_left() <= 0:
                self.result.left += 1
            elif self._store(product):
                self._cache.execute([("SET", key, "1", "EX", self._settings.claim_hours * 3600)])

    def _store(self, product: _Product) -> bool:
        """Store a product, unless there is an object of its name; returns whether it is done for good."""
        key = f"{self._settings.prefix}{product.id}.json"
        try:
            if self._is_stored(key):
                self.result.known += 1
                return True
            response = self._http.get(product.url, MAX_PRODUCT_BYTES, {})
            if response.status != 200:
                self.result.missing += 1
                self._log.warn("product missing", url=product.url, status=response.status)
                return False
            _json_object(response.body, product.url)
            self._put(key, response.body)
        except RefusedError as error:
            self.result.refused += 1
            self._log.warn("product refused", reason=str(error), url=product.url)
        except (ClientError, BotoCoreError) as error:
            raise FeedError(f"cannot store s3://{self._settings.bucket}/{key}: {error}") from error
        return True

    def _is_stored(self, key: str) -> bool:
        try:
            self._s3.head_object(Bucket=self._settings.bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return False
        return True

    def _put(self, key: str, body: bytes) -> None:
        bucket = self._settings.bucket
        try:
            self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
                raise
            self.result.known += 1  # another run has just stored it
        else:
            self.result.stored += 1
            self._log.info("product stored", key=key, bytes=len(body))

    def _key(self, kind: str, name: str) -> str:
        return f"rnr:feed-{kind}:{self._settings.name}:{hashlib.sha256(name.encode()).hexdigest()}"


def _product(entry: Any, page_url: str) -> _Product:
    id_, issued = entry["id"], datetime.fromisoformat(entry["issuanceTime"])
    if not _ID.fullmatch(id_):
        raise ValueError(f"id {id_!r} cannot be a name")
    return _Product(id_, urljoin(page_url, entry["@id"]), issued if issued.tzinfo else issued.replace(tzinfo=UTC))


def _json_object(body: bytes, url: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise RefusedError(f"{url}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise RefusedError(f"{url}: not a JSON object")
    return found


def _next_page(page: dict[str, Any], links: dict[str, str], url: str) -> str | None:
    pagination = page.get("pagination")
    following = links.get("next") or (pagination.get("next") if isinstance(pagination, dict) else None)
    return urljoin(url, following) if isinstance(following, str) else None
