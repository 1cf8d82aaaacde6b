"""A run of the function: what it reads, changes and publishes, and what it does if something fails."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from autoscaler.handler import Autoscaler, settings_of
from autoscaler.management import ManagementApi, ReadingError
from autoscaler.service import EcsService
from rnr_common.log import Logger
from rnr_common.secret import Secret
from tests.certificates import self_signed

NOW = 1_800_000_000
ENVIRON = {
    "RNR_QUEUE": "rnr-test-work",
    "RNR_STATE_PARAMETER": "/rnr-test/autoscaler",
    "RNR_BROKER_SECRET": "arn:secret",
    "RNR_TARGET_BACKLOG": "5",
    "RNR_MAX_TASKS": "",
}


@dataclass
class FakeAws:
    """The calls of ECS, SSM, CloudWatch and Secrets Manager that the function makes; `changes` are in order."""

    desired: int = 0
    protected: tuple[bool, ...] = ()
    password: str = "current"
    status: str = "ACTIVE"
    parameter: str | None = "{}"
    metrics: dict[str, float] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    metrics_fail: bool = False
    exceptions = type("Exceptions", (), {"ParameterNotFound": KeyError})

    def describe_services(self, cluster: str, services: list[str]) -> dict[str, Any]:
        running = len(self.protected)
        service = {"desiredCount": self.desired, "runningCount": running, "pendingCount": 0, "status": self.status}
        return {"services": [service]}

    def get_paginator(self, name: str) -> FakeAws:
        return self

    def paginate(self, **_: str) -> list[dict[str, Any]]:
        return [{"taskArns": [f"task/{number}"]} for number in range(len(self.protected))]

    def get_task_protection(self, cluster: str, tasks: list[str]) -> dict[str, Any]:
        assert len(tasks) <= 100
        found = [{"protectionEnabled": self.protected[int(arn.partition("/")[2])]} for arn in tasks]
        return {"protectedTasks": found, "failures": []}

    def update_service(self, cluster: str, service: str, desiredCount: int) -> None:  # noqa: N803
        self.desired = desiredCount
        self.changes.append("service")

    def put_metric_data(self, Namespace: str, MetricData: list[Any]) -> None:  # noqa: N803
        assert Namespace == "rnr"
        if self.metrics_fail:
            raise ConnectionError("CloudWatch does not answer")
        assert all(data["Dimensions"] == [{"Name": "Service", "Value": "rnr-test-worker"}] for data in MetricData)
        self.metrics = {data["MetricName"]: data["Value"] for data in MetricData}
        self.changes.append("metrics")

    def get_parameter(self, Name: str) -> dict[str, Any]:  # noqa: N803
        if self.parameter is None:
            raise KeyError(Name)
        return {"Parameter": {"Value": self.parameter}}

    def put_parameter(self, Name: str, Value: str, **_: Any) -> None:  # noqa: N803
        self.parameter = Value
        self.changes.append("state")

    def get_secret_value(self, SecretId: str) -> dict[str, str]:  # noqa: N803
        return {"SecretString": json.dumps({"username": "admin", "password": self.password})}


class FakeBroker(ThreadingHTTPServer):
    """A management API: `answers` by queue, a dict, or a status."""

    answers: dict[str, dict[str, Any] | int]
    password = "current"

    def authorized(self, header: str) -> bool:
        return header == "Basic " + base64.b64encode(f"admin:{self.password}".encode()).decode()


class _Handler(BaseHTTPRequestHandler):
    server: FakeBroker

    def do_GET(self) -> None:
        answer = self.server.answers.get(self.path.removeprefix("/api/queues/%2F/"), 404)
        if not self.server.authorized(self.headers["Authorization"]):
            answer = 401
        body = b"{}" if isinstance(answer, int) else json.dumps(answer).encode()
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on stderr."""


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """A broker on a free port of loopback."""
    server = FakeBroker(("127.0.0.1", 0), _Handler)
    server.answers = {"rnr-test-work": counts(0), "rnr-test-work-dlq": counts(0)}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def counts(ready: int, unacknowledged: int = 0, consumers: int = 0, published: int = 0) -> dict[str, Any]:
    """Return a queue as the management API describes it."""
    return {
        "messages_ready": ready,
        "messages_unacknowledged": unacknowledged,
        "consumers": consumers,
        "state": "running",
        "message_stats": {"publish": published, "ack": 0},
    }


