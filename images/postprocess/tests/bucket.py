"""A bucket in memory with what S3 documents of conditional writes, and runs of the post-processing on it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from botocore.exceptions import ClientError

from postprocess.run import PostProcess, Settings
from rnr_common.log import Logger

SETTINGS = Settings("bucket", "rnr/output/", "rnr/complete/", "rnr/merged/")
SEQUENTIAL = replace(SETTINGS, fetches=1)  # the same requests in the same order each time
STATE = "rnr/merged/state.json.gz"
BEGIN = datetime(2026, 11, 27, 8, tzinfo=UTC)


class KilledError(BaseException):
    """The process ends here."""


class Bucket:
    """S3 in memory, with conditional reads and writes. `before` is called with the number and name of each request."""

    exceptions = type("Exceptions", (), {"NoSuchKey": ClientError})

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.now = BEGIN
        self.before: Callable[[int, str], None] = lambda number, name: None
        self.after: Callable[[str], None] = lambda key: None
        self.requests = 0
        self.lock = threading.Lock()

    def etag(self, key: str) -> str:
        return '"' + hashlib.md5(self.objects[key][0], usedforsecurity=False).hexdigest() + '"'

    def get_object(self, Key: str, IfMatch: str | None = None, **_: Any) -> dict[str, Any]:  # noqa: N803
        self._request("get")
        with self.lock:
            if Key not in self.objects:
                raise client_error("NoSuchKey")
            if IfMatch not in (None, self.etag(Key)):
                raise client_error("PreconditionFailed")
            body = self.objects[Key][0]
            return {"Body": _Body(body), "ETag": self.etag(Key), "ContentLength": len(body)}

    def put_object(self, Key: str, Body: bytes, **condition: Any) -> None:  # noqa: N803
        self._request("put")
        with self.lock:
            if condition.get("IfNoneMatch") and Key in self.objects:
                raise client_error("PreconditionFailed")
            if condition.get("IfMatch") and (Key not in self.objects or condition["IfMatch"] != self.etag(Key)):
                raise client_error("PreconditionFailed")
            self.objects[Key] = (Body, self.now)
        self.after(Key)

    def upload_file(self, name: str, bucket: str, key: str, extra: Any) -> None:
        self.put_object(key, Path(name).read_bytes())

    def delete_object(self, Key: str, **_: Any) -> None:  # noqa: N803
        self._request("delete")
        self.objects.pop(Key, None)

    def get_paginator(self, name: str) -> Bucket:
        return self

    def paginate(self, Prefix: str, StartAfter: str, **_: Any) -> list[dict[str, Any]]:  # noqa: N803
        self._request("list")
        found = [
            {"Key": key, "ETag": self.etag(key), "LastModified": modified}
            for key, (_, modified) in sorted(self.objects.copy().items())
            if key.startswith(Prefix) and key > StartAfter
        ]
        return [{"Contents": found}]

    def _request(self, name: str) -> None:
        self.requests += 1
        self.before(self.requests, name)

    # What the worker and downstream consumers do.

    def complete(self, name: str, *texts: str, written: int | None = None) -> None:
        """Write outputs (the first `written` of them only) and then their completion."""
        outputs = []
        for number, text in enumerate(texts):
            key = f"rnr/output/{name}/{number}.csv"
            before = self.objects.get(key)
            self.objects[key] = (text.encode(), self.now)
            outputs.append({"key": key, "etag": self.etag(key).strip('"'), "size": len(text)})
            if written is not None and number >= written:
                del self.objects[key]
                self.objects.update({key: before} if before else {})
        body = {"status": "completed", "outputs": outputs, "finished_at": str(self.now)}
        self.objects[f"rnr/complete/{name}.json"] = (json.dumps(body).encode(), self.now)

    def manifests(self) -> list[dict[str, Any]]:
        names = sorted(key for key in self.objects if key.startswith("rnr/merged/2") and key.endswith(".json"))
        return [json.loads(self.objects[name][0]) for name in names]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of all merged files that have a manifest; CSV and Parquet are equal."""
        rows: list[tuple[str, ...]] = []
        for manifest in self.manifests():
            assert len(manifest["files"]) in (0, 2)
            if manifest["files"]:
                text = io.StringIO(self.objects[manifest["files"][0]][0].decode(), newline="")
                found = [tuple(row) for row in csv.reader(text)][1:]
                table = pq.read_table(io.BytesIO(self.objects[manifest["files"][1]][0]))
                assert table.num_rows == len(found) == manifest["rows"]
                assert table.column("source").to_pylist() == [row[0] for row in found]
                rows += found
        return rows

    def orphans(self) -> set[str]:
        """Return merged files without a manifest."""
        listed = {key for manifest in self.manifests() for key in manifest["files"]}
        return {key for key in self.objects if key.endswith((".csv", ".parquet")) and "merged" in key} - listed


class _Body(io.BytesIO):
    def iter_chunks(self, size: int) -> Any:
        return iter(lambda: self.read(size), b"")


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "request")


def run(bucket: Bucket, settings: Settings = SETTINGS) -> dict[str, Any]:
    """Return the result of a run, a minute after what was before."""
    bucket.now += timedelta(minutes=1)
    now = bucket.now
    return PostProcess(bucket, settings, Logger(lambda _: None), lambda: 900, lambda: now).run()  # type: ignore[arg-type]


def flow(*values: object) -> str:
    return "time,flow\n" + "".join(f"t{i},{value}\n" for i, value in enumerate(values))
