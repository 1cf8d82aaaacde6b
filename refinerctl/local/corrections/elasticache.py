"""ElastiCache: a replication group is a Redis or Valkey server of this machine."""

from __future__ import annotations

import re
from dataclasses import replace

from refinerctl.local.corrections.server import AwsAnswer, AwsRequest, CorrectingServer, Forward
from refinerctl.local.redis import RedisServer, start_redis
from refinerctl.local.servers import LocalServers

_GROUP = re.compile(r"<ReplicationGroupId>([^<]+)</ReplicationGroupId>.*?</NodeGroups>", re.DOTALL)
_ENDPOINT = re.compile(r"<Address>[^<]*</Address><Port>[^<]*</Port>")


class CacheCorrections:
    """Starts and stops servers as replication groups are created and deleted, and answers their real addresses."""

    def __init__(self, corrections: CorrectingServer, servers: LocalServers) -> None:
        self._servers = servers
        self._groups: dict[str, RedisServer] = {}
        corrections.correct("elasticache", "CreateReplicationGroup", self._create)
        corrections.correct("elasticache", "DescribeReplicationGroups", self._correct_addresses)
        corrections.correct("elasticache", "ModifyReplicationGroup", self._correct_addresses)
        corrections.correct("elasticache", "DeleteReplicationGroup", self._delete)

    def _create(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        group, token = request.form.get("ReplicationGroupId", ""), request.form.get("AuthToken", "")
        created = forward(request)
        if not created.ok:
            return created
        try:
            server = self._servers.start(
                "redis", group, lambda folder, log: start_redis(folder, password=token, log=log)
            )
        except BaseException:
            version = request.form.get("Version", "")
            body = f"Action=DeleteReplicationGroup&Version={version}&ReplicationGroupId={group}"
            forward(replace(request, body=body.encode()))
            raise
        self._groups[group] = server
        return self._corrected(created)

    def _correct_addresses(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        return self._corrected(forward(request))

    def _delete(self, request: AwsRequest, forward: Forward) -> AwsAnswer:
        answer = forward(request)
        if answer.ok and (server := self._groups.pop(request.form.get("ReplicationGroupId", ""), None)):
            self._servers.stop(server)
        return answer

    def _corrected(self, answer: AwsAnswer) -> AwsAnswer:
        """The emulator's answer names host `redis`, which nothing resolves."""

        def with_address(group: re.Match[str]) -> str:
            server = self._groups.get(group[1])
            if server is None:
                return group[0]
            return _ENDPOINT.sub(f"<Address>127.0.0.1</Address><Port>{server.port}</Port>", group[0])

        return replace(answer, body=_GROUP.sub(with_address, answer.body.decode()).encode())
