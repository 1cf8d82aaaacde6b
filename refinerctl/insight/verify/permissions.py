"""Checks of permissions: whether roles have enough and not too many, and whether KMS keys can be used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from refinerctl.aws.event_pattern import Verdict, all_of, any_of, negated
from refinerctl.aws.iam import KmsKey, Role
from refinerctl.aws.policies import Policy, Request, Statement, allowed, delegates, denied, granted, like
from refinerctl.console import counted
from refinerctl.insight.findings import Finding, Status, failed, passed, skipped, warned
from refinerctl.insight.verify.checks import Section, judged, known
from refinerctl.insight.verify.samples import SAMPLE_NAME
from refinerctl.insight.verify.snapshot import (
    BUCKET,
    BUCKET_KEY,
    BUCKET_POLICY,
    FUNCTION,
    KEY,
    QUEUE,
    ROLE,
    SECRET,
    SERVICE,
    Snapshot,
)
from refinerctl.parallel import Answer
from refinerctl.stacks.base import Broker, Cache, EventRule, Function, Queue, Service, Stage

EVENTS = "events.amazonaws.com"
LAMBDA = "lambda.amazonaws.com"
# AWS's own policies, as the stack attaches them: they name all log groups and network interfaces.
_MANAGED = (":iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
            ":iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole")  # fmt: skip
_SQS = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_SCALING = ("ecs:DescribeServices", "ecs:UpdateService")
_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
_S3_OBJECTS = ("s3:getobject", "s3:putobject", "s3:abortmultipartupload")
_KMS = ("kms:decrypt", "kms:generatedatakey")
_TRACING = ("xray:puttracesegments", "xray:puttelemetryrecords")
_SHOWN = 5

SECTION = Section("Permissions and keys")


def check_role(
    answer: Answer[Role], service: str, context: Mapping[str, str], calls: Collection[tuple[str, str]],
    resource_policies: Collection[Policy] = (),
) -> Finding:  # fmt: skip
    """Whether a service may assume the role, and the role may do `calls`: pairs of action and resource.

    The role's policies and boundary, and the resources' policies, have to allow them.
    """
    if answer.not_found:
        return failed(str(answer.error))
    role = known(answer)
    trusted = allowed([role.trust], Request("sts:AssumeRole", role.arn, service=service, context=context))
    requests = [_by_role(role, *call) for call in calls]
    policies = [*(policy.statements for policy in role.policies), *resource_policies]
    verdicts = [all_of([allowed(policies, request), _in_boundary(role, request)]) for request in requests]
    if trusted is False:
        return failed(f"role {role.name} does not trust {service}")
    if missing := [request for request, verdict in zip(requests, verdicts, strict=True) if verdict is False]:
        return _not_allowed(role, missing, resource_policies)
    if trusted is None:
        return warned(f"refinerctl cannot evaluate whether role {role.name} trusts {service}")
    if unknown := [request for request, verdict in zip(requests, verdicts, strict=True) if verdict is None]:
        return warned(f"refinerctl cannot evaluate whether role {role.name} allows {_listed(unknown)}")
    return passed(f"{service} may assume role {role.name}, which allows {', '.join(dict(calls))}")


def _endpoint(service: str, key: KmsKey) -> str:
    """The name of a service in the key's region, as condition key `kms:ViaService` has it."""
    partition, _, region = key.arn.split(":")[1:4]
    return f"{service}.{region}.amazonaws.com{'.cn' if partition == 'aws-cn' else ''}"


def _by_role(role: Role, action: str, resource: str, context: Mapping[str, str] | None = None) -> Request:
    given = {
        "aws:securetransport": "true",
        "aws:principalarn": role.arn,
        "aws:principalaccount": role.arn.split(":")[4],
        "aws:principaltype": "AssumedRole",
        "aws:principalisawsservice": "false",
    }
    return Request(action, resource, role_arn=role.arn, context={**given, **(context or {})})


