"""`refinerctl report` if most sources cannot be read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from refinerctl.aws.logs import LogGroups
from refinerctl.aws.metrics import Metrics
from refinerctl.aws.session import AwsSession
from refinerctl.insight.report.activity import metric_sums
from refinerctl.stacks.base import EventRule, Queue, Stage
from tests.command import Command
from tests.integration.servers import Answer, serving


@pytest.fixture
def project(tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with one ruleset in its values, and without Terraform's stacks."""
    values = tmp_path / "terraform/environments/account/refiner.tfvars"
    values.parent.mkdir(parents=True)
    rulesets = 'rulesets = {\n  One = {\n    prefix    = "One/"\n    image_uri = "r:v1"\n  }\n}\n'
    values.write_text(f'name_prefix = "{unique}"\n{rulesets}')
    (values.parent / "backend.hcl").write_text('bucket = "no-such-state"\nkey = "k"\nregion = "us-east-1"\n')
    (tmp_path / "refinerctl.toml").write_text('environment = "account"\n[environments.account]\nregion = "us-east-1"\n')
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_report_with_only_a_log(refinerctl: Command, session: AwsSession, project: Path, unique: str) -> None:
    groups, now = LogGroups(session), datetime.now(UTC)
    groups.create_stream(f"/aws/lambda/{unique}-One", "s")
    lines: list[dict[str, Any]] = [
        {"message": "record received", "eventTime": (now - timedelta(seconds=9)).isoformat(), "key": "One/a"},
        {"message": "record done", "timestamp": now.isoformat(), "key": "One/a", "durationMs": 12.5},
    ]
    ids = {"requestId": "r", "messageId": "m"}
    groups.put(f"/aws/lambda/{unique}-One", "s", [(now, json.dumps({**line, **ids})) for line in lines])

    done = refinerctl("report", "--html", "r.html", "--endpoint-url", str(session.endpoint_url), "--output", "json")

    assert done.code == 0, done.err
    document = done.json()
    (found,) = document["activity"]
    assert (found["flow"]["attempts"], found["flow"]["completed"], found["flow"]["failed"]) == (1, 1, 0)
    assert found["latency_s"] == {"edges": [8.0, 10.0], "counts": [1]}
    assert any("names come from refiner.tfvars" in problem for problem in document["problems"])
    assert any(problem.startswith("releases: ") for problem in document["problems"])
    assert "One: it is not deployed" in done.err
    assert any(check["status"] == "fail" for check in document["checks"])
    assert "One" in (project / "r.html").read_text()


def test_error_and_no_page_if_nothing_can_be_read(refinerctl: Command, project: Path) -> None:
    denied = Answer(403, b'{"__type": "AccessDeniedException", "message": "not for you"}')
    with serving(lambda _: denied) as server:
        done = refinerctl("report", "--html", "r.html", "--endpoint-url", server.url)
    assert (done.code, done.out) == (1, "")
    assert "denied" in done.err.lower()
    assert not (project / "r.html").exists()


@mock_aws
def test_metrics_of_a_rule_are_those_of_its_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    session = AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=False)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    on_bus = [{"Name": "RuleName", "Value": "x-One"}, {"Name": "EventBusName", "Value": "the-bus"}]
    for dimensions, value in ((on_bus, 3), (on_bus[:1], 100)):
        for minutes in (5, 50):
            data: Any = {
                "MetricName": "MatchedEvents",
                "Dimensions": dimensions,
                "Value": value,
                "Timestamp": now - timedelta(minutes=minutes),
            }
            session.client("cloudwatch").put_metric_data(Namespace="AWS/Events", MetricData=[data])
    one = Stage("One", EventRule("x-One", "the-bus", "One/"), Queue("x-One"))
    found = metric_sums(Metrics(session), [one], now - timedelta(hours=1), now)
    assert found == {("One", "matched"): 6, ("One", "undelivered"): 0, ("One", "sent"): None, ("One", "deleted"): None}
