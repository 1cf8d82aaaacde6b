"""Which IAM actions Terraform's AWS provider needs, read from its debug log.

`TF_LOG_PROVIDER=DEBUG TF_LOG_PATH=tf.log refinerctl local up`, then `python -m tests.integration.access.provider_calls
tf.log > tests/fixtures/provider-calls.json`: each request once, as IAM names the action and the resource.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

PREFIX = "arn:aws:{}:us-east-1:000000000000:{}"
SERVICES = {"CloudWatch Logs": "logs", "EventBridge": "events", "Secrets Manager": "secretsmanager"}
# Operations whose permission has another name.
ACTIONS = {
    "s3:HeadBucket": "ListBucket",
    "s3:GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "s3:GetBucketCors": "GetBucketCORS",
    "s3:GetBucketEncryption": "GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "s3:GetBucketNotificationConfiguration": "GetBucketNotification",
    "s3:GetBucketReplication": "GetReplicationConfiguration",
    "s3:GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "s3:GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "s3:PutBucketEncryption": "PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "s3:PutBucketNotificationConfiguration": "PutBucketNotification",
    "s3:PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "s3:DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "s3:DeleteBucketEncryption": "PutEncryptionConfiguration",
    "s3:DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "s3:DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "s3:ListObjectVersions": "ListBucketVersions",
    "s3:DeleteObjects": "DeleteObject",
}
# Services to which a request passes the roles that it names.
PASSED_TO = {
    "lambda:CreateFunction": "lambda.amazonaws.com",
    "ecs:RegisterTaskDefinition": "ecs-tasks.amazonaws.com",
    "scheduler:CreateSchedule": "scheduler.amazonaws.com",
    "events:PutTargets": "events.amazonaws.com",
}
WITHOUT_RESOURCE = {
    "ecs:DescribeTaskDefinition",
    "logs:DescribeLogGroups",
    "mq:CreateBroker",
    "ssm:DescribeParameters",
}
BROKER = "broker:{}-broker:b-11111111-2222-3333-4444-555555555555"


class Call(NamedTuple):
    """A request as IAM sees it."""

    action: str
    resource: str
    context: dict[str, str]


def calls_of(log: str) -> Iterator[Call]:
    """Every request in a provider's debug log, in order, with `iam:PassRole` for each role that it passes."""
    for record in re.split(r"(?m)^(?=\d{4}-\d\d-\d\dT[\d:.]+Z \[)", log):
        if "HTTP Request Sent" in record and "rpc.method=" in record:
            yield from _calls(record)


def _calls(record: str) -> Iterator[Call]:
    title, method = _field(record, "rpc.service"), _field(record, "rpc.method")
    service = SERVICES.get(title, title.lower().replace(" ", ""))
    if service == "sts":
        return
    action = f"{service}:{ACTIONS.get(f'{service}:{method}', method)}"
    url = urlsplit(_field(record, "http.url"))
    body = _body(record)
    yield from _requests(service, action, f"{url.path}?{url.query}", body)
    if action in PASSED_TO:
        for name in sorted(set(re.findall(r"arn:aws:iam::\d+:role/([\w+=,.@-]+)", body))):
            yield Call("iam:PassRole", _iam(f"role/{name}"), {"iam:PassedToService": PASSED_TO[action]})


def _field(record: str, name: str) -> str:
    found = re.search(rf'{re.escape(name)}=("[^"]*"|\S+)', record)
    return found[1].strip('"') if found else ""


def _body(record: str) -> str:
    found = re.search(r"http\.request\.body=\n((?: {2}\| .*\n)+)", record)
    return "".join(line[4:] for line in found[1].splitlines()) if found else ""


def _requests(service: str, action: str, path: str, body: str) -> Iterator[Call]:
    given = {name: values[0] for name, values in parse_qs(body).items()} if "Action=" in body else _json(body)
    if action in ("lambda:CreateEventSourceMapping", "lambda:DeleteEventSourceMapping"):
        yield Call(action, "*", {"lambda:FunctionArn": _arn("lambda", "function:dibbs-ecr-RefinerInput")})
    elif action in WITHOUT_RESOURCE or (service == "ec2" and ":Describe" in action) or "EventSourceMapping" in action:
        yield Call(action, "*", {})
    elif service == "ec2":
        yield Call(action, _arn("ec2", "security-group/sg-1"), {} if "Create" in action else {"ec2:Vpc": _vpc(given)})
        if "Create" in action:
            yield Call(action, _vpc(given), {})
        elif "Authorize" in action:
            yield Call(action, _arn("ec2", "security-group-rule/sgr-1"), {})
    else:
        yield Call(action, _resource(service, given, path), _context(action, given))


