"""Checks of brokers and caches: they run, are private and encrypted, and clients can log in and connect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from refinerctl.aws.event_pattern import Verdict, all_of
from refinerctl.aws.security_groups import SecurityGroup, TrafficRule, lets_through
from refinerctl.errors import TransientError
from refinerctl.insight.findings import Finding, failed, passed, skipped, warned
from refinerctl.insight.verify.checks import Section, judged, known
from refinerctl.insight.verify.snapshot import (
    BROKER,
    CACHE,
    FUNCTION,
    SECRET,
    SECURITY_GROUP,
    SERVICE,
    STATE_LOGIN,
    Snapshot,
)
from refinerctl.stacks.base import Broker, Cache, Function, Queue, Service

AMQPS, HTTPS = 5671, 443
# https://docs.aws.amazon.com/amazon-mq/latest/developer-guide/amazon-mq-broker-statuses.html
_STOPPED = {"CRITICAL_ACTION_REQUIRED", "CREATION_FAILED", "DELETION_IN_PROGRESS"}
_LOCAL = "servers of a local environment are processes on this machine"

SECTION = Section("Brokers and caches")


@SECTION.check(
    "broker",
    Broker,
    why="Without it nothing is published, and no message is processed.",
    fix="Read the broker's state and actions required in the Amazon MQ console; `refinerctl deploy` creates a broker.",
    details="Fails if it does not exist or needs action, warns while it is being created, rebooted or changed.",
)
def _broker_running(snapshot: Snapshot, broker: Broker) -> Finding:
    answer = snapshot.get(BROKER, broker.name)
    if answer.not_found:
        return failed(str(answer.error))
    found = known(answer)
    seen = f"broker {broker.name} is {found.state}"
    if found.state in _STOPPED:
        return failed(seen)
    return passed(f"{seen}, RabbitMQ {found.engine_version}") if found.state == "RUNNING" else warned(seen)


@SECTION.check(
    "broker-private",
    Broker,
    why="Anyone on the internet who has its password can use it.",
    fix="A broker cannot be made private: replace it. `refinerctl drift` shows what was changed by hand.",
)
def _broker_private(snapshot: Snapshot, broker: Broker) -> Finding:
    if known(snapshot.get(BROKER, broker.name)).is_public:
        return failed(f"broker {broker.name} is publicly accessible")
    return passed(f"broker {broker.name} is reached in its VPC only")


@SECTION.check(
    "broker-tls",
    Broker,
    why="Without TLS, messages and the password can be read in the network.",
    fix="Amazon MQ has TLS only: check which endpoint answers (--endpoint-url, AWS_ENDPOINT_URL_MQ).",
    details="Skipped in a local environment, whose broker listens on 127.0.0.1 only.",
)
def _broker_tls(snapshot: Snapshot, broker: Broker) -> Finding:
    if snapshot.embedded:
        return skipped(_LOCAL)
    endpoints = known(snapshot.get(BROKER, broker.name)).endpoints
    if plain := [url for url in endpoints if not url.startswith(("amqps://", "https://"))]:
        return failed(f"broker {broker.name} has endpoints without TLS: {', '.join(plain)}")
    return passed(f"all endpoints of broker {broker.name} use TLS") if endpoints else warned("it has no endpoint yet")


@SECTION.check(
    "broker-logs",
    Broker,
    why="Only its log says why the broker refused a connection or blocked publishers.",
    details="Warns only. Skipped in a local environment, whose broker logs to a file.",
)
def _broker_logs(snapshot: Snapshot, broker: Broker) -> Finding:
    if snapshot.embedded:
        return skipped(_LOCAL)
    if known(snapshot.get(BROKER, broker.name)).has_logs:
        return passed(f"broker {broker.name} sends its general log to CloudWatch Logs")
    return warned(f"the general log of broker {broker.name} is off")


@SECTION.check(
    "secret",
    Broker | Cache,
    why="Functions and workers get their credentials from it.",
    fix="`aws secretsmanager restore-secret`, or `refinerctl deploy`.",
    details="It exists, is not scheduled for deletion and has a version with stage AWSCURRENT. Its value is not read.",
)
def _secret(snapshot: Snapshot, server: Broker | Cache) -> Finding | None:
    if not server.secret:
        return None
    answer = snapshot.get(SECRET, server.secret)
    if answer.not_found:
        return failed(str(answer.error))
    secret = known(answer)
    if secret.deleted_at is not None:
        return failed(f"secret {secret.name} is scheduled for deletion on {secret.deleted_at:%Y-%m-%d}")
    if not secret.has_current_version:
        return failed(f"secret {secret.name} has no current version")
    return passed(f"secret {secret.name} has a current version")


@SECTION.check(
    "state-password",
    Broker,
    why="Terraform's state contains the broker's first password: everyone who can read the state could log in.",
    fix="Run `refinerctl rnr rotate`.",
    details="Logs in to the management API with the secret's first version (stage INITIAL), which has to be refused. "
    "Warns only in a local environment. Skipped if the broker cannot be reached from here.",
)
def _state_password(snapshot: Snapshot, broker: Broker) -> Finding:
    answer = snapshot.get(STATE_LOGIN, broker)
    if isinstance(answer.error, TransientError):
        return skipped(f"{answer.error.message}; a runner in the VPC, or --broker-url, has a route")
    if not known(answer):
        return passed(f"broker {broker.name} refuses the password that is in Terraform's state")
    seen = f"broker {broker.name} accepts the password that is in Terraform's state"
    return warned(seen) if snapshot.embedded else failed(seen)


@SECTION.check(
    "cache",
    Cache,
    why="Without it duplicates are published; workers recognize them, at the cost of a delivery each.",
    details="Warns while it is being created or modified.",
)
def _cache(snapshot: Snapshot, cache: Cache) -> Finding:
    answer = snapshot.get(CACHE, cache.name)
    if answer.not_found:
        return failed(str(answer.error))
    seen = f"cache {cache.name} is {known(answer).status}"
    return passed(seen) if known(answer).status == "available" else warned(seen)


@SECTION.check(
    "cache-encrypted",
    Cache,
    why="Without encryption and a token, anyone in the network can read and delete claims.",
    details="Encryption in transit and at rest, and a token or user group. Skipped in a local environment.",
)
def _cache_encrypted(snapshot: Snapshot, cache: Cache) -> Finding:
    if snapshot.embedded:
        return skipped(_LOCAL)
    found = known(snapshot.get(CACHE, cache.name))
    parts = {
        "encryption in transit": found.encrypts_transit,
        "encryption at rest": found.encrypts_at_rest,
        "a token or user group": found.has_login,
    }
    if missing := [name for name, is_on in parts.items() if not is_on]:
        return failed(f"cache {cache.name} is without {' and without '.join(missing)}")
    return passed(f"cache {cache.name} has {', '.join(parts)}")


@SECTION.check(
    "broker-network",
    Broker,
    why="A client that cannot connect publishes or processes nothing.",
    details=f"The security groups let TCP through to port {AMQPS} from consumers and publishers of its queues, "
    f"and to port {HTTPS} from what scales a consumer. Warns if rules by address decide. Skipped in a local "
    "environment.",
)
def _broker_network(snapshot: Snapshot, broker: Broker) -> Finding:
    if snapshot.embedded:
        return skipped(_LOCAL)
    groups = known(snapshot.get(BROKER, broker.name)).security_groups
    return _network(snapshot, broker.name, groups, _clients_of(snapshot, broker))


def _clients_of(snapshot: Snapshot, broker: Broker) -> list[tuple[Function | Service, int]]:
    """What connects to the broker, to which port."""
    edges = snapshot.pipeline.edges
    queues = [queue for queue in snapshot.pipeline.by_kind(Queue) if queue.broker == broker]
    clients: list[tuple[Function | Service, int]] = []
    for source, target in edges:
        if isinstance(target, Queue) and target in queues and isinstance(source, Function):
            clients.append((source, AMQPS))
        if isinstance(source, Queue) and source in queues and isinstance(target, Service):
            clients.append((target, AMQPS))
            scaling = (item for item in snapshot.pipeline.upstream_of(target) if isinstance(item, Function))
            clients += [(item, HTTPS) for item in scaling]
    return list(dict.fromkeys(clients))


@SECTION.check(
    "cache-network",
    Cache,
    why="A producer that cannot connect publishes duplicates.",
    details="The security groups let TCP through from its clients. Warns if rules by address decide. Skipped in a "
    "local environment.",
)
def _cache_network(snapshot: Snapshot, cache: Cache) -> Finding:
    if snapshot.embedded:
        return skipped(_LOCAL)
    found = known(snapshot.get(CACHE, cache.name))
    clients = [item for item in snapshot.pipeline.upstream_of(cache) if isinstance(item, Function | Service)]
    return _network(snapshot, cache.name, found.security_groups, [(item, found.port or 6379) for item in clients])


def _network(
    snapshot: Snapshot, name: str, groups: Sequence[str], clients: Sequence[tuple[Function | Service, int]]
) -> Finding:
    servers = [known(snapshot.get(SECURITY_GROUP, group)) for group in groups]
    verdicts = {f"{client.name} (port {port})": _passes(snapshot, client, port, servers) for client, port in clients}
    if blocked := [client for client, verdict in verdicts.items() if verdict is False]:
        return failed(f"security groups do not let {', '.join(blocked)} connect to {name}")
    return judged(
        all_of(verdicts.values()),
        f"security groups let {', '.join(verdicts)} connect to {name}",
        "",
        f"addresses in security groups decide whether {', '.join(verdicts)} connect to {name}",
    )


def _passes(snapshot: Snapshot, client: Function | Service, port: int, servers: Sequence[SecurityGroup]) -> Verdict:
    """One of the client's groups lets it out, and one of the server's in."""
    if isinstance(client, Function):
        ids = known(snapshot.get(FUNCTION, client.name)).security_groups
    else:
        ids = known(snapshot.get(SERVICE, client.cluster, client.name)).security_groups
    own = [known(snapshot.get(SECURITY_GROUP, group)) for group in ids]
    out = _rules(group.egress for group in own)
    into = _rules(group.ingress for group in servers)
    return all_of([lets_through(out, port, [group.id for group in servers]), lets_through(into, port, ids)])


def _rules(groups: Iterable[Sequence[TrafficRule]]) -> list[TrafficRule]:
    return [rule for rules in groups for rule in rules]
