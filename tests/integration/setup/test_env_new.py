"""`refinerctl env new`: answers, files, and the bucket of the states, against AWS (moto)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pexpect
import pytest
from moto import mock_aws

from tests.command import Command, Finished
from tests.integration.servers import Answer, Request, serving
from tests.needs import needs_terraform
from tests.small_project import ACCOUNT, write_project

FLAGS = ("--bucket", "new-data", "--state-bucket", "new-state")
ALL = ("--account", ACCOUNT, "--region", "eu-west-1", *FLAGS)
REGISTRY = 'variable "region" {}\nvariable "repositories" {}\nvariable "tags" { default = {} }\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def account(project: Path) -> Iterator[Any]:
    """S3 of the account that the credentials of `project` belong to."""
    with mock_aws(config={"core": {"mock_credentials": False}}):
        yield boto3.client("s3", region_name="eu-west-1")


def folder(project: Path, name: str = "new") -> Path:
    return project / "terraform" / "environments" / name


def content(project: Path) -> dict[str, bytes]:
    """All files of the project, also temporary ones."""
    return {str(path): path.read_bytes() for path in project.rglob("*") if path.is_file()}


def new(refinerctl: Command, *words: str) -> Finished:
    return refinerctl("env", "new", "new", "--region", "eu-west-1", *FLAGS, *words)


def test_a_new_environment_with_the_bucket_of_its_states(
    refinerctl: Command, project: Path, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFINERCTL_ENV", "new")
    before = (project / "refinerctl.toml").read_text()
    done = new(refinerctl, "--create-state-bucket", "--yes")

    assert done.code == 0, done.err
    assert f"account {ACCOUNT}, region eu-west-1, environment new" in done.err
    assert sorted(path.name for path in folder(project).iterdir()) == ["backend.hcl", "refiner.tfvars"]
    after = (project / "refinerctl.toml").read_text()
    assert after.startswith(before)
    section = {"region": "eu-west-1", "account": ACCOUNT, "bucket": "new-data"}
    assert tomllib.loads(after)["environments"]["new"] == section
    assert account.get_bucket_location(Bucket="new-state")["LocationConstraint"] == "eu-west-1"
    assert account.get_bucket_versioning(Bucket="new-state")["Status"] == "Enabled"
    assert account.get_bucket_encryption(Bucket="new-state")["ServerSideEncryptionConfiguration"]["Rules"]
    assert all(account.get_public_access_block(Bucket="new-state")["PublicAccessBlockConfiguration"].values())
    (statement,) = json.loads(account.get_bucket_policy(Bucket="new-state")["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    assert refinerctl("env", "list").code == 5  # a module of this small project has fewer variables
    assert "backend" not in refinerctl("env", "list").out


def test_a_bucket_that_exists_is_protected_and_keeps_what_it_has(
    refinerctl: Command, project: Path, account: Any
) -> None:
    account.create_bucket(Bucket="new-state", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    account.create_bucket(Bucket="new-data", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    statement = {"Sid": "Own", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteBucket", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    account.put_bucket_policy(Bucket="new-state", Policy=json.dumps(policy))
    first = new(refinerctl, "--create-state-bucket", "--yes")
    shutil.rmtree(folder(project))
    (project / "refinerctl.toml").write_text(
        (project / "refinerctl.toml").read_text().partition("[environments.new")[0]
    )
    second = new(refinerctl, "--create-state-bucket", "--yes")

    assert first.code == second.code == 0, first.err + second.err
    assert "created versioning" in first.err
    assert "created bucket" not in first.err
    assert "created" not in second.err
    found = json.loads(account.get_bucket_policy(Bucket="new-state")["Policy"])["Statement"]
    assert [item["Sid"] for item in found] == ["Own", "DenyAccessWithoutTLS"]
    assert "create_bucket = false" in (folder(project) / "refiner.tfvars").read_text()


def test_dry_run_prints_a_patch(refinerctl: Command, project: Path, account: Any) -> None:
    before = content(project)
    done = new(refinerctl, "--create-state-bucket", "--dry-run")

    assert done.code == 0, done.err
    assert content(project) == before
    assert "would create bucket new-state in eu-west-1" in done.err
    assert account.list_buckets()["Buckets"] == []
    subprocess.run(["patch", "-p1"], input=done.out, text=True, check=True, cwd=project, stdout=subprocess.PIPE)
    assert 'bucket       = "new-state"' in (folder(project) / "backend.hcl").read_text()


def test_without_credentials_the_buckets_are_not_looked_for(
    refinerctl: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    done = refinerctl("env", "new", "new", *ALL, "--dry-run", "--output", "json")

    assert done.code == 0
    assert "cannot check whether the buckets exist: no AWS credentials found" in done.err
    assert done.json()["state_bucket"] == {"name": "new-state", "region": "eu-west-1", "created": []}


def test_a_profile_that_does_not_exist(refinerctl: Command, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "missing")
    done = refinerctl("env", "new", "new", *ALL, "--dry-run")

    assert done.code == 0
    assert "cannot check whether the buckets exist: The config profile (missing) could not be found" in done.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("Prod", *ALL), "'Prod' is not the name of an environment: use lower-case letters"),
        (("../prod", *ALL), "is not the name of an environment"),
        (("a" * 31, *ALL), "it has 31 characters"),
        (("new", *ALL, "--account", "12345"), "--account: '12345' is not an AWS account: use its 12 digits"),
        (("new", *ALL, "--region", "us-east-1a"), "--region: 'us-east-1a' is not a region"),
        (("new", *ALL, "--bucket", "New_Data"), "--bucket: 'New_Data' is not the name of a bucket"),
        (("new", *ALL, "--bucket", "192.168.5.4"), "nor look like an IP address"),
        (("new", *ALL, "--bucket", "data--x-s3"), "AWS reserves names"),
        (("new", *ALL, "--state-bucket", "new-data"), "--state-bucket: new-data is the data bucket"),
        (("new", *ALL, "--state-bucket", "lab-state"), "lab-state is the state bucket of environment lab"),
        (("new", *ALL, "--vpc", "main"), "missing --subnets, --rnr-bucket"),
        (
            ("new", *ALL, "--vpc", "main", "--subnets", "subnet-0a,private", "--rnr-bucket", "rnr"),
            "either subnet IDs or subnet names",
        ),
        (("new", *ALL, "--rnr-bucket", "rnr"), "--subnets and --rnr-bucket need --vpc"),
        (("new", "--region", "eu-west-1"), "missing --account, --bucket, --state-bucket"),
        (("new", *ALL, "--create-state-bucket"), "pass --yes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_answer_has_a_reason(
    refinerctl: Command, project: Path, words: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials, too."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    before = content(project)
    done = refinerctl("env", "new", *words)

    assert done.code == 2
    assert reason in done.err
    assert content(project) == before


@pytest.mark.usefixtures("account")
def test_an_environment_that_exists_is_refused(refinerctl: Command, project: Path) -> None:
    done = refinerctl("env", "new", "lab", *ALL)

    assert done.code == 4
    assert f"{project}/refinerctl.toml has [environments.lab]" in done.err


@pytest.mark.usefixtures("account")
def test_an_interrupted_run_can_be_run_again(refinerctl: Command, project: Path) -> None:
    """It is interrupted between the folder and the section; an earlier one was killed while it wrote the folder."""
    text = (project / "refinerctl.toml").read_text()
    assert new(refinerctl).code == 0
    (project / "refinerctl.toml").write_text(text)
    (folder(project).parent / ".new.new-killed").mkdir()
    again = new(refinerctl)
    (project / "refinerctl.toml").write_text(text)
    other = new(refinerctl, "--bucket", "other-data")

    assert again.code == 0, again.err
    assert other.code == 4
    assert "terraform/environments/new/refiner.tfvars exists already, with other content" in other.err
    assert (project / "refinerctl.toml").read_text() == text


@pytest.mark.usefixtures("account")
def test_a_file_that_no_section_can_be_added_to_is_not_changed(refinerctl: Command, project: Path) -> None:
    config = project / "refinerctl.toml"
    config.write_text('environment = "lab"\nenvironments = { lab = { region = "us-east-1" } } # inline\n')
    before = content(project)
    done = new(refinerctl)

    assert done.code == 1
    assert "cannot be extended automatically" in done.err
    assert content(project) == before


@pytest.mark.usefixtures("account")
def test_an_external_id_may_have_any_characters(refinerctl: Command) -> None:
    role = ("--assume-role", "arn:aws:iam::123456789012:role/deploy", "--assume-role-external-id", 'a"b\\c')
    done = new(refinerctl, *role, "--account", "123456789012", "--dry-run", "--output", "json")

    (config,) = (file["content"] for file in done.json()["files"] if file["path"] == "refinerctl.toml")
    assert tomllib.loads(config)["environments"]["new"]["assume_role_external_id"] == 'a"b\\c'


@pytest.mark.usefixtures("account")
def test_a_second_environment_in_the_account_has_names_of_its_own(refinerctl: Command, project: Path) -> None:
    (project / "terraform" / "stacks" / "registry").mkdir()
    (project / "terraform" / "stacks" / "registry" / "main.tf").write_text(REGISTRY)
    (folder(project, "lab") / "registry.tfvars").write_text('region = "us-east-1"\nrepositories = []\n')
    elsewhere = new(refinerctl, "--dry-run")
    done = new(refinerctl, "--region", "us-east-1")

    assert "registry.tfvars" in elsewhere.out
    assert done.code == 0, done.err
    assert "environment lab already has the repositories" in done.err
    # Not `dibbs-ecr-new`: the roles of environment lab may change everything that begins with `dibbs-ecr-`.
    assert 'name_prefix = "new-dibbs-ecr"' in (folder(project) / "refiner.tfvars").read_text()
    assert not (folder(project) / "registry.tfvars").exists()


def test_a_bucket_of_another_account_is_refused(refinerctl: Command, project: Path) -> None:
    identity = f"<GetCallerIdentityResult><Arn>arn:aws:iam::{ACCOUNT}:user/me</Arn></GetCallerIdentityResult>"

    def answer(request: Request) -> Answer:
        if request.method == "POST":
            return Answer(200, f"<GetCallerIdentityResponse>{identity}</GetCallerIdentityResponse>".encode())
        return Answer(403 if request.path == "/new-state" else 404)

    before = content(project)
    with serving(answer) as server:
        done = new(refinerctl, "--create-state-bucket", "--yes", "--endpoint-url", server.url)

        assert done.code == 4
        assert "bucket new-state belongs to another account" in done.err
        assert {request.method for request in server.requests} == {"POST", "HEAD"}
        assert content(project) == before

        command = ["-m", "refinerctl", "env", "new", "new", "--endpoint-url", server.url]
        child = pexpect.spawn(sys.executable, command, timeout=300, encoding="utf-8", dimensions=(40, 120))
        for question, reply in (
            (rf"AWS account \[{ACCOUNT}\]: ", ""),
            (r"Region: ", "Frankfurt"),
            (r"'Frankfurt' is not a region.*Region: ", "eu-central-1"),
            (r"Data bucket: ", "new data"),
            (r"is not the name of a bucket.*Data bucket: ", "new-data"),
            (r"Bucket for the Terraform state: ", "new-data"),
            (r"is the data bucket.*state: ", "free-state"),
            (r"VPC of stack rnr.*: ", ""),
            (r"state bucket free-state does not exist. Create it in region eu-central-1.*\[y/N\]: ", "n"),
        ):
            child.expect(question)
            child.sendline(reply)
        child.expect("terraform/environments/new/backend.hcl")
        child.expect(pexpect.EOF)
        child.close()
    assert child.exitstatus == 0
    assert f'endpoint_url = "{server.url}"' in (project / "refinerctl.toml").read_text()


def test_ctrl_c_at_a_question_leaves_nothing(project: Path, account: Any) -> None:
    before = content(project)
    words = ["-m", "refinerctl", "env", "new", "new", "--account", ACCOUNT, "--endpoint-url", "http://127.0.0.1:9"]
    child = pexpect.spawn(sys.executable, words, timeout=300, encoding="utf-8")
    child.expect("Region: ")
    while child.after is not pexpect.EOF:  # readline loses a signal that comes just before it waits for a key
        child.sendintr()
        child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=2)
    child.close()

    assert child.exitstatus == 130
    assert content(project) == before


@pytest.mark.parametrize("network", [("vpc-0a", "subnet-0a,subnet-0b"), ("main", "private-*")])
def test_files_fit_the_stacks_of_this_repository(
    refinerctl: Command, project: Path, root: Path, network: tuple[str, str]
) -> None:
    """Their variables, and the form that `terraform fmt` gives them."""
    needs_terraform()
    shutil.rmtree(project / "terraform" / "stacks")
    (project / "terraform" / "stacks").symlink_to(root / "terraform" / "stacks")
    vpc, subnets = network
    rnr = ("--vpc", vpc, "--subnets", subnets, "--rnr-bucket", "new-rnr", "--gitlab-project", "team/pipeline")
    with mock_aws(config={"core": {"mock_credentials": False}}):
        done = new(refinerctl, *rnr)
    listed = refinerctl("env", "list", "--output", "json").json()["environments"]

    assert done.code == 0, done.err
    (found,) = (item for item in listed if item["name"] == "new")
    assert found["problems"] == []
    assert {"refiner", "rnr", "registry"} <= set(found["stacks"])
    for stack in ("refiner", "rnr"):
        values = (folder(project) / f"{stack}.tfvars").read_text()
        assert re.search(r'^permissions_boundary = "arn:aws:iam::\d{12}:policy/ci-new-boundary"$', values, re.MULTILINE)
    subprocess.run(["terraform", "fmt", "-check", "-diff", str(folder(project))], check=True)
