"""ECS: tasks are those of the agent of this machine; services have what Terraform reads of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from refinerctl.local.corrections.server import AwsAnswer, AwsRequest, CorrectingServer, Forward, error, json_answer
from refinerctl.local.ecs_agent import EcsError

if TYPE_CHECKING:
    from refinerctl.local.ecs_agent import EcsAgent


class ServiceCorrections:
    """Lets the agent answer what is asked about tasks; remembers what the emulator loses of a service."""

    def __init__(self, corrections: CorrectingServer, agent: EcsAgent) -> None:
        self._agent = agent
        self._rebalancing: dict[str, str] = {}
        for operation in ("CreateService", "UpdateService", "DeleteService"):
            corrections.correct("ecs", operation, self._change)
        corrections.correct("ecs", "DescribeServices", self._describe)
        answers = {
            "ListTasks": agent.list_tasks,
            "DescribeTasks": agent.describe_tasks,
            "StopTask": agent.stop_task,
            "GetTaskProtection": agent.get_task_protection,
            "UpdateTaskProtection": agent.update_task_protection,
        }
        for operation, answer in answers.items():
            corrections.correct("ecs", operation, _answered_by(answer))

    def _change(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        answer = forward(request)
        if not answer.ok:
            return answer
        document = answer.json
        service = document["service"]
        if wanted := request.json.get("availabilityZoneRebalancing"):
            self._rebalancing[service["serviceArn"]] = wanted
        self._correct(service)
        self._agent.notice()
        return answer.with_json(document)

    def _describe(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        answer = forward(request)
        if not answer.ok:
            return answer
        document = answer.json
        for service in document["services"]:
            self._correct(service)
        return answer.with_json(document)

    def _correct(self, service: dict[str, Any]) -> None:
        service.setdefault("availabilityZoneRebalancing", self._rebalancing.get(service["serviceArn"], "DISABLED"))
        self._agent.correct_service(service)


def _answered_by(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[AwsRequest, Forward], AwsAnswer]:
    def correction(request: AwsRequest, _: Forward) -> AwsAnswer:
        try:
            return json_answer(answer(request.json))
        except EcsError as problem:
            return error(problem.code, str(problem))

    return correction
