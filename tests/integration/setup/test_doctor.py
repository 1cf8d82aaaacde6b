"""`refinerctl doctor` against AWS (moto), a registry, a broker's address, and servers that fail."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from tests.command import Command, Finished, spawn
from tests.integration.servers import Answer, Request, serving
from tests.needs import needs_terraform
from tests.registries.docker_registry import DockerRegistry
from tests.registries.images import push_image
from tests.small_project import ACCOUNT, CONFIG, RNR, STATE_BUCKET, write_environment, write_project
from tests.state_server import state_server

REPOSITORY = "lab/refiner"


@pytest.fixture
def project(tmp_path: Path, source_registry: DockerRegistry, unique: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose image is published in a registry of this machine."""
    needs_terraform()
    push_image(source_registry, unique)
    image = f'source = "{source_registry.host}/{unique}"\nrepository = "{REPOSITORY}"\ncontext = "images"\n'
    write_project(tmp_path, f"{CONFIG}[images.refiner]\n{image}[environments.local]\nembedded = true\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def account(project: Path) -> Iterator[None]:
    """The account of `project`, with the state's bucket and the image's repository."""
    with mock_aws(config={"core": {"mock_credentials": False}}):
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=STATE_BUCKET)
        boto3.client("ecr", region_name="us-east-1").create_repository(repositoryName=REPOSITORY)
        yield


def statuses(done: Finished) -> dict[str, str]:
    return {check["id"]: check["status"] for check in done.json()["checks"]}


def seen(done: Finished, check: str) -> tuple[str, str, str]:
    (found,) = (item for item in done.json()["checks"] if item["id"] == check)
    return found["status"], found["seen"], found["fix"] or ""


def doctor(refinerctl: Command, *words: str) -> Finished:
    """With a limit for a busy machine, on which moto takes long to import; the last one given counts."""
    return refinerctl("doctor", "--output", "json", "--timeout", "2m", *words)


@pytest.mark.usefixtures("account")
def test_nothing_is_missing(refinerctl: Command, project: Path, unique: str) -> None:
    done = doctor(refinerctl)

    assert done.code == 0, done.out
    found = statuses(done)
    needed = ("python", "terraform", "provider", "configuration", "credentials", "images", "ecr", "state")
    assert {found[check] for check in needed} == {"pass"}
    assert {found[check] for check in ("packages", "node", "rabbitmq", "redis", "local", "broker")} == {"skip"}
    assert f"arn:aws:sts::{ACCOUNT}:" in seen(done, "credentials")[1]
    assert seen(done, "images")[1].endswith(f"/{unique}: 1 tag")
    assert "a-secret" not in done.out + done.err


