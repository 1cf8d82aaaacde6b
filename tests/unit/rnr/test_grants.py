"""Grants of a bucket's policy: what it lacks, and how a statement gets into it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.rnr.grants import SID, lacks, merged, role_arns, statement

ROLES = role_arns("rnr-test", "arn:aws:sts::123456789012:assumed-role/ci/session")
OURS = statement("data", ROLES, SID)
OTHER = {
    "Sid": "Other",
    "Effect": "Allow",
    "Principal": "*",
    "Action": "s3:GetObject",
    "Resource": "arn:aws:s3:::data/x",
}


def policy(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Id": "an id", "Statement": list(statements)})


def deny(**elements: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::data/*", **elements}


def reasons(text: str | None) -> list[tuple[str, str, str]]:
    found = lacks(text, "data", ROLES)
    return [(item.role.rpartition("/")[2], item.action, item.reason) for item in found]


class TestStatement:
    def test_roles_actions_and_resources(self) -> None:
        assert OURS == {
            "Sid": "AllowRnRTestAppRolesS3Access",
            "Effect": "Allow",
            "Principal": {
                "AWS": [
                    "arn:aws:iam::123456789012:role/rnr-test-lambda-producer-role",
                    "arn:aws:iam::123456789012:role/rnr-test-ecs-task-role",
                    "arn:aws:iam::123456789012:role/rnr-test-lambda-postproc-role",
                ]
            },
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"],
            "Resource": ["arn:aws:s3:::data", "arn:aws:s3:::data/*"],
        }

    def test_other_partition(self) -> None:
        roles = role_arns("rnr", "arn:aws-us-gov:iam::123456789012:user/me")
        assert statement("data", roles, "X")["Resource"][0] == "arn:aws-us-gov:s3:::data"
        assert roles[0].startswith("arn:aws-us-gov:iam::")


class TestLacks:
    def test_nothing_with_the_statement(self) -> None:
        assert reasons(policy(OTHER, OURS)) == []

    def test_all_twelve_without_a_policy(self) -> None:
        assert len(reasons(None)) == 12
        assert {reason for _, _, reason in reasons(None)} == {"missing"}

    def test_one_action_of_one_role(self) -> None:
        first = {**OURS, "Principal": {"AWS": ROLES[:2]}}
        last = {
            **OURS,
            "Sid": "Last",
            "Principal": {"AWS": ROLES[2]},
            "Action": ["s3:Get*", "s3:List*", "s3:PutObject"],
        }
        assert reasons(policy(first, last)) == [("rnr-test-lambda-postproc-role", "s3:DeleteObject", "missing")]

    def test_what_is_denied_although_it_is_granted(self) -> None:
        found = reasons(policy(OURS, deny(Action="s3:DeleteObject", Principal={"AWS": ROLES[0]})))
        assert found == [("rnr-test-lambda-producer-role", "s3:DeleteObject", "denied")]

    def test_deny_without_tls_denies_nothing(self) -> None:
        assert reasons(policy(OURS, deny(Condition={"Bool": {"aws:SecureTransport": "false"}}))) == []

    def test_what_cannot_be_evaluated_is_unknown(self) -> None:
        condition = {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}}
        assert {reason for _, _, reason in reasons(policy(OURS, deny(Condition=condition)))} == {"unknown"}


class TestMerge:
    def test_into_no_policy(self) -> None:
        assert json.loads(merged(None, OURS, "data")) == {"Version": "2012-10-17", "Statement": [OURS]}

    def test_others_stay_in_their_places(self) -> None:
        old = {**OURS, "Principal": {"AWS": "AROAEXAMPLE"}}
        last = {**OTHER, "Sid": "Überall"}
        found = json.loads(merged(policy(OTHER, old, last), OURS, "data"))
        assert found == json.loads(policy(OTHER, OURS, last))

    def test_single_statement_without_a_list(self) -> None:
        text = json.dumps({"Version": "2008-10-17", "Statement": OTHER})
        assert json.loads(merged(text, OURS, "data")) == {"Version": "2008-10-17", "Statement": [OTHER, OURS]}

    def test_again_changes_nothing_whatever_the_order(self) -> None:
        text = policy({**OURS, "Action": OURS["Action"][::-1]}, OTHER)
        assert merged(text, OURS, "data") == text

    def test_too_large(self) -> None:
        with pytest.raises(RefusedError, match="S3 allows 20,480"):
            merged(policy({**OTHER, "Sid": "x" * 20_000}), OURS, "data")

    @pytest.mark.parametrize("text", ["[", "[]", "{}"])
    def test_policy_that_cannot_be_read(self, text: str) -> None:
        with pytest.raises(RefinerctlError, match="cannot be read"):
            merged(text, OURS, "data")