def autoscaler(broker: FakeBroker, aws: FakeAws, **environ: str) -> Autoscaler:
    """Return the function's core with these servers."""
    variables = {**ENVIRON, "RNR_BROKER_API_URL": f"http://127.0.0.1:{broker.server_port}", **environ}
    api = ManagementApi(variables, Secret("arn:secret", aws), lambda _: None)  # type: ignore[arg-type]
    service = EcsService(aws, "rnr-test", "rnr-test-worker")  # type: ignore[arg-type]
    return Autoscaler(variables, api, service, aws, aws)  # type: ignore[arg-type]


def run(broker: FakeBroker, aws: FakeAws, now: int = NOW) -> dict[str, Any]:
    """Return the result of one run."""
    return autoscaler(broker, aws).run(now, Logger())


def test_a_run_scales_out_publishes_metrics_and_keeps_its_state(broker: FakeBroker) -> None:
    broker.answers = {"rnr-test-work": counts(14, 2, 3, 20), "rnr-test-work-dlq": counts(1)}
    aws = FakeAws(desired=3, protected=(True, True, False))

    result = run(broker, aws)

    assert (result["from"], result["desired"], result["reason"], aws.desired) == (3, 4, "scale out", 4)
    assert aws.metrics == {
        "Ready": 14,
        "Unacknowledged": 2,
        "Consumers": 3,
        "BacklogPerTask": 16 / 3,
        "BacklogAge": 0,
        "Desired": 4,
        "Running": 3,
        "Pending": 0,
        "Protected": 2,
        "DlqMessages": 1,
    }
    assert aws.changes == ["state", "service", "metrics"]


def test_the_age_of_the_backlog_and_cool_downs_continue_over_runs(broker: FakeBroker) -> None:
    aws = FakeAws(desired=3)
    broker.answers["rnr-test-work"] = counts(3, published=3)

    ages = [run(broker, aws, NOW + 60 * minute)["backlogAge"] for minute in range(5)]

    assert ages == [0, 60, 120, 180, 240]
    assert aws.desired == 3
    assert [run(broker, aws, NOW + 60 * minute)["desired"] for minute in range(5, 12)] == [3] * 5 + [1] * 2


def test_a_step_in_is_taken_once_even_if_metrics_cannot_be_published(broker: FakeBroker) -> None:
    aws = FakeAws(desired=9)
    for minute in range(10):
        run(broker, aws, NOW + 60 * minute)
    aws.metrics_fail = True
    for minute in range(10, 13):
        with pytest.raises(ConnectionError):
            run(broker, aws, NOW + 60 * minute)

    assert aws.desired == 4  # 5 fewer, and the cool-down of the next step has begun


def test_without_a_change_the_service_is_not_updated(broker: FakeBroker) -> None:
    aws = FakeAws()
    run(broker, aws)

    assert aws.changes == ["state", "metrics"]


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (500, "answered 500"),
        ({"state": "running"}, "no counts"),
        ({**counts(1), "messages_ready": None}, "no counts"),
        ({**counts(1), "consumers": -1}, "no counts"),
        ({**counts(1), "state": "down"}, "the queue is down"),
    ],
)
@pytest.mark.parametrize("queue", ["rnr-test-work", "rnr-test-work-dlq"])
def test_a_reading_that_fails_changes_and_publishes_nothing(
    broker: FakeBroker, queue: str, answer: dict[str, Any] | int, what: str
) -> None:
    aws = FakeAws(desired=2)
    broker.answers["rnr-test-work"] = counts(90)
    broker.answers[queue] = answer

    with pytest.raises(ReadingError, match=what):
        run(broker, aws)
    assert aws.changes == []


