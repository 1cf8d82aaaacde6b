"""`rnr bucket-policy` on two buckets."""

from __future__ import annotations

import json

import pytest

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from tests.command import Command
from tests.integration.rnr.account import Account

OTHER = {"Sid": "Other", "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::x/*"}


@pytest.fixture
def buckets(session: AwsSession, account: Account) -> list[S3Bucket]:
    found = [S3Bucket(session, f"{account.name}-{kind}") for kind in ("in", "out")]
    for bucket in found:
        bucket.create()
    found[1].put_policy(json.dumps({"Version": "2012-10-17", "Statement": [OTHER]}))
    return found


def test_prints_a_policy_for_each_bucket(run: Command, account: Account) -> None:
    done = run("rnr", "bucket-policy", "--sid", "AllowRnR")
    assert list(done.json()) == [f"{account.name}-in", f"{account.name}-out"]
    statement = done.json()[f"{account.name}-in"]["Statement"][0]
    assert (statement["Sid"], statement["Resource"][1]) == ("AllowRnR", f"arn:aws:s3:::{account.name}-in/*")


def test_check_apply_and_check_again(run: Command, account: Account, buckets: list[S3Bucket]) -> None:
    done = run("rnr", "bucket-policy", "--check")
    assert done.code == 5
    role, bucket = f"{account.name}-ecs-task-role", buckets[1].name
    assert f"{bucket}: missing: s3:PutObject on arn:aws:s3:::{bucket}/* for {role}" in done.out.splitlines()

    done = run("rnr", "bucket-policy", "--apply", "--dry-run")
    assert "would be changed" in done.out
    assert f'+        "arn:aws:s3:::{bucket}/*"' in done.err
    assert buckets[0].policy_text() is None

    done = run("rnr", "bucket-policy", "--apply", "--yes", "--output", "json")
    assert done.json()["changed"] == [item.name for item in buckets]
    kept = json.loads(buckets[1].policy_text() or "")["Statement"]
    assert (len(kept), kept[0]) == (2, OTHER)
    assert run("rnr", "bucket-policy", "--check").code == 0

    done = run("rnr", "bucket-policy", "--apply", "--yes", "--output", "json")
    assert done.json()["changed"] == []


def test_policy_that_was_changed_meanwhile_is_kept(run: Command, account: Account, buckets: list[S3Bucket]) -> None:
    reads: list[str] = []

    def change(name: str) -> None:
        reads.append(name)
        if reads.count(f"GET /{buckets[0].name}") == 1:
            buckets[0].put_policy(json.dumps({"Version": "2012-10-17", "Statement": [OTHER]}))

    account.after = change
    done = run("rnr", "bucket-policy", "--apply", "--yes")
    assert done.code == 4
    assert "has been changed meanwhile" in done.err
    assert json.loads(buckets[0].policy_text() or "")["Statement"] == [OTHER]


def test_invalid_options(run: Command) -> None:
    for words in (["--dry-run"], ["--check", "--apply"], ["--sid", "a b"], ["--apply"]):
        assert run("rnr", "bucket-policy", *words).code == 2
