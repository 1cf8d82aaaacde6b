"""A stand-in for ECS's agent: runs the tasks of the services that the emulator only keeps as records.

It starts and stops tasks as each service's desired count and deployment say, serves the endpoints that a task finds in
ECS_AGENT_URI and ECS_CONTAINER_METADATA_URI_V4, and answers the operations about tasks that the emulator makes up.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.embedded import PROXY_VARIABLE
from refinerctl.errors import RefinerctlError
from refinerctl.local.ecs_endpoint import TaskHandler
from refinerctl.local.ecs_plan import TaskState, plan_tasks
from refinerctl.local.ecs_task import MAX_PROTECTION_MINUTES, EcsTask, LocalTaskDefinition, TaskEngine, task_definition
from refinerctl.local.function_logs import FunctionLogs
from refinerctl.local.runtime_api import LoopbackServer
from refinerctl.parallel import attempt

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

POLL_SECONDS = 1.0
# ECS describes a stopped task for an hour.
KEEP_STOPPED = timedelta(hours=1)
# A task that ends sooner counts as one that cannot start: the next one waits longer.
HEALTHY_SECONDS = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
log = logging.getLogger(__name__)


class EcsError(ValueError):
    """An error of ECS's API."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class _Restarts:
    """When a service's tasks may start again after some ended by themselves."""

    failures: int = 0
    not_before: float = 0.0

    def add(self, lived_s: float) -> None:
        self.failures = self.failures + 1 if lived_s < HEALTHY_SECONDS else 1
        self.not_before = time.monotonic() + min(FIRST_PAUSE_S * 2 ** (self.failures - 1), LONGEST_PAUSE_S)


