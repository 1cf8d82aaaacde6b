"""The stacks' provider blocks with the real provider, against an STS of our own: for terraform without refinerctl."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from refinerctl.errors import RefusedError
from refinerctl.terraform.runner import Terraform
from tests.integration.servers import Answer, Request, serving
from tests.needs import needs_terraform

ROLE = "arn:aws:iam::111111111111:role/deployer"
ACCOUNT = "111111111111"


def sts(request: Request) -> Answer:
    """Anyone may assume a role, and everybody is it."""
    (action,) = parse_qs(request.body.decode())["Action"]
    credentials = (
        "<Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        "<SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>"
    )
    caller = f"<Arn>arn:aws:sts::{ACCOUNT}:assumed-role/deployer/me</Arn><UserId>u</UserId><Account>{ACCOUNT}</Account>"
    result = credentials if action == "AssumeRole" else caller
    body = f"<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"
    return Answer(200, body.encode(), {"Content-Type": "text/xml"})


def test_terraform_alone_assumes_the_role_and_refuses_another_account(root: Path, tmp_path: Path) -> None:
    needs_terraform()
    module = tmp_path / "module"
    module.mkdir()
    for name in ("providers.tf", "variables.tf", "versions.tf"):
        text = (root / "terraform" / "stacks" / "registry" / name).read_text()
        (module / name).write_text(re.sub(r'backend "s3" \{[^}]*\}', 'backend "local" {}', text))
    (module / "main.tf").write_text('data "aws_caller_identity" "current" {}\n')
    (tmp_path / "values.tfvars").write_text(
        f'region = "us-east-1"\nassume_role = {{ role_arn = "{ROLE}", external_id = "ours/1", session_name = "me" }}\n'
        'allowed_account_ids = ["222222222222"]\n'
    )
    with serving(sts) as server:
        variables = {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "AKIAUSER",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        terraform = Terraform(module, tmp_path / "data", tmp_path / "work", tmp_path / "log", environment=variables)
        terraform.init()
        with pytest.raises(RefusedError, match=f"AWS account ID not allowed: {ACCOUNT}"):
            terraform.plan(tmp_path / "plan", [tmp_path / "values.tfvars"])

    asked = [parse_qs(request.body.decode()) for request in server.requests]
    assumed = [item for item in asked if item["Action"] == ["AssumeRole"]]
    given = {(*item["RoleArn"], *item["ExternalId"], *item["RoleSessionName"]) for item in assumed}
    assert given == {(ROLE, "ours/1", "me")}


def test_all_stacks_have_the_same_provider(root: Path) -> None:
    """But for what only an emulator's S3 needs."""
    found = set()
    for path in (root / "terraform" / "stacks").glob("*/providers.tf"):
        lines = (re.sub(" +", " ", line) for line in path.read_text().splitlines() if "s3_use_path_style" not in line)
        found.add("\n".join(lines))
    assert len(found) == 1
