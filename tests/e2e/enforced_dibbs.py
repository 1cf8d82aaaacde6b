"""Runs the code of a Python image with a role, on moto's S3 in this process, which enforces its policies."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import boto3
from moto.core import set_initial_no_auth_action_count

from tests.e2e.enforced import BUCKET, REGION, is_denied, owner, role_session
from tests.e2e.project import CONFIG_BUCKET, IMAGES

CASE = "2026/03/01/case 1"
OBJECTS = {
    BUCKET: {f"DibbsInput/{CASE}": "RR", f"EicrInput/{CASE}": "eICR", "OtherInput/a": "x"},
    CONFIG_BUCKET: {"configurations/active.json": '{"CA": ["Zika"]}', "other": "x"},
}
Statements = list[dict[str, Any]]


def refine(statements: Statements, variables: Mapping[str, str]) -> dict[str, Any]:
    """The completion of CASE, made by the image with these variables, as a role with these statements."""

    @set_initial_no_auth_action_count(0)
    def handle() -> None:
        image = runpy.run_path(str(IMAGES["dibbs-refiner"] / "app.py"))
        body = {"detail": {"bucket": {"name": BUCKET}, "object": {"key": f"DibbsInput/{CASE}"}}}
        image["handler"]({"Records": [{"messageId": "1", "awsRegion": REGION, "body": json.dumps(body)}]}, None)

    with role_session(statements) as given, patch.dict(os.environ, variables):
        _put_objects()
        boto3.setup_default_session(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )
        try:
            handle()
        finally:
            boto3.setup_default_session()
        completion = owner("s3").get_object(Bucket=BUCKET, Key=f"RefinerComplete/DibbsInput/{CASE}")
        found: dict[str, Any] = json.loads(completion["Body"].read())
        return found


def forbidden_calls(statements: Statements) -> set[str]:
    """What the role may do with S3 although it must not."""
    with role_session(statements) as given:
        _put_objects()
        s3 = boto3.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], REGION).client("s3")
        never: dict[str, Callable[[], Any]] = {
            "write an eICR": lambda: s3.put_object(Bucket=BUCKET, Key=f"EicrInput/{CASE}", Body=b""),
            "read another ruleset's input": lambda: s3.get_object(Bucket=BUCKET, Key="OtherInput/a"),
            "write a configuration": lambda: s3.put_object(Bucket=CONFIG_BUCKET, Key="configurations/a", Body=b""),
            "read the rest of the other bucket": lambda: s3.get_object(Bucket=CONFIG_BUCKET, Key="other"),
            "delete an eICR": lambda: s3.delete_object(Bucket=BUCKET, Key=f"EicrInput/{CASE}"),
        }

        @set_initial_no_auth_action_count(0)
        def allowed() -> set[str]:
            return {what for what, call in never.items() if not is_denied(call)}

        found: set[str] = allowed()
        return found


def _put_objects() -> None:
    s3 = owner("s3")
    s3.create_bucket(Bucket=CONFIG_BUCKET)
    for bucket, objects in OBJECTS.items():
        for key, content in objects.items():
            s3.put_object(Bucket=bucket, Key=key, Body=content.encode())
