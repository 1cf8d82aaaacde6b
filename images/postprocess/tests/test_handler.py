"""The function with the real SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from postprocess.handler import handler, settings_of
from postprocess.state import State, StateStore
from postprocess.tables import parse_columns

ENVIRON = {
    "RNR_OUTPUT_BUCKET": "bucket",
    "RNR_OUTPUT_PREFIX": "rnr/output/",
    "RNR_COMPLETE_PREFIX": "/rnr/complete/",
    "RNR_MERGED_PREFIX": "rnr/merged/",
}
CONTEXT = SimpleNamespace(aws_request_id="request", get_remaining_time_in_millis=lambda: 900_000)


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A bucket in memory, behind the real SDK."""
    variables = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "eu-central-1"}
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name, value in {**variables, **ENVIRON}.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        yield client


def test_the_function_merges_logs_and_returns_the_same_numbers(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    etag = s3.put_object(Bucket="bucket", Key="rnr/output/a/flow.csv", Body=b"time,flow\nt,1\n")["ETag"].strip('"')
    outputs = [
        {"key": "rnr/output/a/flow.csv", "etag": etag, "size": 14},
        {"key": "rnr/output/a/missing.csv", "etag": etag, "size": 14},
        {"key": "rnr/output/a/map.png", "etag": etag, "size": 14},
    ]
    body = json.dumps({"status": "completed", "outputs": outputs}).encode()
    s3.put_object(Bucket="bucket", Key="rnr/complete/a.json", Body=body)

    result = handler({}, CONTEXT)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    again = handler({}, CONTEXT)

    assert (result["merged"], result["setAside"], result["rows"], again["runId"]) == (1, 1, 1, None)
    assert [line["message"] for line in lines] == ["set aside", "run done"]
    assert {**lines[1], **result} == lines[1]
    merged = s3.get_object(Bucket="bucket", Key=f"rnr/merged/{result['runId']}.csv")["Body"].read()
    assert merged == b"source,time,flow\na/flow.csv,t,1\n"


def test_only_one_of_two_runs_commits_on_the_same_state(s3: Any) -> None:
    first, second = (StateStore(s3, "bucket", "other/state.json.gz") for _ in range(2))
    for number in range(2):
        states = first.load(), second.load()
        assert first.commit(states[0].after(f"first-{number}", {}, None, None))
        assert not second.commit(states[1].after(f"second-{number}", {}, None, None))
    assert first.load() == State(runs=("first-0", "first-1"))


def test_a_run_that_fails_is_logged_and_fails(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNR_OUTPUT_BUCKET", "another")
        with pytest.raises(Exception, match="NoSuchBucket"):
            handler({}, CONTEXT)
    assert json.loads(capsys.readouterr().out)["error"]["name"] == "NoSuchBucket"


def test_settings_come_from_variables() -> None:
    settings = settings_of({**ENVIRON, "RNR_MERGED_COLUMNS": "time, flow:double", "RNR_MAX_COMPLETIONS": "7"})

    assert (settings.complete_prefix, settings.max_completions) == ("rnr/complete/", 7)
    assert settings.columns == (("time", "string"), ("flow", "double"))
    with pytest.raises(ValueError, match="RNR_MERGED_PREFIX"):
        settings_of({**ENVIRON, "RNR_MERGED_PREFIX": "merged"})


@pytest.mark.parametrize("text", ["time,time", "source", "a:int", "a,,b", " :double"])
def test_columns_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not like"):
        parse_columns(text)