def _in_boundary(role: Role, request: Request) -> Verdict:
    return True if role.boundary is None else allowed([role.boundary], request)


def _not_allowed(role: Role, requests: Collection[Request], resource_policies: Collection[Policy]) -> Finding:
    """A boundary or a policy that denies them gets a fix of its own: to deploy would change nothing."""
    text = f"role {role.name} does not allow {_listed(requests)}"
    if all(_in_boundary(role, request) is False for request in requests):
        return failed(f"{text}: its permissions boundary does not", "Allow it in the boundary, or remove the boundary.")
    if all(denied(resource_policies, request) for request in requests):
        return failed(f"{text}: the resource's own policy denies it", "Remove that statement, or except the role.")
    return failed(text)


def _listed(requests: Collection[Request]) -> str:
    return ", ".join(f"{request.action} on {request.resource}" for request in requests)


def _role_of(snapshot: Snapshot, function: Function) -> Answer[Role]:
    return snapshot.get(ROLE, known(snapshot.get(FUNCTION, function.name)).role_name)


def _prefixes(stage: Stage) -> tuple[str, ...]:
    """Below which the stage's function reads and writes objects."""
    return (*([stage.prefix] if stage.prefix is not None else []), *stage.writes)


def _needs(snapshot: Snapshot, stage: Stage, function: Function) -> Iterator[tuple[str, str]]:
    """Action and resource of each call that Lambda and the image make."""
    if snapshot.bucket and stage.prefix is not None:
        yield "s3:GetObject", f"{bucket_arn(snapshot)}/{stage.prefix}{SAMPLE_NAME}"
    for prefix in stage.writes if snapshot.bucket else ():
        yield "s3:PutObject", f"{bucket_arn(snapshot, stage.results)}/{prefix}{SAMPLE_NAME}"
    for bucket, prefix in stage.read_places:
        yield "s3:GetObject", f"{bucket_arn(snapshot, bucket)}/{prefix}{SAMPLE_NAME}"
        yield "s3:ListBucket", bucket_arn(snapshot, bucket)  # without it, S3 answers 403 for a missing object
    for bucket in stage.lists:
        yield "s3:ListBucket", bucket_arn(snapshot, bucket)
    if stage.queue is not None:
        queue_arn = known(snapshot.get(QUEUE, stage.queue.name)).arn
        yield from ((action, queue_arn) for action in _SQS)
    elif function.dlq is not None:
        yield "sqs:SendMessage", known(snapshot.get(QUEUE, function.dlq.name)).arn
    for server in _servers_of(snapshot, function):
        yield "secretsmanager:GetSecretValue", known(snapshot.get(SECRET, server.secret)).arn
    for service in snapshot.pipeline.downstream_of(function):
        if isinstance(service, Service):  # it scales the service
            arn = known(snapshot.get(SERVICE, service.cluster, service.name)).arn
            yield from ((action, arn) for action in _SCALING)
    stream = f"{_log_group_arn(snapshot, function)}:log-stream:refinerctl-verify"
    yield from ((action, stream) for action in _LOGS)


def _servers_of(snapshot: Snapshot, function: Function) -> list[Broker | Cache]:
    """The brokers and caches with a secret that it connects to: those of the queues that it sends to, or scales by."""
    targets = snapshot.pipeline.downstream_of(function)
    consumers = [item for item in targets if isinstance(item, Service)]
    queues = [*targets, *(queue for consumer in consumers for queue in snapshot.pipeline.upstream_of(consumer))]
    servers: list[Broker | Cache] = [item.broker for item in queues if isinstance(item, Queue) and item.broker]
    servers += [item for item in targets if isinstance(item, Cache)]
    return [server for server in dict.fromkeys(servers) if server.secret]