def test_states_over_http(refinerctl: Command, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AWS credentials, as in a job that only plans; with a wrong token they cannot be read."""
    text = (project / "refinerctl.toml").read_text()
    (project / "refinerctl.toml").write_text(text.replace("[environments.lab]", '[environments.lab]\nbackend = "http"'))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    unset = doctor(refinerctl)
    with state_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        right = doctor(refinerctl)
        for name in ("TF_HTTP_PASSWORD", "CI_JOB_TOKEN"):
            monkeypatch.setenv(name, "a-wrong-token")
        wrong = doctor(refinerctl)

    assert (seen(unset, "state")[0], seen(right, "state")[0]) == ("fail", "pass"), right.out
    assert "TF_HTTP_ADDRESS" in seen(unset, "state")[2]
    assert seen(wrong, "state")[0] == "fail"
    assert "access denied" in seen(wrong, "state")[1]
    assert "a-wrong-token" not in wrong.out + wrong.err


@pytest.mark.usefixtures("account")
def test_credentials_that_end_soon(refinerctl: Command, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", f"{datetime.now(UTC) + timedelta(minutes=10):%Y-%m-%dT%H:%M:%SZ}")
    done = doctor(refinerctl)

    assert seen(done, "credentials")[0] == "warn"
    assert any(f", valid for {minutes}m" in seen(done, "credentials")[1] for minutes in (9, 10))
    assert done.code == 0


@pytest.mark.usefixtures("account")
def test_quiet_prints_only_problems(refinerctl: Command, project: Path) -> None:
    fine = refinerctl("doctor", "-q", "--timeout", "2m")
    boto3.client("s3", region_name="us-east-1").delete_bucket(Bucket=STATE_BUCKET)
    wrong = refinerctl("doctor", "-q", "--timeout", "2m")

    assert (fine.code, fine.out) == (0, "")
    assert wrong.code == 5
    assert wrong.out.startswith(f"FAIL  state          bucket {STATE_BUCKET} of the Terraform state")
    assert wrong.out.count("\n") == 1


@pytest.mark.usefixtures("account")
def test_faults_of_an_account(refinerctl: Command, project: Path, unique: str) -> None:
    """Each has its fix."""
    boto3.client("ecr", region_name="us-east-1").delete_repository(repositoryName=REPOSITORY)
    text = (project / "refinerctl.toml").read_text()
    text = text.replace(ACCOUNT, "210987654321").replace(f"/{unique}", f"/{unique}-gone")
    (project / "refinerctl.toml").write_text(text)
    done = doctor(refinerctl)

    assert done.code == 5
    assert seen(done, "credentials")[0] == "fail"
    assert "is in account 123456789012, but environment lab is in 210987654321" in seen(done, "credentials")[1]
    assert seen(done, "images")[0] == "fail"
    assert "[images.refiner]" in seen(done, "images")[2]
    assert seen(done, "ecr")[0] == "warn"
    assert seen(done, "ecr")[2] == "Run `refinerctl deploy --env lab --stack registry`."


def test_without_credentials(refinerctl: Command, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    done = doctor(refinerctl)

    assert done.code == 5
    assert seen(done, "credentials")[:2] == ("fail", "no AWS credentials found")
    assert statuses(done)["images"] == "pass"
    for check in ("ecr", "state"):
        assert seen(done, check)[:2] == ("skip", "no valid AWS credentials")


def test_expired_credentials(refinerctl: Command, project: Path) -> None:
    def expired(request: Request) -> Answer:
        return Answer(403, b"<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>")

    with serving(expired) as server:
        done = doctor(refinerctl, "--endpoint-url", server.url)

    assert seen(done, "credentials")[0] == "fail"
    assert "have expired" in seen(done, "credentials")[1]
    assert "renew the session token" in seen(done, "credentials")[2]


def test_servers_that_do_not_answer(refinerctl: Command, project: Path) -> None:
    """The command ends nevertheless, and shows what the others found."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = doctor(refinerctl, "--endpoint-url", f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "6s")

    assert done.code == 5
    assert {check: statuses(done)[check] for check in ("credentials", "ecr", "state")} == dict.fromkeys(
        ("credentials", "ecr", "state"), "fail"
    )
    assert seen(done, "state")[1] == "no answer within 6 s"
    assert statuses(done)["images"] == "pass"


def test_an_inherited_endpoint_is_refused(refinerctl: Command, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = doctor(refinerctl)

    assert seen(done, "credentials")[0] == "fail"
    assert "AWS_ENDPOINT_URL is set" in seen(done, "credentials")[1]
    assert statuses(done)["state"] == "skip"


@pytest.mark.usefixtures("account")
def test_a_broker_in_a_vpc(refinerctl: Command, project: Path) -> None:
    write_environment(project, "lab", **{"rnr.tfvars": RNR})
    missing = doctor(refinerctl, "--stack", "rnr")
    boto3.client("mq", region_name="us-east-1").create_broker(
        BrokerName="rnr-lab-broker",
        EngineType="RABBITMQ",
        EngineVersion="3.13",
        DeploymentMode="SINGLE_INSTANCE",
        HostInstanceType="mq.m7g.medium",
        PubliclyAccessible=False,
        AutoMinorVersionUpgrade=True,
        Users=[{"Username": "admin", "Password": "a-password-12345"}],
    )
    private = doctor(refinerctl, "--stack", "rnr")
    with socket.create_server(("127.0.0.1", 0)) as forwarded:
        url = f"amqps://localhost:{forwarded.getsockname()[1]}"
        reached = doctor(refinerctl, "--stack", "rnr", "--broker-url", url)

    assert seen(missing, "broker")[:2] == ("warn", "broker rnr-lab-broker does not exist")
    assert seen(private, "broker")[0] == "warn"
    assert "--broker-url" in seen(private, "broker")[2]
    assert seen(reached, "broker")[0] == "pass"
    assert "a-password" not in private.out + reached.out


def test_an_environment_on_this_machine_needs_no_account(
    refinerctl: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    write_environment(project, "local", **{"rnr.tfvars": RNR, "refiner.tfvars": ""})
    monkeypatch.setenv("PATH", str(project))  # without terraform, redis, node
    done = doctor(refinerctl, "--env", "local", "--stack", "rnr")

    found = statuses(done)
    assert done.code == 5
    assert found["terraform"] == "fail"
    assert "Install it from" in seen(done, "terraform")[2]
    assert seen(done, "redis") == (
        "fail",
        "neither Redis nor Valkey is installed",
        "Install it: `apt-get install redis-server`, or `brew install valkey`; "
        "or start a Docker engine (extra `docker`).",
    )
    assert {found[check] for check in ("credentials", "images", "ecr", "state", "broker")} == {"skip"}


def test_a_wrong_configuration_is_reported(refinerctl: Command, project: Path) -> None:
    with (project / "refinerctl.toml").open("a") as file:
        file.write('[environments.other]\nregoin = "us-east-1"\n')
    done = doctor(refinerctl)
    text = refinerctl("doctor")

    assert done.code == text.code == 5
    assert seen(done, "configuration")[0] == "fail"
    assert "environments.other: unknown key regoin" in seen(done, "configuration")[1]
    assert statuses(done)["credentials"] == "skip"
    assert "FAIL  configuration" in text.out
    assert refinerctl("doctor", "--env", "nowhere", cwd=project.parent).code == 2


def test_outside_of_a_project(tmp_path: Path) -> None:
    needs_terraform()
    done = spawn("doctor", "--env", "aws", "--offline", cwd=tmp_path)

    assert done.returncode == 0, done.stdout
    assert "SKIP  configuration: no refinerctl.toml in this folder or its parent folders" in done.stdout
    assert "SKIP  credentials, images, ecr, state, broker: --offline" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_outside_of_a_project_each_check_is_printed_once(refinerctl: Command, tmp_path: Path) -> None:
    done = refinerctl("doctor", "--env", "aws", "--output", "json", cwd=tmp_path)

    checks = [check["id"] for check in done.json()["checks"]]
    assert sorted(checks) == sorted(set(checks))
