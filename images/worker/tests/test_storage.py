"""Outputs in S3: small ones in one request, large ones in parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnr_common.log import Logger
from worker.settings import Settings
from worker.storage import Storage
from worker.tests.environment import Environment


@pytest.mark.parametrize("size", [0, 17, 9 << 20])
def test_an_output_is_described_as_it_is_in_s3(environment: Environment, tmp_path: Path, size: int) -> None:
    settings = Settings.read({"RNR_INPUT_BUCKET": environment.name, "RNR_OUTPUT_BUCKET": environment.name})
    (tmp_path / "flow.csv").write_bytes(b"x" * size)
    storage = Storage(environment.s3, settings, Logger())

    (output,) = storage.upload_outputs("a.csv", [tmp_path / "flow.csv"], {"traceparent": "00-ä"})

    found = environment.s3.get_object(Bucket=environment.name, Key="rnr/output/a.csv/flow.csv")
    assert found["Body"].read() == b"x" * size
    assert (output.key, output.etag, output.size) == ("rnr/output/a.csv/flow.csv", found["ETag"].strip('"'), size)
    assert (found["ContentType"], found["Metadata"]) == ("text/csv", {"traceparent": "00-%C3%A4"})
