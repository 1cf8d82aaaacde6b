"""What a task asks ECS's agent: its protection and its metadata.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from refinerctl.local.runtime_api import LoopbackServer
from refinerctl.local.web_guard import GuardedHandler

if TYPE_CHECKING:
    from refinerctl.local.ecs_task import EcsTask


class _Protection(msgspec.Struct, rename="pascal"):
    protection_enabled: bool
    expires_in_minutes: int | None = None


class TaskHandler(GuardedHandler):
    """The server's owner is the agent; a task's id is the second part of its addresses."""

    server: LoopbackServer

    def do_GET(self) -> None:  # noqa: N802 - the base class's name
        task, rest = self._task()
        if task is None:
            self.answer(404)
        elif rest == ["task-protection", "v1", "state"]:
            self._answer_protection(self.server.owner.get_task_protection(_request(task)))
        elif rest == ["task"]:
            self._answer_json(200, task.metadata())
        elif not rest:
            self._answer_json(200, task.metadata()["Containers"][0])
        else:
            self.answer(404)

    def do_PUT(self) -> None:  # noqa: N802 - the base class's name
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        task, rest = self._task()
        if task is None or rest != ["task-protection", "v1", "state"]:
            self.answer(404)
            return
        try:
            wanted = msgspec.json.decode(body, type=_Protection)
            state = {"protectionEnabled": wanted.protection_enabled, "expiresInMinutes": wanted.expires_in_minutes}
            request = {**_request(task), **state}
            self._answer_protection(self.server.owner.update_task_protection(request))
        except ValueError as error:
            self._answer_json(400, {"error": {"Arn": task.arn, "Code": "ClientException", "Message": str(error)}})

    def _task(self) -> tuple[EcsTask | None, list[str]]:
        parts = [*self.path.strip("/").split("/"), ""]
        return self.server.owner.find(parts[1]), parts[2:-1]

    def _answer_protection(self, answer: dict[str, Any]) -> None:
        for failure in answer["failures"]:
            self._answer_json(200, {"failure": {"Arn": failure["arn"], "Reason": failure["reason"]}})
            return
        (found,) = answer["protectedTasks"]
        protection = {"ProtectionEnabled": found["protectionEnabled"], "TaskArn": found["taskArn"]}
        if found["protectionEnabled"]:
            protection["ExpirationDate"] = datetime.fromtimestamp(found["expirationDate"], UTC).isoformat()
        self._answer_json(200, {"protection": protection})

    def _answer_json(self, status: int, document: dict[str, Any]) -> None:
        self.answer(status, json.dumps(document).encode())


def _request(task: EcsTask) -> dict[str, Any]:
    return {"cluster": task.cluster_arn, "tasks": [task.arn]}
