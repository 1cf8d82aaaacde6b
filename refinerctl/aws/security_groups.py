"""EC2: which traffic security groups let through."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from refinerctl.aws.errors import about
from refinerctl.aws.session import AwsSession

ALL = "-1"


@dataclass(frozen=True)
class TrafficRule:
    """Traffic of a protocol (`tcp`, or -1 for all) to ports, from or to security groups and addresses.

    `elsewhere`: also from or to addresses or prefix lists, whose members are not known here.
    """

    protocol: str
    first_port: int
    last_port: int
    groups: tuple[str, ...] = ()
    elsewhere: bool = False

    def covers(self, port: int) -> bool:
        return self.protocol == ALL or (self.protocol in ("tcp", "6") and self.first_port <= port <= self.last_port)


@dataclass(frozen=True)
class SecurityGroup:
    """A security group with its rules."""

    id: str
    ingress: tuple[TrafficRule, ...] = ()
    egress: tuple[TrafficRule, ...] = ()


def security_group(session: AwsSession, group_id: str) -> SecurityGroup:
    """Raises NotFoundError without the group."""
    with about(f"security group {group_id}"):
        (found,) = session.client("ec2").describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    return SecurityGroup(
        group_id,
        tuple(_rule(item) for item in found.get("IpPermissions", [])),
        tuple(_rule(item) for item in found.get("IpPermissionsEgress", [])),
    )


def _rule(item: Mapping[str, object]) -> TrafficRule:
    pairs = item.get("UserIdGroupPairs") or []
    return TrafficRule(
        str(item.get("IpProtocol", ALL)),
        int(str(item.get("FromPort") or 0)),
        int(str(item.get("ToPort") or 65535)),
        tuple(str(pair["GroupId"]) for pair in pairs),  # type: ignore[attr-defined]
        elsewhere=any(bool(item.get(name)) for name in ("IpRanges", "Ipv6Ranges", "PrefixListIds")),
    )


def lets_through(rules: Collection[TrafficRule], port: int, peers: Collection[str]) -> bool | None:
    """Whether TCP to `port` passes between here and the security groups `peers`; None: addresses decide."""
    covering = [rule for rule in rules if rule.covers(port)]
    if any(set(rule.groups) & set(peers) for rule in covering):
        return True
    return None if any(rule.elsewhere for rule in covering) else False
