"""Amazon MQ: a broker of engine RabbitMQ is a RabbitMQ server of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refinerctl.local.corrections.server import AwsAnswer, AwsRequest, CorrectingServer, Forward, error, json_answer
from refinerctl.local.rabbitmq import RabbitMQServer, start_rabbitmq
from refinerctl.local.servers import LocalServers

# What a broker is created with, and the emulator does not return.
_KEPT = ("subnetIds", "securityGroups", "logs", "storageType", "encryptionOptions", "maintenanceWindowStartTime")


@dataclass
class _Broker:
    server: RabbitMQServer
    username: str
    given: dict[str, Any]


class BrokerCorrections:
    """Starts and stops servers as brokers are created and deleted, and answers their real addresses."""

    def __init__(self, corrections: CorrectingServer, servers: LocalServers) -> None:
        self._servers = servers
        self._brokers: dict[str, _Broker] = {}
        corrections.correct("mq", "POST /v1/brokers", self._create)
        corrections.correct("mq", "GET /v1/brokers", self._list)
        corrections.correct("mq", "GET /v1/brokers/{}", self._describe)
        corrections.correct("mq", "GET /v1/brokers/{}/users/{}", self._describe_user)
        corrections.correct("mq", "DELETE /v1/brokers/{}", self._delete)

    def _create(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        given = request.json
        if str(given.get("engineType", "")).upper() != "RABBITMQ":
            return forward(request)
        users = given.get("users") or [{}]
        username, password = users[0].get("username"), users[0].get("password")
        if not username or not password:
            return error("BadRequestException", "a RabbitMQ broker needs a user with a password")
        created = forward(request)
        if not created.ok:
            return created
        broker_id = created.json["brokerId"]
        try:
            server = self._servers.start(
                "rabbitmq",
                given["brokerName"],
                lambda folder, log: start_rabbitmq(folder, username=username, password=password, log=log),
            )
        except BaseException:
            forward(AwsRequest("DELETE", f"/v1/brokers/{broker_id}", request.headers, b""))
            raise
        self._brokers[broker_id] = _Broker(server, username, {name: given[name] for name in _KEPT if given.get(name)})
        return created

    def _list(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        answer = forward(request)
        if not answer.ok:
            return answer
        document = answer.json
        for summary in document["brokerSummaries"]:
            _correct_engine(summary)
        return answer.with_json(document)

    def _describe(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        answer = forward(request)
        broker = self._brokers.get(_id(request))
        if not answer.ok or broker is None:
            return answer
        document = {
            "storageType": "EBS",
            "encryptionOptions": {"useAwsOwnedKey": True},
            "users": [{"username": broker.username}],
            **broker.given,
            **answer.json,
        }
        _correct_engine(document)
        logs = document.setdefault("logs", {})
        if logs.get("general"):
            logs["generalLogGroup"] = f"/aws/amazonmq/broker/{document['brokerId']}/general"
        (instance, *_) = document["brokerInstances"]
        instance |= {"endpoints": [broker.server.endpoint], "consoleURL": broker.server.api_url}
        return answer.with_json(document)

    def _describe_user(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        """The emulator refuses it for RabbitMQ; Terraform would forget the user."""
        broker = self._brokers.get(request.path.split("/")[3])
        if broker is None or not request.path.endswith(f"/{broker.username}"):
            return forward(request)
        return json_answer({"username": broker.username, "consoleAccess": False, "groups": []})

    def _delete(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        answer = forward(request)
        if answer.ok and (broker := self._brokers.pop(_id(request), None)):
            self._servers.stop(broker.server)
        return answer


def _id(request: AwsRequest) -> str:
    return request.path.partition("?")[0].rpartition("/")[2]


def _correct_engine(broker: dict[str, Any]) -> None:
    if broker.get("engineType") == "RABBITMQ":  # with this name, Terraform would replace the broker
        broker["engineType"] = "RabbitMQ"
