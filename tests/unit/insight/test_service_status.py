"""The status of a stack with a private broker: what metrics and ECS say, and how it looks at 80 columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from refinerctl.aws.ecs_services import Deployment, ServiceState, TaskDefinition
from refinerctl.aws.metrics import DataPoint
from refinerctl.console import fitted
from refinerctl.errors import AccessDeniedError
from refinerctl.insight.health import reasons
from refinerctl.insight.stage_status import read_status
from refinerctl.insight.status import SERVICE_COLUMNS, cells, chosen, log_lines, screen, service_lines
from refinerctl.insight.status_model import (
    DlqStatus,
    PipelineStatus,
    QueueStatus,
    ScheduleStatus,
    ServiceStatus,
    StageStatus,
)
from refinerctl.ledger.entries import Release, ReleaseAction
from refinerctl.stacks.rnr import STACK
from tests.unit.fakes import START
from tests.unit.insight.fakes import DIGEST, Account

WORKER = "rnr-test-worker"
DEFINITION = "arn:aws:ecs:us-east-1:1:task-definition/rnr-test-worker:3"
COUNTS = {
    "Ready": 7,
    "Unacknowledged": 2,
    "Consumers": 3,
    "Desired": 4,
    "Running": 3,
    "Pending": 1,
    "Protected": 2,
    "DlqMessages": 1,
    "BacklogPerTask": 3.0,
    "BacklogAge": 95,
}


@pytest.fixture
def account() -> Account:
    assert STACK.pipeline is not None
    stages = STACK.pipeline(STACK.settings, {"app_name": "rnr", "env": "test"}).stages
    found = Account(stages, STACK)
    primary = Deployment(DEFINITION, "PRIMARY", "COMPLETED", desired=4, running=3)
    found.services.known[WORKER] = ServiceState(
        WORKER, "arn", "rnr-test", "ACTIVE", 4, 3, 1, DEFINITION, deployments=(primary,)
    )
    found.services.definitions[DEFINITION] = TaskDefinition(DEFINITION, "role", "role", image=f"r@{DIGEST}")
    found.ledger.releases = (Release(ReleaseAction.DEPLOY, "v2", {"worker": f"r@{DIGEST}"}),)
    for name, value in COUNTS.items():
        found.metrics.set(WORKER, name, value)
    return found


def read(account: Account) -> PipelineStatus:
    return read_status(account.app, account.stages, START)


def worker(account: Account) -> StageStatus:
    return next(stage for stage in read(account).stages if stage.name == "worker")


class TestService:
    def test_queue_dlq_and_tasks_come_from_metrics(self, account: Account) -> None:
        found = worker(account)
        assert found.queue == QueueStatus("rnr-test-work", 7, 2, 0, 95)
        assert found.dlq == DlqStatus("rnr-test-work-dlq", 1)
        assert found.service == ServiceStatus(
            WORKER,
            at=START - timedelta(minutes=1),
            desired=4,
            running=3,
            pending=1,
            protected=2,
            consumers=3,
            backlog_per_task=3.0,
            rollout="COMPLETED",
            digest=DIGEST,
            runs_release=True,
        )
        assert found.problems == ()

    def test_no_queue_of_the_broker_is_asked_of_sqs(self, account: Account) -> None:
        read(account)
        assert not {"rnr-test-work", "rnr-test-work-dlq"} & set(account.queues.messages)

    def test_a_silent_autoscaler_is_a_problem_and_ecs_still_counts_tasks(self, account: Account) -> None:
        account.metrics.points.clear()
        found = worker(account)
        assert (found.queue, found.dlq) == (None, None)
        assert found.service
        assert (found.service.running, found.service.consumers, found.service.at) == (3, None, None)
        assert found.problems == (
            f"no metrics of service {WORKER} for 15 minutes: its autoscaler does not publish; "
            "its queue and DLQ are unknown",
        )

    def test_counts_of_an_autoscaler_that_has_fallen_silent_are_said_to_be_old(self, account: Account) -> None:
        points = account.metrics.points
        for key, found in points.items():
            points[key] = tuple(DataPoint(START - timedelta(minutes=9), point.value) for point in found)
        assert worker(account).problems == (
            f"no metrics of service {WORKER} for 9 minutes: its autoscaler does not publish; "
            "its queue and DLQ are shown as of the last metrics",
        )

    def test_metrics_that_cannot_be_read_are_reported_once(self, account: Account) -> None:
        account.metrics.error = AccessDeniedError("access denied: GetMetricData on the metrics")
        assert read(account).problems == ("metrics: access denied: GetMetricData on the metrics",)
        assert worker(account).problems == ()

    def test_a_service_that_does_not_exist_is_not_deployed(self, account: Account) -> None:
        account.services.known.clear()
        found = worker(account)
        assert (found.service, found.problems) == (None, ("it is not deployed in us-east-1",))

    def test_messages_on_the_broker_may_be_of_incomplete_inputs(self, account: Account) -> None:
        for number in range(12):
            account.bucket.write(f"rnr/input/{number}", at=START - timedelta(days=1))
        found = worker(account).inputs
        assert found is not None
        assert (found.incomplete, found.without_message) == (12, 2)


class TestSchedules:
    def test_the_last_run_is_that_of_the_function(self, account: Account) -> None:
        account.metrics.set("rnr-test-producer", "Invocations", 1, 1, 0)
        found = read(account).stages[0]
        assert found.schedule == ScheduleStatus(
            "rnr-test-producer", "rate(5 minutes)", is_enabled=True, last_run=START - timedelta(minutes=2)
        )

    def test_failed_runs_and_undelivered_invocations_are_in_their_dlqs(self, account: Account) -> None:
        account.set_counts("rnr-test-producer-dlq", 2)
        account.set_counts("rnr-test-producer-delivery-dlq", 3)
        found = read(account).stages[0]
        assert found.dlq
        assert found.delivery_dlq
        assert (found.dlq.depth, found.delivery_dlq.depth) == (2, 3)


class TestView:
    def test_the_table_fits_into_80_columns_with_a_line_for_the_service(self, account: Account) -> None:
        account.metrics.set("rnr-test-producer", "Invocations", 1)
        found = read(account)
        header, *_ = fitted(SERVICE_COLUMNS, [chosen(cells(found, it), SERVICE_COLUMNS) for it in found.stages], 80)
        assert {"STAGE", "WAITING", "DLQ", "ERRORS"} <= {title.strip() for title, _ in header}
        assert service_lines(found) == [
            "worker: 3 of 4 running, 1 pending, 2 protected; 3 consumers, backlog per task 3"
        ]

    def test_a_deployment_in_progress_is_shown(self, account: Account) -> None:
        state = account.services.known[WORKER]
        rolling = replace(state.deployments[0], rollout="IN_PROGRESS")
        account.services.known[WORKER] = replace(state, deployments=(rolling,))
        assert service_lines(read(account))[-1] == "worker: deployment IN_PROGRESS"

    def test_an_image_of_another_release_is_a_reason(self, account: Account) -> None:
        account.ledger.releases = (Release(ReleaseAction.DEPLOY, "v3", {"worker": f"r@sha256:{'b' * 64}"}),)
        assert "worker: does not run the image of v3" in reasons(read(account))

    def test_log_lines_and_the_screen_have_the_service(self, account: Account) -> None:
        found = read(account)
        line = next(line for line in log_lines(found) if " worker " in line)
        assert " running=3 desired=4 pending=1 protected=2 consumers=3 backlog_per_task=3" in line
        assert any("3 of 4 running" in str(line) for line in screen("test", found, None, 80, 24).renderables)
        assert reasons(found) == ["worker: 1 message in DLQ rnr-test-work-dlq"]