def bucket_arn(snapshot: Snapshot, bucket: str | None = None) -> str:
    """The ARN of a bucket, by default of the pipeline's."""
    return f"arn:{snapshot.partition}:s3:::{bucket or snapshot.bucket}"


def _log_group_arn(snapshot: Snapshot, function: Function) -> str:
    partition, _, region, account = known(snapshot.get(FUNCTION, function.name)).arn.split(":")[1:5]
    return f"arn:{partition}:logs:{region}:{account}:log-group:{function.log_group}"


@SECTION.check(
    "role-permissions",
    Function,
    why="If a call is denied, every input fails and ends in the DLQ.",
    fix="`refinerctl deploy` restores the role's policies.",
    details="Evaluates the role's policies and boundary, the buckets' policies and the queue's: GetObject on inputs, "
    "GetObject and ListBucket for `read_access`, ListBucket where only keys are listed, PutObject on what it writes, "
    "ReceiveMessage, DeleteMessage and GetQueueAttributes on the queue, SendMessage on the function's DLQ, "
    "GetSecretValue on secrets of brokers and caches, DescribeServices and UpdateService on services that it scales, "
    "CreateLogStream and PutLogEvents. Policies of an AWS organization are not evaluated.",
)
def _role_permissions(snapshot: Snapshot, function: Function) -> Finding:
    role, stage = _role_of(snapshot, function), snapshot.stage_of(function)
    if role.not_found:  # whatever else is missing
        return failed(str(role.error))
    buckets = dict.fromkeys((*snapshot.buckets, *(bucket for bucket, _ in stage.read_places)))
    resource_policies = [bucket_policy(snapshot, bucket) for bucket in buckets]
    if stage.queue is not None:
        resource_policies.append(known(snapshot.get(QUEUE, stage.queue.name)).policy)
    context = {
        "aws:sourcearn": known(snapshot.get(FUNCTION, function.name)).arn,
        "aws:sourceaccount": snapshot.account,
    }
    calls = tuple(dict.fromkeys(_needs(snapshot, stage, function)))
    return check_role(role, LAMBDA, context, calls, resource_policies)


def bucket_policy(snapshot: Snapshot, bucket: str | None) -> Policy:
    """The policy of a bucket. One that could not be read may grant what no other policy does."""
    if bucket is None:
        return ()
    answer = snapshot.get(BUCKET_POLICY, bucket)
    if answer.error is not None and not answer.not_found:
        return (Statement(allows=True, is_readable=False),)
    return answer.value or ()


@SECTION.check(
    "role-extra",
    Function,
    why="Anyone who obtains the function's credentials can do that, too.",
    fix="Remove it from the role; `refinerctl drift` shows what was added by hand.",
    details="Warns only: wildcards in actions, other actions, other resources. AWS's two managed policies for "
    "functions are expected. Does not run for a function that no object starts: what it needs is unknown.",
)
def _role_extra(snapshot: Snapshot, function: Function) -> Finding | None:
    stage = snapshot.stage_of(function)
    if stage.prefix is None:
        return None
    role = known(_role_of(snapshot, function))
    own = [policy for policy in role.policies if not (policy.arn or "").endswith(_MANAGED)]
    extra = [
        f"{policy.name}: {what}"
        for policy in own
        for statement in policy.statements
        if statement.allows
        for what in _more_than_needed(snapshot, stage, function, statement)
    ]
    if extra:
        more = f" and {len(extra) - _SHOWN} more" if len(extra) > _SHOWN else ""
        return warned(f"role {role.name} allows more than the function needs: {', '.join(extra[:_SHOWN])}{more}")
    return passed(f"role {role.name} allows nothing more than the function needs")


