"""Lambda function: reads the queue and the service, decides, sets the desired count, publishes metrics."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from autoscaler.decision import Decision, Reading, Settings, State, decide
from autoscaler.management import ManagementApi, QueueCounts, ReadingError
from autoscaler.service import EcsService
from rnr_common.log import Logger, describe_error
from rnr_common.topology import dlq_name

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ssm import SSMClient

NAMESPACE = "rnr"


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Return the numbers of the decision. If a reading fails, the run changes nothing and fails."""
    log = Logger(requestId=context.aws_request_id)
    try:
        return _autoscaler().run(int(time.time()), log)
    except Exception as error:
        log.error("run failed", error=describe_error(error))
        raise


@cache
def _autoscaler() -> Autoscaler:
    config = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
    service = EcsService(boto3.client("ecs", config=config), os.environ["RNR_CLUSTER"], os.environ["RNR_SERVICE"])
    ssm, cloudwatch = boto3.client("ssm", config=config), boto3.client("cloudwatch", config=config)
    return Autoscaler(os.environ, ManagementApi(os.environ), service, ssm, cloudwatch)


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Return the settings, for instance max_tasks of RNR_MAX_TASKS; raises ValueError with the variable's name."""
    found: dict[str, Any] = {}
    for field in fields(Settings):
        text = environ.get(f"RNR_{field.name.upper()}")
        if not text:
            continue
        try:
            found[field.name] = int(text) if field.type == "int" else float(text)
        except ValueError:
            raise ValueError(f"RNR_{field.name.upper()} is {text!r}, not a number") from None
    return Settings(**found)


class Autoscaler:
    """One service that works on one queue."""

    def __init__(
        self,
        environ: Mapping[str, str],
        broker: ManagementApi,
        service: EcsService,
        ssm: SSMClient,
        cloudwatch: CloudWatchClient,
    ) -> None:
        self._settings = settings_of(environ)
        self._queue, self._parameter = environ["RNR_QUEUE"], environ["RNR_STATE_PARAMETER"]
        self._broker, self._service, self._ssm, self._cloudwatch = broker, service, ssm, cloudwatch

    def run(self, now: int, log: Logger) -> dict[str, Any]:
        """Read everything, then act. A failure to read raises before anything is changed or published."""
        state = self._state(log)
        queue, dlq = self._counts(self._queue, state, log), self._counts(dlq_name(self._queue), State(), log)
        tasks = self._service.counts()
        reading = Reading(now, queue.ready, queue.unacknowledged, queue.published, **asdict(tasks))
        decision = decide(self._settings, reading, state)
        # Before the service: if a later call fails, the next run must not take the same step in once more.
        document = json.dumps(decision.state.to_json(), separators=(",", ":"))
        self._ssm.put_parameter(Name=self._parameter, Value=document, Type="String", Overwrite=True)
        if decision.desired != tasks.desired:
            self._service.scale(decision.desired)
        numbers = _numbers(reading, decision, queue.consumers, dlq.ready + dlq.unacknowledged)
        log.info("decision", **numbers)
        self._publish(now, numbers)
        return numbers

    def _counts(self, name: str, state: State, log: Logger) -> QueueCounts:
        """Return the counts; a queue that was never seen is empty: the producer's first run declares it."""
        counts = self._broker.queue(name)
        if counts is None and state.queue_seen:
            raise ReadingError(f"queue {name} does not exist any more")
        if counts is None:
            log.warn("queue not found", queue=name)
        return counts or QueueCounts()

    def _state(self, log: Logger) -> State:
        try:
            text = self._ssm.get_parameter(Name=self._parameter)["Parameter"]["Value"]
        except self._ssm.exceptions.ParameterNotFound:
            return State()
        try:
            document = json.loads(text)
            return State.from_json(document) if document else State()
        except ValueError as error:
            log.warn("state is not readable; cool-downs begin again", parameter=self._parameter, reason=str(error))
            return State()

    def _publish(self, now: int, numbers: Mapping[str, Any]) -> None:
        data: list[Any] = [
            {
                "MetricName": name[0].upper() + name[1:],
                "Dimensions": [{"Name": "Service", "Value": self._service.name}],
                "Timestamp": now,
                "Value": value,
                "Unit": "Seconds" if name == "backlogAge" else "Count",
            }
            for name, value in numbers.items()
            if name not in ("from", "reason")
        ]
        self._cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=data)


def _numbers(reading: Reading, decision: Decision, consumers: int, dlq_messages: int) -> dict[str, Any]:
    """Return what is logged, published as metrics and returned."""
    return {
        "ready": reading.ready,
        "unacknowledged": reading.unacknowledged,
        "consumers": consumers,
        "backlogPerTask": reading.backlog / max(reading.running, 1),
        "backlogAge": round(decision.backlog_age),
        "desired": decision.desired,
        "running": reading.running,
        "pending": reading.pending,
        "protected": reading.protected,
        "dlqMessages": dlq_messages,
        "from": reading.desired,
        "reason": decision.reason,
    }
