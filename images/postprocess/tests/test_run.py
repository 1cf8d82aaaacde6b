"""Runs over a bucket in memory: what is merged, set aside and committed, also when runs overlap or are killed."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from postprocess.run import LostRaceError, PostProcess, Settings
from postprocess.tables import parse_columns
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
                raise _error("NoSuchKey")
            if IfMatch not in (None, self.etag(Key)):
                raise _error("PreconditionFailed")
            body = self.objects[Key][0]
            return {"Body": _Body(body), "ETag": self.etag(Key), "ContentLength": len(body)}

    def put_object(self, Key: str, Body: bytes, **condition: Any) -> None:  # noqa: N803
        self._request("put")
        with self.lock:
            if condition.get("IfNoneMatch") and Key in self.objects:
                raise _error("PreconditionFailed")
            if condition.get("IfMatch") and (Key not in self.objects or condition["IfMatch"] != self.etag(Key)):
                raise _error("PreconditionFailed")
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


def _error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "request")


def run(bucket: Bucket, settings: Settings = SETTINGS) -> dict[str, Any]:
    """Return the result of a run, a minute after what was before."""
    bucket.now += timedelta(minutes=1)
    now = bucket.now
    return PostProcess(bucket, settings, Logger(lambda _: None), lambda: 900, lambda: now).run()  # type: ignore[arg-type]


def flow(*values: object) -> str:
    return "time,flow\n" + "".join(f"t{i},{value}\n" for i, value in enumerate(values))


def test_new_outputs_are_merged_once() -> None:
    bucket = Bucket()
    bucket.complete("a/ö +%", flow(1.5, 2))
    bucket.complete("b", flow(3), flow(4))

    result = run(bucket)
    again = run(bucket)

    assert (result["merged"], result["rows"], result["setAside"], result["remaining"]) == (2, 4, 0, 0)
    assert bucket.rows() == [
        ("a/ö +%/0.csv", "t0", "1.5"),
        ("a/ö +%/0.csv", "t1", "2"),
        ("b/0.csv", "t0", "3"),
        ("b/1.csv", "t0", "4"),
    ]
    assert (again["runId"], again["merged"], again["files"]) == (None, 0, [])
    assert len(bucket.manifests()) == 1
    assert bucket.manifests()[0]["inputs"][1]["outputs"] == ["rnr/output/b/0.csv", "rnr/output/b/1.csv"]


def test_late_and_overwritten_outputs_are_merged_and_unchanged_ones_are_not() -> None:
    bucket = Bucket()
    bucket.complete("a", flow(1), flow(2))
    bucket.complete("same", flow(7))
    run(bucket)
    bucket.complete("a", flow(1), flow(20))
    bucket.complete("same", flow(7))  # delivered twice
    bucket.complete("0-late", flow(3))

    run(bucket)
    run(bucket)

    assert bucket.rows()[3:] == [("0-late/0.csv", "t0", "3"), ("a/1.csv", "t0", "20")]


BAD = {
    "not UTF-8": b"time,flow\n\xff,1\n",
    "unclosed quote": b'time,flow\n"a,1\n',
    "text after a quote": b'time,flow\n"a"b,1\n',
    "too many fields": b"time,flow\na,1,2\n",
    "other columns": b"time,stage\na,1\n",
    "not a number": b"time,flow\na,1\nb,1_0\n",
    "empty": b"",
    "no unique names": b"time,time\na,1\n",
    "reserved name": b"source,flow\na,1\n",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
@pytest.mark.parametrize("name", ["a", "z"])
def test_a_bad_file_is_set_aside_once_until_it_is_overwritten(name: str, body: bytes) -> None:
    bucket = Bucket()
    bucket.complete("m", flow(1))
    run(bucket)
    bucket.complete("n", flow(2))
    bucket.complete(name, "", flow(5))
    key = f"rnr/output/{name}/0.csv"
    completion = json.loads(bucket.objects[f"rnr/complete/{name}.json"][0])
    bucket.objects[key] = (body, bucket.now)
    completion["outputs"][0]["etag"] = bucket.etag(key)
    bucket.objects[f"rnr/complete/{name}.json"] = (json.dumps(completion).encode(), bucket.now)

    result = run(bucket)

    assert (result["merged"], result["setAside"], result["rows"]) == (2, 1, 2)
    assert [error["key"] for error in bucket.manifests()[1]["set_aside"]] == [key]
    assert run(bucket)["runId"] is None
    bucket.complete(name, flow(4), flow(5))
    assert run(bucket)["rows"] == 1
    assert bucket.rows()[-1] == (f"{name}/0.csv", "t0", "4")


def test_a_first_file_that_is_bad_does_not_decide_about_columns() -> None:
    bucket = Bucket()
    bucket.complete("a", "other\n1\n2,3\n")
    bucket.complete("b", flow(1))

    assert run(bucket)["rows"] == 1
    assert bucket.manifests()[0]["columns"] == [["time", "string"], ["flow", "double"]]


@pytest.mark.parametrize(
    "body",
    [
        b"no JSON",
        b"[]",
        b"{}",
        b'{"status":"completed","outputs":[{"key":"rnr/output/x.csv"}]}',
        b'{"status":"completed","outputs":[{"key":"secret/x.csv","etag":"1"}]}',
    ],
)
def test_a_completion_that_is_malformed_is_set_aside_under_its_key(body: bytes) -> None:
    bucket = Bucket()
    bucket.objects["rnr/complete/a.json"] = (body, bucket.now)
    bucket.complete("b", flow(1))

    result = run(bucket)

    assert (result["merged"], result["setAside"]) == (1, 1)
    assert bucket.manifests()[0]["set_aside"][0]["key"] == "rnr/complete/a.json"
    assert run(bucket)["runId"] is None


def test_outputs_that_are_missing_or_overwritten_before_their_completion_are_set_aside() -> None:
    bucket = Bucket()
    bucket.complete("missing", flow(1), flow(2), written=1)
    bucket.complete("newer", flow(3))
    bucket.objects["rnr/output/newer/0.csv"] = (flow(30).encode(), bucket.now)

    result = run(bucket)
    errors = {error["key"]: error["error"] for error in bucket.manifests()[0]["set_aside"]}

    assert (result["merged"], result["setAside"], result["rows"]) == (1, 2, 1)
    assert errors["rnr/output/missing/1.csv"] == "it does not exist"
    assert "written again" in errors["rnr/output/newer/0.csv"]
    bucket.complete("missing", flow(1), flow(2))
    bucket.complete("newer", flow(30))
    run(bucket)
    assert bucket.rows()[1:] == [("missing/1.csv", "t0", "2"), ("newer/0.csv", "t0", "30")]


def test_other_columns_of_the_settings_give_files_that_were_set_aside_another_try() -> None:
    bucket = Bucket()
    bucket.complete("a", flow(1))
    bucket.complete("b", "time,flow,stage\nt0,2,3\n")
    run(bucket)
    columns = parse_columns("time:string,flow:double,stage:double")

    result = run(bucket, replace(SETTINGS, columns=columns))

    assert (result["merged"], result["rows"]) == (1, 1)
    assert bucket.rows()[1:] == [("b/0.csv", "t0", "2", "3")]


def test_a_run_is_limited_and_the_next_one_continues_with_the_oldest() -> None:
    bucket = Bucket()
    for number in range(20):
        bucket.now += timedelta(seconds=1)
        bucket.complete(f"{20 - number:02}", flow(number))
    settings = replace(SETTINGS, max_completions=12)

    results = [run(bucket, settings) for _ in range(3)]

    assert [(result["merged"], result["remaining"]) for result in results] == [(12, 8), (8, 0), (0, 0)]
    assert [row[2] for row in bucket.rows()] == [str(number) for number in range(20)]


def test_the_state_forgets_completions_that_were_deleted() -> None:
    bucket = Bucket()
    bucket.complete("a", flow(1))
    run(bucket)
    del bucket.objects["rnr/complete/a.json"]
    bucket.complete("b", flow(2))
    run(bucket)

    assert list(json.loads(gzip.decompress(bucket.objects[STATE][0]))["seen"]) == ["b"]


def test_a_state_that_is_not_readable_fails_the_run() -> None:
    bucket = Bucket()
    bucket.objects[STATE] = (b"damaged", bucket.now)
    bucket.complete("a", flow(1))

    with pytest.raises(ValueError, match=r"rnr/merged/state\.json\.gz is not readable"):
        run(bucket)
    assert bucket.rows() == []


def test_a_run_that_always_loses_leaves_nothing() -> None:
    bucket = Bucket()
    bucket.complete("a", flow(1))

    def another_commits(number: int, name: str) -> None:
        if name == "put" and any(key.endswith(".parquet") for key in bucket.objects):
            bucket.objects[STATE] = (gzip.compress(_state(str(number))), bucket.now)

    bucket.before = another_commits
    with pytest.raises(LostRaceError):
        run(bucket)
    assert bucket.orphans() == set()


def test_files_that_cannot_be_deleted_fail_no_run() -> None:
    bucket = Bucket()
    bucket.complete("a", flow(1))
    bucket.objects["rnr/merged/20261127T080000Z-0123abcd.csv"] = (b"of a killed run", bucket.now)
    bucket.now += timedelta(hours=2)

    def deny(number: int, name: str) -> None:
        if name == "delete":
            raise _error("AccessDenied")

    bucket.before = deny
    assert run(bucket)["merged"] == 1
    bucket.before = lambda number, name: None
    run(bucket)
    assert bucket.orphans() == set()


def test_an_answer_to_the_commit_that_is_lost_does_not_lose_the_run() -> None:
    """The SDK sends it again, and the condition fails because of the first one."""
    bucket = Bucket()
    bucket.complete("a", flow(1))

    def lose_answer(key: str) -> None:
        bucket.after = lambda key: None
        if key == STATE:
            raise _error("PreconditionFailed")
        bucket.after = lose_answer

    bucket.after = lose_answer
    assert run(bucket)["merged"] == 1
    assert [row[2] for row in bucket.rows()] == ["1"]


def _state(run_id: str) -> bytes:
    return json.dumps({"seen": {}, "columns": None, "runs": [run_id], "manifest": None}).encode()


# What happens at a request of a run, in the order of its requests.
events = st.dictionaries(st.integers(1, 60), st.sampled_from(("run", "kill", "write", "overwrite")), max_size=4)


@given(events, st.integers(0, 5))
def test_nothing_is_lost_or_merged_twice_when_runs_overlap_and_are_killed(planned: dict[int, str], first: int) -> None:
    """At any request of a run, another one runs, the run is killed, or the worker writes.

    In the end, the newest version of each output is in the merged files; no version is twice, and nothing else is.
    """
    bucket = Bucket()
    written: list[str] = []

    def write(name: str) -> None:
        written.append(str(len(written)))
        bucket.complete(name, flow(written[-1]))

    for number in range(first):
        write(f"n{number}")

    def happen(number: int, name: str) -> None:
        event = planned.pop(number, None)
        if event == "run":
            run(bucket, SEQUENTIAL)
        elif event == "kill":
            raise KilledError
        elif event:
            write("n0" if event == "overwrite" else f"late{number}")

    bucket.before = happen
    for _ in range(4):
        try:
            run(bucket, SEQUENTIAL)
        except KilledError:
            bucket.now += timedelta(hours=2)
    bucket.before = lambda number, name: None
    bucket.now += timedelta(hours=2)
    run(bucket)
    run(bucket)

    merged = Counter(row[2] for row in bucket.rows())
    last = {key: body for key, (body, _) in bucket.objects.items() if key.startswith("rnr/output/")}
    assert max(merged.values(), default=1) == 1
    assert set(merged) <= set(written)
    assert {body.decode().split(",")[-1].strip() for body in last.values()} <= set(merged)
    assert bucket.orphans() == set()
