"""Runs over a bucket in memory: what is merged, set aside and committed, also when runs overlap or are killed."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postprocess.run import LostRaceError
from postprocess.tables import parse_columns
from postprocess.tests.bucket import SEQUENTIAL, SETTINGS, STATE, Bucket, KilledError, client_error, flow, run


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
            raise client_error("AccessDenied")

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
            raise client_error("PreconditionFailed")
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
