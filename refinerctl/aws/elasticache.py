"""ElastiCache: how a replication group is configured."""

from __future__ import annotations

from dataclasses import dataclass

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession


@dataclass(frozen=True)
class CacheSettings:
    """A replication group; `status` is ElastiCache's own word. `has_login`: it asks for a token or a user."""

    name: str
    arn: str
    status: str
    port: int | None = None
    encrypts_transit: bool = False
    encrypts_at_rest: bool = False
    has_login: bool = False
    security_groups: tuple[str, ...] = ()


def cache_settings(session: AwsSession, name: str) -> CacheSettings:
    """The replication group of this name. Raises NotFoundError without it."""
    client = session.client("elasticache")
    with about(f"cache {name}"):
        found = client.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
        members = found.get("MemberClusters") or []
        cluster = client.describe_cache_clusters(CacheClusterId=members[0])["CacheClusters"][0] if members else {}
    endpoints = [group.get("PrimaryEndpoint") for group in found.get("NodeGroups") or []]
    endpoint = found.get("ConfigurationEndpoint") or next(filter(None, endpoints), None) or {}
    return CacheSettings(
        name,
        found.get("ARN", ""),
        found.get("Status", ""),
        port=endpoint.get("Port"),
        encrypts_transit=bool(found.get("TransitEncryptionEnabled")),
        encrypts_at_rest=bool(found.get("AtRestEncryptionEnabled")),
        has_login=bool(found.get("AuthTokenEnabled") or found.get("UserGroupIds")),
        security_groups=tuple(item["SecurityGroupId"] for item in cluster.get("SecurityGroups") or []),
    )