class EcsAgent:
    """Runs tasks with `engine` until `close`. `ecs` is the emulator's own; `environment` is what each task gets."""

    def __init__(self, ecs: ECSClient, engine: TaskEngine, logs: FunctionLogs, environment: Mapping[str, str]) -> None:
        self._ecs = ecs
        self._engine = engine
        self._logs = logs
        self._environment = environment
        self._lock = threading.RLock()
        self._tasks: dict[str, EcsTask] = {}  # by id, in the order of their start
        self._earlier: set[str] = set()  # deployments that were replaced
        self._definitions: dict[str, LocalTaskDefinition] = {}
        self._restarts: defaultdict[str, _Restarts] = defaultdict(_Restarts)
        self._server = LoopbackServer(self, TaskHandler, "ecs-agent")
        self._changed = threading.Event()
        self._closed = False
        threading.Thread(target=self._run, name="ecs-tasks", daemon=True).start()

    def close(self) -> None:
        """Kill all tasks. The thread ends by itself: it may be waiting for an emulator that was killed."""
        self._server.close()
        with self._lock:
            self._closed = True
            self._changed.set()
            for task in self._tasks.values():
                if task.child is not None:
                    task.child.kill()

    def notice(self) -> None:
        """Look at the services now: something has changed."""
        self._changed.set()

    def _run(self) -> None:
        seen = ""
        while not self._closed:
            try:
                self._reconcile(list(self._services()))
                seen = ""
            except Exception as error:  # the emulator may be busy: the next look is a second later
                if str(error) != seen:
                    log.warning("tasks of services were not updated: %s", error, exc_info=True)
                seen = str(error)
            self._changed.wait(POLL_SECONDS)
            self._changed.clear()

    def _services(self) -> Iterable[Any]:
        for cluster in self._ecs.list_clusters()["clusterArns"]:
            pages = self._ecs.get_paginator("list_services").paginate(cluster=cluster)
            arns = [arn for page in pages for arn in page["serviceArns"]]
            for start in range(0, len(arns), 10):
                yield from self._ecs.describe_services(cluster=cluster, services=arns[start : start + 10])["services"]

    def _reconcile(self, services: list[Any]) -> None:
        for service in services:  # requests are made without the lock, which tasks and `close` wait for
            attempt(partial(self._definition, service["taskDefinition"]))
        with self._lock:
            if self._closed:
                return
            self._reap()
            for service in services:
                self._update(service)
            groups = {(service["clusterArn"], service["serviceName"]) for service in services}
            for task in self._tasks.values():
                if (task.cluster_arn, task.service_name) not in groups:
                    task.stop("Service was deleted")

    def _reap(self) -> None:
        for task in list(self._tasks.values()):
            by_itself = task.active
            if task.end_if_due() and by_itself:
                log.info("task %s of %s ended: %s", task.id, task.service_name, task.ended)
                self._restarts[task.service_name].add(task.lived_s)
            if task.stopped_at is not None and task.stopped_at < datetime.now(UTC) - KEEP_STOPPED:
                del self._tasks[task.id]

    def _update(self, service: Any) -> None:
        deployment = _primary(service)["id"]
        tasks = [task for task in self._of(service) if task.active]
        self._earlier |= {task.deployment for task in tasks} - {deployment}
        states = [
            TaskState(task.id, task.deployment == deployment, task.protected_until is not None, task.steady)
            for task in tasks
        ]
        changes = plan_tasks(states, service["desiredCount"])
        for task_id in changes.stop:
            self._tasks[task_id].stop("Scaling activity initiated by deployment")
        if time.monotonic() >= self._restarts[service["serviceName"]].not_before:
            for _ in range(changes.start):
                self._start(service, deployment)

    def _of(self, service: Any) -> list[EcsTask]:
        cluster, name = service["clusterArn"], service["serviceName"]
        return [t for t in self._tasks.values() if (t.cluster_arn, t.service_name) == (cluster, name)]

    def _start(self, service: Any, deployment: str) -> None:
        cluster, name = service["clusterArn"], service["serviceName"]
        arn = f"{cluster.replace(':cluster/', ':task/')}/{uuid.uuid4().hex}"
        try:
            definition = self._definition(service["taskDefinition"])
        except RefinerctlError as error:
            self._logs.write(name, "ecs", "", f"ERROR {error.message}. {error.hint or ''}".strip())
            self._restarts[name].add(0)
            return
        task = EcsTask(arn, cluster, name, deployment, definition)
        self._tasks[task.id] = task
        stream = f"{definition.log_prefix}/{definition.name}/{task.id}"

        def on_line(line: str) -> None:
            self._logs.write(name, stream, task.id, line, definition.log_group)

        try:
            task.child = self._engine.start_container(definition.container, self._variables(task), on_line)
        except RefinerctlError as error:
            task.fail(error.message)
            on_line(f"ERROR {error.message}. {error.hint or ''}".strip())
            self._restarts[name].add(0)

    def _definition(self, arn: str) -> LocalTaskDefinition:
        """A revision never changes."""
        if arn not in self._definitions:
            self._definitions[arn] = task_definition(
                self._ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
            )
        return self._definitions[arn]

    def _variables(self, task: EcsTask) -> dict[str, str]:
        url = f"http://127.0.0.1:{self._server.server_port}"
        given = {key: value for key, value in task.definition.environment.items() if key != PROXY_VARIABLE}
        return {
            **self._environment,
            **given,
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "ECS_AGENT_URI": f"{url}/api/{task.id}",
            "ECS_CONTAINER_METADATA_URI_V4": f"{url}/v4/{task.id}",
        }

    def list_tasks(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to ListTasks."""
        service = _name(request.get("serviceName", ""))
        with self._lock:
            return {
                "taskArns": [
                    task.arn
                    for task in self._in_cluster(request)
                    if task.active == (request.get("desiredStatus", "RUNNING") == "RUNNING")
                    and service in ("", task.service_name)
                    and request.get("family", "") in ("", _name(task.definition.arn).partition(":")[0])
                ]
            }

    def describe_tasks(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to DescribeTasks."""
        with self._lock:
            found, failures = self._named(request)
            return {"tasks": [task.describe() for task in found], "failures": failures}

    def stop_task(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Stop a task, protected or not; the answer to StopTask."""
        with self._lock:
            found, _ = self._named({**request, "tasks": [request.get("task", "")]})
            if not found:
                raise EcsError("InvalidParameterException", "The referenced task was not found.")
            found[0].stop(request.get("reason") or "Task stopped by user")
            return {"task": found[0].describe()}

    def get_task_protection(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to GetTaskProtection."""
        with self._lock:
            found, failures = self._named(
                {**request, "tasks": request.get("tasks") or self.list_tasks(request)["taskArns"]}
            )
            return {"protectedTasks": [_protection(task) for task in found], "failures": failures}

    def update_task_protection(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Protect tasks or not; the answer to UpdateTaskProtection."""
        minutes = request.get("expiresInMinutes")
        if minutes is not None and not 1 <= minutes <= MAX_PROTECTION_MINUTES:
            raise EcsError("InvalidParameterException", f"expiresInMinutes must be 1 to {MAX_PROTECTION_MINUTES}.")
        with self._lock:
            self._reap()
            found, failures = self._named(request)
            for task in found:
                if task.active and request.get("protectionEnabled") and task.deployment in self._earlier:
                    failures.append({"arn": task.arn, "reason": "DEPLOYMENT_BLOCKED"})
                elif task.active:
                    task.protect(bool(request.get("protectionEnabled")), minutes)
                else:
                    failures.append({"arn": task.arn, "reason": "TASK_NOT_VALID"})
            self.notice()
            return {"protectedTasks": [_protection(task) for task in found if task.active], "failures": failures}

    def correct_service(self, service: dict[str, Any]) -> None:
        """Put the counts and deployments of a service in an answer of the emulator right."""
        with self._lock:
            of_service = self._of(service)
        tasks = [task for task in of_service if task.active]
        primary = _primary(service)
        by_deployment: dict[str, list[EcsTask]] = defaultdict(list)
        for task in tasks:
            by_deployment[task.deployment].append(task)
        current = by_deployment.pop(primary["id"], [])
        done = len(current) == service["desiredCount"] and not by_deployment
        primary |= {"runningCount": len(current), "pendingCount": 0, "desiredCount": service["desiredCount"]}
        primary["failedTasks"] = sum(task.failed and task.deployment == primary["id"] for task in of_service)
        primary["rolloutState"] = "COMPLETED" if done else "IN_PROGRESS"
        earlier = [
            {
                **primary,
                "id": deployment,
                "status": "ACTIVE",
                "taskDefinition": of_it[0].definition.arn,
                "desiredCount": 0,
                "runningCount": len(of_it),
                "rolloutState": "COMPLETED",
            }
            for deployment, of_it in by_deployment.items()
        ]
        service |= {"runningCount": len(tasks), "pendingCount": 0, "deployments": [primary, *earlier]}

    def find(self, task_id: str) -> EcsTask | None:
        """The task with this id."""
        with self._lock:
            return self._tasks.get(task_id)

    def _in_cluster(self, request: Mapping[str, Any]) -> list[EcsTask]:
        cluster = _name(request.get("cluster") or "default")
        return [task for task in self._tasks.values() if _name(task.cluster_arn) == cluster]

    def _named(self, request: Mapping[str, Any]) -> tuple[list[EcsTask], list[dict[str, str]]]:
        known = {task.id: task for task in self._in_cluster(request)}
        names = {name: known.get(_name(name)) for name in request.get("tasks", ())}
        failures = [{"arn": name, "reason": "MISSING"} for name, task in names.items() if task is None]
        return [task for task in names.values() if task is not None], failures


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _primary(service: Any) -> dict[str, Any]:
    primary: dict[str, Any] = next(item for item in service["deployments"] if item["status"] == "PRIMARY")
    return primary


def _protection(task: EcsTask) -> dict[str, Any]:
    until = task.protected_until
    expires = {"expirationDate": until.timestamp()} if until is not None else {}
    return {"taskArn": task.arn, "protectionEnabled": until is not None, **expires}
