"""add-prefix, remove-prefix and prefixes as commands, where AWS has to be asked: an emulator with queues and images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from refinerctl.aws.session import AwsSession
from tests.command import Command
from tests.conftest import ROOT
from tests.registries.docker_registry import DockerRegistry
from tests.registries.images import push_image


@pytest.fixture
def values(tmp_path: Path, unique: str) -> Path:
    """The environment's values: one ruleset, called otherwise than its prefix."""
    file = tmp_path / "terraform" / "environments" / "account" / "refiner.tfvars"
    file.parent.mkdir(parents=True)
    file.write_text(f"""\
name_prefix = "{unique}"
bus_name    = "{unique}"

rulesets = {{
  Odd = {{
    prefix    = "team/In/" # not called like this
    image_uri = "{unique}"
  }}
}}
""")
    return file


@pytest.fixture
def run(
    refinerctl: Command, session: AwsSession, values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    shutil.copytree(
        ROOT / "terraform/stacks", tmp_path / "terraform/stacks", ignore=shutil.ignore_patterns(".terraform")
    )
    shutil.copy(ROOT / "terraform/environments/production/backend.hcl", values.parent)
    (tmp_path / "refinerctl.toml").write_text('environment = "account"\n[environments.account]\nregion = "us-east-1"\n')
    monkeypatch.setenv("REFINERCTL_ENDPOINT_URL", str(session.endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.chdir(tmp_path)
    return refinerctl


def deploy(session: AwsSession, name: str, prefix: str, unique: str) -> None:
    """What Terraform would make, but for the function."""
    full = f"{unique}-{name}"
    for queue in (full, f"{full}-dlq", f"{full}-delivery-dlq"):
        session.client("sqs").create_queue(QueueName=queue)
    pattern = {"detail": {"object": {"key": [{"prefix": prefix}]}}}
    events = session.client("events")
    if unique not in [bus["Name"] for bus in events.list_event_buses()["EventBuses"]]:
        events.create_event_bus(Name=unique)
    events.put_rule(Name=full, EventBusName=unique, EventPattern=json.dumps(pattern))


def test_an_image_has_to_be_in_ecr_and_for_lambda(
    run: Command, session: AwsSession, values: Path, unique: str, tmp_path: Path
) -> None:
    before = values.read_bytes()
    session.client("ecr").create_repository(repositoryName=unique)
    registry = DockerRegistry(str(session.endpoint_url).removeprefix("http://"), tmp_path)
    push_image(registry, unique, "v1")
    push_image(registry, unique, "arm", architecture="arm64")

    for tag, said in (("v2", f"{unique}:v2 is not in ECR (newest tags: arm, v1)"), ("arm", "not for linux/amd64")):
        refused = run("add-prefix", "New/", "--image-uri", f"{unique}:{tag}")
        assert (refused.code, refused.out, values.read_bytes()) == (4, "", before), refused.err
        assert said in refused.err
        assert refused.err.startswith("refinerctl: error: the image cannot be used: New: ")
        assert "--no-check-image" in refused.err
    unchecked = run("add-prefix", "New/", "--image-uri", f"{unique}:v2", "--no-check-image", "--dry-run")
    assert unchecked.code == 0, unchecked.err
    done = run("add-prefix", "New/", "--image-uri", f"{unique}:v1")
    assert (done.code, "warning" in done.err) == (0, False), done.err
    other = run("add-prefix", "Arm/", "--image-uri", f"{unique}:arm", "--architecture", "arm64")
    assert other.code == 0, other.err
    assert 'architecture = "arm64"' in values.read_text()


def test_messages_keep_a_ruleset(run: Command, session: AwsSession, values: Path, unique: str) -> None:
    before = values.read_bytes()
    deploy(session, "Odd", "team/In/", unique)
    sqs = session.client("sqs")
    url = sqs.get_queue_url(QueueName=f"{unique}-Odd-dlq")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="x")

    refused = run("remove-prefix", "/team/In/")
    assert (refused.code, refused.out, values.read_bytes()) == (4, "", before)
    assert f"{unique}-Odd-dlq (1 visible)" in refused.err
    assert run("remove-prefix", "Odd", "--force", "--dry-run").code == 0
    sqs.purge_queue(QueueUrl=url)
    done = run("remove-prefix", "Odd", "--output", "json")
    assert (done.code, done.json()["status"]) == (0, "removed"), done.err
    assert values.read_text().endswith("rulesets = {}\n")


def test_configured_and_deployed(run: Command, session: AwsSession, unique: str) -> None:
    deploy(session, "Odd", "elsewhere/", unique)
    deploy(session, "Old", "Old/", unique)
    found = run("prefixes", "--output", "json")
    assert found.code == 0, found.err
    odd, old = found.json()["rulesets"]
    assert odd | {"differs": None} == {
        "name": "Odd",
        "prefix": "team/In/",
        "image_uri": unique,
        "queue": f"{unique}-Odd",
        "dlq": f"{unique}-Odd-dlq",
        "delivery_dlq": f"{unique}-Odd-delivery-dlq",
        "function": f"{unique}-Odd",
        "completions": {"prefix": "RefinerComplete/team/In/", "suffix": ".completion"},
        "configured": True,
        "deployed": True,
        "differs": None,
        "deployed_image_uri": None,
        "release": None,
        "depth": {"visible": 0, "in_flight": 0, "delayed": 0},
        "dlq_depth": {"visible": 0, "in_flight": 0, "delayed": 0},
        "delivery_dlq_depth": {"visible": 0, "in_flight": 0, "delayed": 0},
    }
    assert odd["differs"] == [
        f"function {unique}-Odd does not exist",
        "prefix: team/In/ configured, elsewhere/ deployed",
    ]
    assert (old["configured"], old["deployed"], old["prefix"]) == (False, True, "Old/")


def test_upload_looks_for_dead_letters_of_the_ruleset_that_has_the_prefix(
    run: Command, session: AwsSession, unique: str, tmp_path: Path
) -> None:
    """Its queue is not called like its prefix."""
    deploy(session, "Odd", "team/In/", unique)
    session.client("s3").create_bucket(Bucket=f"bucket-{unique}")
    sqs = session.client("sqs")
    url = sqs.get_queue_url(QueueName=f"{unique}-Odd-dlq")["QueueUrl"]
    event = {"detail": {"bucket": {"name": f"bucket-{unique}"}, "object": {"key": "team/In/a.txt"}}}
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
    (tmp_path / "a.txt").write_text("x")
    arguments = ["--prefix", "team/In/", "--bucket", f"bucket-{unique}", "--wait", "--timeout", "20s"]

    done = run("upload", "a.txt", *arguments, "--output", "json")

    assert done.code == 1, done.err
    (item,) = done.json()["uploads"]
    assert item["error"] == f"processing failed; its message is in {unique}-Odd-dlq"
