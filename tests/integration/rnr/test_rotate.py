"""`rnr rotate` on a real RabbitMQ, with a user of its own; the secret and the service are the emulator's."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from refinerctl.aws.session import AwsSession
from refinerctl.local.rabbitmq import RabbitMQServer
from tests.command import Command
from tests.integration.rnr.account import Account, as_json

HOST = "b-1.mq.us-east-1.on.aws"
FIRST = "the first password"
STAGES = ("AWSCURRENT", "AWSPENDING", "AWSPREVIOUS", "INITIAL")
# The requests that change something, in their order.
CHANGES = (
    "PutSecretValue",
    "PUT /api/users/USER",
    "UpdateSecretVersionStage",
    "UpdateService",
    "UpdateSecretVersionStage",
)


@dataclass
class World:
    """A broker's user, and its secret as Terraform leaves it."""

    account: Account
    broker: RabbitMQServer
    session: AwsSession

    @property
    def user(self) -> str:
        return f"{self.account.name}-user"

    @property
    def secret(self) -> str:
        return f"{self.account.name}-broker"

    def create(self) -> None:
        self.api("PUT", f"users/{self.user}", {"password": FIRST, "tags": "administrator"})
        secrets, ecs = self.session.client("secretsmanager"), self.session.client("ecs")
        login = {"username": self.user, "password": FIRST, "other": "kept"}
        version = secrets.create_secret(Name=self.secret, SecretString=json.dumps(login))["VersionId"]
        secrets.update_secret_version_stage(SecretId=self.secret, VersionStage="INITIAL", MoveToVersionId=version)
        name = self.account.name
        ecs.create_cluster(clusterName=name)
        ecs.register_task_definition(
            family=f"{name}-worker", containerDefinitions=[{"name": "worker", "image": "worker", "memory": 128}]
        )
        ecs.create_service(cluster=name, serviceName=f"{name}-worker", taskDefinition=f"{name}-worker", desiredCount=0)

    def api(self, method: str, path: str, body: Any = None, login: tuple[str, str] | None = None) -> tuple[int, Any]:
        url = urlsplit(self.broker.api_url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        credentials = ":".join(login or (self.broker.username, self.broker.password))
        headers = {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}
        connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, json.loads(content or b"null")

    def accepts(self, password: str) -> bool:
        return self.api("GET", "whoami", login=(self.user, password))[0] == 200

    def versions(self) -> dict[str, dict[str, str]]:
        """The content of the secret by stage."""
        secrets = self.session.client("secretsmanager")
        stages = secrets.describe_secret(SecretId=self.secret)["VersionIdsToStages"]
        return {
            stage: json.loads(secrets.get_secret_value(SecretId=self.secret, VersionId=version)["SecretString"])
            for version, names in stages.items()
            for stage in names
        }

    @property
    def deployment(self) -> str:
        name = self.account.name
        found = self.session.client("ecs").describe_services(cluster=name, services=[f"{name}-worker"])
        return str(found["services"][0]["deployments"][0]["id"])

    def check_rotated(self) -> str:
        """The new password, after checking that it is the only one, and that nothing is left of the rotation."""
        versions = self.versions()
        assert sorted(versions) == ["AWSCURRENT", "AWSPREVIOUS", "INITIAL"]
        assert versions["INITIAL"]["password"] == FIRST
        password = versions["AWSCURRENT"]["password"]
        assert versions["AWSCURRENT"] == {"username": self.user, "password": password, "other": "kept"}
        assert (self.accepts(password), self.accepts(FIRST)) == (True, False)
        assert self.api("GET", f"users/{self.user}")[1]["tags"] in ("administrator", ["administrator"])
        return password


@pytest.fixture
def world(account: Account, session: AwsSession, rabbitmq: RabbitMQServer) -> Iterator[World]:
    account.broker = rabbitmq
    world = World(account, rabbitmq, session)
    world.create()
    yield world
    world.api("DELETE", f"users/{world.user}")


class TestRotation:
    def test_new_password_on_the_broker_and_in_the_secret(self, world: World, run: Command) -> None:
        before = world.deployment
        done = run("rnr", "rotate", "--yes")

        assert done.code == 0, done.err
        password = world.check_rotated()
        assert world.deployment != before
        assert done.out == f"user {world.user} of broker {world.secret} has a new password, in secret {world.secret}\n"
        assert password not in done.out + done.err

    def test_verify_knows_whether_the_first_password_is_dead(self, world: World, run: Command) -> None:
        """Terraform's state has it."""
        before = run("verify", "--stack", "rnr", "--check", "state-password")
        assert run("rnr", "rotate", "--yes").code == 0
        after = run("verify", "--stack", "rnr", "--check", "state-password")

        assert (before.code, after.code) == (5, 0), before.err + after.err
        assert "accepts the password that is in Terraform's state" in before.out
        assert after.out.startswith("1 passed")

    def test_again_gives_another_password(self, world: World, run: Command) -> None:
        assert run("rnr", "rotate", "--yes").code == 0
        first = world.check_rotated()
        done = run("rnr", "rotate", "--yes", "--output", "json")

        assert done.json()["steps"] == ["secret", "broker", "current", "restart", "finish"]
        assert world.check_rotated() != first
        assert not world.accepts(first)

    def test_dry_run_changes_nothing_and_shows_the_steps(self, world: World, run: Command) -> None:
        before = world.versions()
        done = run("rnr", "rotate", "--dry-run")

        assert done.out.splitlines()[0] == "1. write a new password to the secret, as AWSPENDING"
        assert (done.code, world.versions(), world.accepts(FIRST)) == (0, before, True)

    def test_service_that_does_not_exist_yet(self, world: World, run: Command) -> None:
        missing = as_json({"__type": "ServiceNotFoundException"}, 400)
        world.account.before = lambda name: missing if name == "UpdateService" else None
        done = run("rnr", "rotate", "--yes")

        assert done.code == 0, done.err
        assert "it is not restarted" in done.err
        world.check_rotated()


class TestInterruption:
    @pytest.mark.parametrize("change", range(len(CHANGES)))
    def test_is_continued_after_a_kill(self, world: World, run: Command, change: int) -> None:
        """After each request that changes something; its answer is not read."""
        killed: list[subprocess.Popen[str]] = []

        def kill(_name: str) -> None:
            killed[0].kill()
            killed[0].wait()

        world.account.after = self.at(world, change, kill)
        command = [sys.executable, "-m", "refinerctl", "rnr", "rotate", "--yes"]
        killed.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        killed[0].communicate(timeout=120)
        assert killed[0].returncode == -9
        assert any(world.accepts(version["password"]) for version in world.versions().values())

        world.account.after = lambda _name: None
        done = run("rnr", "rotate", "--yes", "--output", "json")
        assert done.code == 0, done.err
        assert done.json()["continued"] is (change < len(CHANGES) - 1)
        world.check_rotated()

    @pytest.mark.parametrize("change", [1, 2])
    def test_is_continued_after_an_error(self, world: World, run: Command, change: int) -> None:
        """Of each request that changes something; it had no effect."""
        refused = as_json({"__type": "InvalidParameterException", "message": "no"}, 400)
        world.account.before = self.at(world, change, lambda _name: refused)
        done = run("rnr", "rotate", "--yes")
        assert done.code == 1
        assert "the rotation is not finished, and nothing is lost" in done.err
        assert any(world.accepts(version["password"]) for version in world.versions().values())

        world.account.before = lambda _name: None
        assert run("rnr", "rotate", "--yes").code == 0
        world.check_rotated()

    def at(self, world: World, change: int, action: Callable[[str], Any]) -> Callable[[str], Any]:
        """Calls `action` at the request of this number of CHANGES."""
        names = [name.replace("USER", world.user) for name in CHANGES]
        seen: list[str] = []

        def call(name: str) -> Any:
            if name not in names:
                return None
            seen.append(name)
            return action(name) if len(seen) == change + 1 else None

        return call


class TestRefusal:
    def test_password_that_is_not_the_brokers(self, world: World, run: Command) -> None:
        world.api("PUT", f"users/{world.user}", {"password": "of somebody else", "tags": "administrator"})
        before = world.versions()
        done = run("rnr", "rotate", "--yes")

        assert done.code == 1
        assert f"broker {world.secret} refuses the password of secret {world.secret} for user {world.user}" in done.err
        assert world.versions() == before

    def test_broker_out_of_reach_says_how_to_reach_it(self, world: World, run: Command) -> None:
        world.account.amqp_url, world.account.api_url = f"amqps://{HOST}:5671", f"https://{HOST}"
        before = world.versions()
        done = run("rnr", "rotate", "--yes", "--broker-url", "https://127.0.0.1:9")

        assert done.code == 1
        assert "cannot be reached" in done.err
        assert "AWS-StartPortForwardingSessionToRemoteHost" in done.err
        assert world.versions() == before