def _vpc(given: dict[str, Any]) -> str:
    return _arn("ec2", f"vpc/{given.get('VpcId', 'vpc-00000001')}")


def _json(body: str) -> dict[str, Any]:
    """The members of a JSON object; only its texts if the log has cut it off or masked a part."""
    try:
        found = json.loads(body)
    except ValueError:
        return dict(re.findall(r'"(\w+)":"([^"]*)"', body))
    return found if isinstance(found, dict) else {}


def _context(action: str, given: dict[str, Any]) -> dict[str, str]:
    return {"iam:PolicyARN": given["PolicyArn"]} if action in {"iam:AttachRolePolicy", "iam:DetachRolePolicy"} else {}


def _resource(service: str, given: dict[str, Any], path: str) -> str:
    if arn := re.search(r"arn:aws:[^&\"?/]*(?:/[^&\"?]*)?$", unquote(path.partition("?")[0])):
        return arn[0]
    for name in ("resourceArn", "ResourceARN", "ResourceName", "SecretId"):
        if str(given.get(name, "")).startswith("arn:"):
            return str(given[name])
    return _named(service, given, path.partition("?"))


def _named(service: str, given: dict[str, Any], path: tuple[str, str, str]) -> str:
    parts = unquote(path[0]).strip("/").split("/")
    group = {name: values[0] for name, values in parse_qs(path[2]).items()}.get("groupName") or given.get("GroupName")
    names: dict[str, Callable[[], str]] = {
        "sqs": lambda: given.get("QueueName") or given["QueueUrl"].rpartition("/")[2],
        "lambda": lambda: f"function:{given.get('FunctionName') or parts[2]}",
        "logs": lambda: f"log-group:{given['logGroupName']}",
        "ecr": lambda: f"repository/{given.get('repositoryName') or given['repositoryNames'][0]}",
        "ssm": lambda: f"parameter{given.get('Name') or given['ResourceId']}",
        "secretsmanager": lambda: f"secret:{given['Name']}-AbCdEf",
        "scheduler": lambda: f"schedule/{group}/{parts[1]}" if group else f"schedule-group/{parts[1]}",
        "mq": lambda: BROKER.format("rnr-local"),
        "elasticache": lambda: _cache(given),
        "events": lambda: _event(given),
        "ecs": lambda: _ecs(given),
        "cloudwatch": lambda: f"alarm:{given.get('AlarmName') or given.get('AlarmNames.member.1')}",
    }
    if service == "s3":
        return f"arn:aws:s3:::{parts[0]}"
    if service == "iam":
        return _iam(f"role/{given['RoleName']}") if "RoleName" in given else str(given["PolicyArn"])
    return _arn(service, names[service]())


def _cache(given: dict[str, Any]) -> str:
    for name, kind in (("ReplicationGroupId", "replicationgroup"), ("CacheClusterId", "cluster")):
        if name in given:
            return f"{kind}:{given[name]}"
    return f"subnetgroup:{given['CacheSubnetGroupName']}"


def _event(given: dict[str, Any]) -> str:
    bus, rule = given.get("EventBusName", "default"), given.get("Rule") or given.get("Name")
    if set(given) <= {"Name", "Tags", "Description"}:
        return f"event-bus/{rule}"
    return f"rule/{rule}" if bus == "default" else f"rule/{bus.rpartition('/')[2]}/{rule}"


def _ecs(given: dict[str, Any]) -> str:
    if family := given.get("family"):
        return f"task-definition/{family}:1"
    cluster = str(given.get("clusterName") or given.get("cluster") or given["clusters"][0]).rpartition("/")[2]
    service = given.get("serviceName") or given.get("service") or next(iter(given.get("services", [])), None)
    return f"service/{cluster}/{service.rpartition('/')[2]}" if service else f"cluster/{cluster}"


def _arn(service: str, rest: str) -> str:
    return PREFIX.format(service, rest)


def _iam(rest: str) -> str:
    return f"arn:aws:iam::000000000000:{rest}"


def _kind(call: Call) -> tuple[str, str]:
    """Equal for requests on resources that differ behind the stack's prefix only: one of them is enough."""
    return call.action, re.sub(r"((?:dibbs-ecr|rnr-local|rnr/)).*", r"\1", call.resource) + str(sorted(call.context))


if __name__ == "__main__":
    logs = [Path(name).read_text(encoding="utf-8") for name in sys.argv[1:]]
    found = {_kind(call): json.dumps(call) for log in logs for call in calls_of(log)}
    sys.stdout.write("[\n" + ",\n".join(f"  {call}" for call in sorted(found.values())) + "\n]\n")