def test_a_service_that_is_not_active_fails_the_run(broker: FakeBroker) -> None:
    aws = FakeAws(status="DRAINING")

    with pytest.raises(ReadingError, match="rnr-test-worker in cluster rnr-test"):
        run(broker, aws)
    assert aws.changes == []


def test_a_broker_that_is_away_fails_the_run(broker: FakeBroker) -> None:
    aws = FakeAws()
    with pytest.raises(ReadingError, match="cannot be reached"):
        autoscaler(broker, aws, RNR_BROKER_API_URL="http://127.0.0.1:1").run(NOW, Logger())
    assert aws.changes == []


def test_after_a_rotation_the_secret_is_read_again(broker: FakeBroker) -> None:
    aws = FakeAws()
    warm = autoscaler(broker, aws)
    warm.run(NOW, Logger())
    broker.password = aws.password = "rotated"

    assert warm.run(NOW + 60, Logger())["desired"] == 0
    broker.password = "another"
    with pytest.raises(ReadingError, match="refuses the login of secret arn:secret"):
        warm.run(NOW + 120, Logger())


def test_a_queue_that_nobody_has_declared_yet_is_empty(broker: FakeBroker) -> None:
    aws = FakeAws()
    broker.answers = {}

    assert run(broker, aws)["ready"] == 0


def test_a_queue_that_is_deleted_fails_the_run(broker: FakeBroker) -> None:
    aws = FakeAws()
    broker.answers["rnr-test-work"] = counts(0, published=5)
    run(broker, aws)
    del broker.answers["rnr-test-work"]

    with pytest.raises(ReadingError, match="does not exist any more"):
        run(broker, aws, NOW + 60)


@pytest.mark.parametrize("parameter", [None, "{}", "not JSON", '{"at":"yesterday"}'])
def test_a_state_that_is_missing_or_not_readable_begins_again(broker: FakeBroker, parameter: str | None) -> None:
    aws = FakeAws(parameter=parameter)
    run(broker, aws)

    assert json.loads(aws.parameter or "")["at"] == NOW


def test_protection_is_read_of_more_tasks_than_one_call_takes(broker: FakeBroker) -> None:
    aws = FakeAws(desired=250, protected=(True,) * 250)

    assert run(broker, aws)["protected"] == 250
    assert aws.desired == 250


def test_a_management_api_with_a_wrong_certificate_is_refused(broker: FakeBroker, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed(key, "localhost").public_bytes(serialization.Encoding.PEM)
    unencrypted = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted)
    (tmp_path / "ca.pem").write_bytes(certificate)
    (tmp_path / "server.pem").write_bytes(pem + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    broker.socket = context.wrap_socket(broker.socket, server_side=True)
    url = f"https://localhost:{broker.server_port}"
    trusted = autoscaler(broker, FakeAws(), RNR_BROKER_API_URL=url, RNR_BROKER_CA_FILE=str(tmp_path / "ca.pem"))

    assert trusted.run(NOW, Logger())["ready"] == 0
    with pytest.raises(ReadingError, match="CERTIFICATE_VERIFY_FAILED"):
        autoscaler(broker, FakeAws(), RNR_BROKER_API_URL=url).run(NOW, Logger())
    other = {
        "RNR_BROKER_API_URL": url.replace("localhost", "127.0.0.1"),
        "RNR_BROKER_CA_FILE": str(tmp_path / "ca.pem"),
    }
    with pytest.raises(ReadingError, match="IP address mismatch"):
        autoscaler(broker, FakeAws(), **other).run(NOW, Logger())


def test_settings_come_from_variables() -> None:
    settings = settings_of({"RNR_MAX_TASKS": "20", "RNR_TARGET_BACKLOG": "2.5", "RNR_ZERO_COOLDOWN_S": "30"})

    assert (settings.max_tasks, settings.target_backlog, settings.zero_cooldown_s) == (20, 2.5, 30)
    with pytest.raises(ValueError, match=r"RNR_STEP_IN is 'two', not a number"):
        settings_of({"RNR_STEP_IN": "two"})