def _more_than_needed(snapshot: Snapshot, stage: Stage, function: Function, statement: Statement) -> Iterator[str]:
    if statement.not_actions is not None or statement.not_resources is not None or not statement.is_readable:
        yield "a statement with NotAction or NotResource, or one that cannot be read"
        return
    for action in statement.actions or () if statement.resources else ():
        service = action.partition(":")[0].lower()
        # A statement may name what several services have: S3's actions mean nothing on a queue.
        resources = [item for item in statement.resources or () if like(_service(item), service)]
        wide = [item for item in resources if not _is_needed(snapshot, stage, function, action.lower(), item)]
        if "*" in action or (wide and len(wide) == len(resources)):
            yield f"{action} on {', '.join(resources)}"
        elif wide:
            yield f"{action} on {', '.join(wide)}"


def _service(resource: str) -> str:
    """That part of an ARN; a pattern without such a part covers all services."""
    parts = resource.split(":")
    return parts[2] if len(parts) > 2 else "*"


def _is_needed(snapshot: Snapshot, stage: Stage, function: Function, action: str, resource: str) -> bool:
    if action in _S3_OBJECTS:
        places = [(snapshot.bucket, prefix) for prefix in _prefixes(stage)]
        places += stage.read_places if action == "s3:getobject" else ()
        return resource.startswith(tuple(f"{bucket_arn(snapshot, bucket)}/{prefix}" for bucket, prefix in places))
    if action == "s3:listbucket":
        buckets = (snapshot.bucket, *(bucket for bucket, _ in stage.read_places))
        return resource in (bucket_arn(snapshot, bucket) for bucket in buckets)
    if action in map(str.lower, _SQS):
        return stage.queue is not None and resource == known(snapshot.get(QUEUE, stage.queue.name)).arn
    if action in map(str.lower, (*_LOGS, "logs:CreateLogGroup")):
        return resource.startswith(_log_group_arn(snapshot, function))
    if action in _KMS:
        return resource in {*(key.arn for key in snapshot.answered(KEY).values()), *stage.read_keys}
    return action in _TRACING


@SECTION.check(
    "read-access",
    Function,
    why="A function that cannot read what it needs besides its inputs fails on every input.",
    fix="Correct `read_access` of the ruleset, or create the bucket.",
    details="Each bucket in `read_access` exists. `role-permissions` checks the policies, `kms-keys` the keys. "
    "Skipped if the policy of one of the buckets cannot be read: in another account it would have to allow the role.",
)
def _read_access(snapshot: Snapshot, function: Function) -> Finding | None:
    stage = snapshot.stage_of(function)
    if not stage.reads:
        return None
    others = dict.fromkeys(bucket for bucket, _ in stage.read_places if bucket != snapshot.bucket)
    answers = [snapshot.get(BUCKET, bucket) for bucket in others]
    if missing := [str(answer.error) for answer in answers if answer.not_found]:
        return failed("; ".join(missing))
    for bucket in others:
        known(snapshot.get(BUCKET, bucket))
        known(snapshot.get(BUCKET_POLICY, bucket))
    return passed(f"{function.name} may read {', '.join(stage.reads)}")


@SECTION.check(
    "kms-keys",
    why="Data that is encrypted with an unusable key can be neither written nor read.",
    fix="Enable the key, and allow events.amazonaws.com (for queues) and the functions' roles in its policy.",
    details="The keys of the buckets, queues, functions, log groups and event buses: each exists and is enabled; "
    "EventBridge and the functions' roles may use those that they need.",
)
def _kms_keys(snapshot: Snapshot) -> Finding:
    keys = [asked[1] for asked in snapshot.answers if asked[0] is KEY]
    findings = [finding for key_id in keys for finding in _key_findings(snapshot, key_id)]
    for status in (Status.FAIL, Status.WARN, Status.SKIP):
        if seen := [finding.seen for finding in findings if finding.status is status]:
            return Finding(status, "; ".join(dict.fromkeys(seen)))
    in_use = f"{counted(len(keys), 'KMS key')} in use can be used"
    return passed(in_use if keys else "no customer managed KMS keys are in use")


def _key_findings(snapshot: Snapshot, key_id: str) -> Iterator[Finding]:
    edges, answer = snapshot.pipeline.edges, snapshot.get(KEY, key_id)
    fed = [target for source, target in edges if isinstance(source, EventRule) and isinstance(target, Queue)]
    queues = [queue.name for queue in fed if _encrypts(snapshot.get(QUEUE, queue.name), key_id)]
    bucket = snapshot.bucket if snapshot.bucket and snapshot.get(BUCKET_KEY, snapshot.bucket).value == key_id else None
    user = queues[0] if queues else f"bucket {bucket}" if bucket else "the pipeline"
    if answer.not_found:
        yield failed(f"{answer.error}; {user} is encrypted with it")
    elif answer.value is None:
        yield skipped(str(answer.error))
    elif answer.value.state != "Enabled":
        yield failed(f"KMS key {answer.value.arn} of {user} is {answer.value.state}")
    elif queues and answer.value.is_aws_managed:
        denied_by = f"AWS manages its key {key_id}, and the key's policy does not allow EventBridge"
        yield failed(f"EventBridge cannot send to {user}: {denied_by}")
    else:
        yield from _who_may_use(snapshot, key_id, answer.value, queues, bucket)


def _encrypts(answer: Answer[Any], key_id: str) -> bool:
    return answer.value is not None and answer.value.kms_key == key_id


def _who_may_use(
    snapshot: Snapshot, key_id: str, key: KmsKey, queues: Collection[str], bucket: str | None
) -> Iterator[Finding]:
    """EventBridge, which sends to `queues`, and the roles of the functions that use the key."""
    if queues:
        context = {"aws:sourceaccount": snapshot.account, "aws:securetransport": "true"}
        verdict = all_of(
            allowed([key.policy], Request(action, key.arn, service=EVENTS, context=context))
            for action in ("kms:GenerateDataKey", "kms:Decrypt")
        )
        yield _key_verdict(verdict, f"EventBridge, which sends to {next(iter(queues))},", key)
    for stage in snapshot.pipeline.stages:
        function = snapshot.get(FUNCTION, stage.consumer.name) if stage.consumer else Answer()
        role = snapshot.get(ROLE, function.value.role_name).value if function.value else None
        if role is None or key.is_aws_managed:
            continue
        calls = []
        if bucket and _prefixes(stage):
            calls += [("s3", "kms:Decrypt"), ("s3", "kms:GenerateDataKey")]
        elif key_id in (*stage.read_keys, *(snapshot.get(BUCKET_KEY, name).value for name, _ in stage.read_places)):
            calls.append(("s3", "kms:Decrypt"))
        if stage.queue and _encrypts(snapshot.get(QUEUE, stage.queue.name), key_id):
            calls.append(("sqs", "kms:Decrypt"))
        if _encrypts(function, key_id):
            calls.append(("lambda", "kms:Decrypt"))
        for service, action in calls:
            yield _key_verdict(_role_may_use(snapshot, role, key, service, action), role.name, key)


def _role_may_use(snapshot: Snapshot, role: Role, key: KmsKey, service: str, action: str) -> Verdict:
    """Through a service.

    The key's policy names the role, or leaves it to the account's policies and one of the role's allows it.
    """
    request = _by_role(role, action, key.arn, {"kms:viaservice": _endpoint(service, key)})
    policies = [policy.statements for policy in role.policies]
    left_to_account = delegates(key.policy, snapshot.account, action)
    says = any_of([granted([key.policy], request), all_of([left_to_account, granted(policies, request)])])
    return all_of([says, negated(denied([key.policy, *policies], request)), _in_boundary(role, request)])


def _key_verdict(verdict: Verdict, who: str, key: KmsKey) -> Finding:
    return judged(
        verdict,
        f"{who} may use {key.arn}",
        f"{who} may not use KMS key {key.arn}",
        f"refinerctl cannot evaluate whether {who} may use KMS key {key.arn}",
    )
