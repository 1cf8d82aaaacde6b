"""What roles may do: enough, and no more. And whether the KMS keys in use can be used."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from refinerctl.aws.event_pattern import Verdict, all_of, any_of, negated
from refinerctl.aws.iam import KmsKey, Role
from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.policies import Policy, Request, Statement, allowed, delegates, denied, granted, like
from refinerctl.insight.verify.checks import Finding, Section, Status, failed, judged, known, passed, warned
from refinerctl.insight.verify.samples import SAMPLE_NAME
from refinerctl.insight.verify.snapshot import (
    BUCKET_KEY,
    BUCKET_POLICY,
    FUNCTION,
    KEY,
    QUEUE,
    ROLE,
    Snapshot,
    name_of,
)
from refinerctl.parallel import Answer
from refinerctl.stacks.base import EventRule, Function, Queue, Stage

EVENTS = "events.amazonaws.com"
LAMBDA = "lambda.amazonaws.com"
# AWS's own policies, as the stack attaches them: they name all log groups and network interfaces.
_MANAGED = (":iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
            ":iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole")  # fmt: skip
_SQS = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
_S3_OBJECTS = ("s3:getobject", "s3:putobject", "s3:abortmultipartupload")
_KMS = ("kms:decrypt", "kms:generatedatakey")
_TRACING = ("xray:puttracesegments", "xray:puttelemetryrecords")
_SHOWN = 5

SECTION = Section("Permissions and keys")


def may(role: Role, action: str, resource: str, resource_policies: Collection[Policy] = ()) -> Verdict:
    """Whether the role's policies and boundary, and the resource's policies, allow it."""
    request = _by_role(role, action, resource)
    policies = [*(policy.statements for policy in role.policies), *resource_policies]
    return all_of([allowed(policies, request), _in_boundary(role, request)])


def _by_role(role: Role, action: str, resource: str) -> Request:
    context = {
        "aws:securetransport": "true",
        "aws:principalarn": role.arn,
        "aws:principalaccount": role.arn.split(":")[4],
        "aws:principaltype": "AssumedRole",
        "aws:principalisawsservice": "false",
    }
    return Request(action, resource, role_arn=role.arn, context=context)


def _in_boundary(role: Role, request: Request) -> Verdict:
    return True if role.boundary is None else allowed([role.boundary], request)


def not_allowed(
    role: Role, calls: Collection[tuple[str, str]], resource_policies: Collection[Policy], text: str
) -> Finding:
    """The failure of a role that may not do `calls`, pairs of action and resource.

    A boundary or a policy that denies them gets a fix of its own: to deploy would change nothing.
    """
    requests = [_by_role(role, *call) for call in calls]
    if all(_in_boundary(role, request) is False for request in requests):
        return failed(f"{text}: its permissions boundary does not", "Allow it in the boundary, or remove the boundary.")
    if all(denied(resource_policies, request) for request in requests):
        return failed(f"{text}: the resource's own policy denies it", "Remove that statement, or except the role.")
    return failed(text)


def service_role(
    answer: Answer[Role], service: str, context: Mapping[str, str], call: tuple[str, str],
    policies: Collection[Policy] = (),
) -> Finding:  # fmt: skip
    """Whether a service may assume the role, and the role may do `call`, action and resource."""
    if answer.not_found:
        return failed(str(answer.error))
    role, (action, resource) = known(answer), call
    trusted = allowed([role.trust], Request("sts:AssumeRole", role.arn, service=service, context=context))
    allows, what = may(role, action, resource, policies), f"allow {action} on {name_of(resource)}"
    if allows is False:
        return not_allowed(role, [call], policies, f"role {role.name} does not {what}")
    return judged(
        all_of([trusted, allows]),
        f"{service} may assume role {role.name}, which allows {action} on {name_of(resource)}",
        f"role {role.name} does not trust {service}",
        f"refinerctl cannot evaluate the policies of role {role.name}",
    )


def _role_of(snapshot: Snapshot, function: Function) -> Answer[Role]:
    return snapshot.get(ROLE, known(snapshot.get(FUNCTION, function.name)).role_name)


def _prefixes(stage: Stage) -> tuple[str, ...]:
    """Below which the stage's function reads and writes objects."""
    return (*([stage.prefix] if stage.prefix is not None else []), *stage.writes)


def needs(snapshot: Snapshot, stage: Stage, function: Function) -> Iterator[tuple[str, str]]:
    """Action and resource of each call that Lambda and the image make."""
    if snapshot.bucket and stage.prefix is not None:
        yield "s3:GetObject", f"{_bucket_arn(snapshot)}/{stage.prefix}{SAMPLE_NAME}"
    for prefix in stage.writes if snapshot.bucket else ():
        yield "s3:PutObject", f"{_bucket_arn(snapshot)}/{prefix}{SAMPLE_NAME}"
    if stage.queue is not None:
        queue_arn = known(snapshot.get(QUEUE, stage.queue.name)).arn
        yield from ((action, queue_arn) for action in _SQS)
    stream = f"{_log_group_arn(snapshot, function)}:log-stream:refinerctl-verify"
    yield from ((action, stream) for action in _LOGS)


def _bucket_arn(snapshot: Snapshot) -> str:
    return f"arn:{snapshot.partition}:s3:::{snapshot.bucket}"


def _log_group_arn(snapshot: Snapshot, function: Function) -> str:
    partition, _, region, account = known(snapshot.get(FUNCTION, function.name)).arn.split(":")[1:5]
    return f"arn:{partition}:logs:{region}:{account}:log-group:{function.log_group}"


@SECTION.check(
    "role-permissions",
    Function,
    why="If a call is denied, every input fails and ends in the DLQ.",
    fix="`refinerctl deploy` restores the role's policies.",
    details="Evaluates the role's policies and boundary, the bucket's policy and the queue's: GetObject on inputs, "
    "PutObject on outputs and completions, ReceiveMessage, DeleteMessage and GetQueueAttributes on the queue, "
    "CreateLogStream and PutLogEvents. Policies of an AWS organization are not evaluated.",
)
def _role_permissions(snapshot: Snapshot, function: Function) -> Finding:
    answer, stage = _role_of(snapshot, function), snapshot.stage_of(function)
    if answer.not_found:
        return failed(str(answer.error))
    role = known(answer)
    resource_policies = [_bucket_policy(snapshot)]
    if stage.queue is not None:
        resource_policies.append(known(snapshot.get(QUEUE, stage.queue.name)).policy)
    context = {
        "aws:sourcearn": known(snapshot.get(FUNCTION, function.name)).arn,
        "aws:sourceaccount": snapshot.account,
    }
    trusted = allowed([role.trust], Request("sts:AssumeRole", role.arn, service=LAMBDA, context=context))
    if trusted is False:
        return failed(f"role {role.name} does not trust Lambda")
    if trusted is None:
        return warned(f"refinerctl cannot evaluate whether role {role.name} trusts Lambda")
    verdicts = {call: may(role, *call, resource_policies) for call in needs(snapshot, stage, function)}
    if missing := [call for call, verdict in verdicts.items() if verdict is False]:
        text = f"role {role.name} does not allow {_listed(missing)}"
        return not_allowed(role, missing, resource_policies, text)
    if unknown := [call for call, verdict in verdicts.items() if verdict is None]:
        return warned(f"refinerctl cannot evaluate whether role {role.name} allows {_listed(unknown)}")
    return passed(f"role {role.name} allows all {len(verdicts)} calls that the function needs")


def _listed(calls: Collection[tuple[str, str]]) -> str:
    return ", ".join(f"{action} on {resource}" for action, resource in calls)


def _bucket_policy(snapshot: Snapshot) -> Policy:
    """One that could not be read may grant what no other policy does."""
    if snapshot.bucket is None:
        return ()
    answer = snapshot.get(BUCKET_POLICY, snapshot.bucket)
    if answer.error is not None and not answer.not_found:
        return (Statement(allows=True, is_readable=False),)
    return answer.value or ()


@SECTION.check(
    "role-extra",
    Function,
    why="Whoever gets the function's credentials can do that, too.",
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
    if statement.not_actions or statement.not_resources or not statement.is_readable:
        yield "a statement with NotAction or NotResource, or one that cannot be read"
        return
    for action in statement.actions:
        service = action.partition(":")[0].lower()
        # A statement may name what several services have: S3's actions mean nothing on a queue.
        resources = [item for item in statement.resources if like(_service(item), service)]
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
        return resource.startswith(tuple(f"{_bucket_arn(snapshot)}/{prefix}" for prefix in _prefixes(stage)))
    if action == "s3:listbucket":
        return resource == _bucket_arn(snapshot)
    if action in map(str.lower, _SQS):
        return stage.queue is not None and resource == known(snapshot.get(QUEUE, stage.queue.name)).arn
    if action in map(str.lower, (*_LOGS, "logs:CreateLogGroup")):
        return resource.startswith(_log_group_arn(snapshot, function))
    if action in _KMS:
        return resource in {key.arn for key in snapshot.answered(KEY).values()}
    return action in _TRACING


@SECTION.check(
    "kms-keys",
    why="What is encrypted with a key that cannot be used can be neither written nor read.",
    fix="Enable the key, and allow events.amazonaws.com (for queues) and the functions' roles in its policy.",
    details="The keys of the bucket, queues, functions, log groups and event buses: each exists and is enabled; "
    "EventBridge and the functions' roles may use those that they need.",
)
def _kms_keys(snapshot: Snapshot) -> Finding:
    findings = list(_key_findings(snapshot))
    for status in (Status.FAIL, Status.WARN, Status.SKIP):
        if seen := [finding.seen for finding in findings if finding.status is status]:
            return Finding(status, "; ".join(dict.fromkeys(seen)))
    count = len(snapshot.answered(KEY))
    return passed(
        f"{count} KMS key{'s' * (count != 1)} in use can be used" if count else "no KMS keys of your own are in use"
    )


@dataclass(frozen=True)
class _KeyUsers:
    """Who uses a key: the queues that EventBridge sends to, and whether the bucket does."""

    queues: tuple[str, ...]
    bucket: str | None

    @property
    def first(self) -> str:
        return self.queues[0] if self.queues else f"bucket {self.bucket}" if self.bucket else "the pipeline"


def _key_findings(snapshot: Snapshot) -> Iterator[Finding]:
    for key_id in (asked[1] for asked in snapshot.answers if asked[0] is KEY):
        answer, users = snapshot.get(KEY, key_id), _users(snapshot, key_id)
        if answer.not_found:
            yield failed(f"{answer.error}; {users.first} is encrypted with it")
        elif answer.value is None:
            yield Finding(Status.SKIP, str(answer.error))
        elif answer.value.state != "Enabled":
            yield failed(f"KMS key {answer.value.arn} of {users.first} is {answer.value.state}")
        else:
            yield from _who_may_use(snapshot, key_id, answer.value, users)


def _users(snapshot: Snapshot, key_id: str) -> _KeyUsers:
    edges = snapshot.pipeline.edges
    fed = [target for source, target in edges if isinstance(source, EventRule) and isinstance(target, Queue)]
    settings = (snapshot.get(QUEUE, queue.name).value for queue in fed)
    queues = tuple(item.name for item in settings if item and item.kms_key == key_id)
    of_bucket = snapshot.bucket and snapshot.get(BUCKET_KEY, snapshot.bucket).value == key_id
    return _KeyUsers(queues, snapshot.bucket if of_bucket else None)


def _who_may_use(snapshot: Snapshot, key_id: str, key: KmsKey, users: _KeyUsers) -> Iterator[Finding]:
    if users.queues and key.is_aws_managed:
        yield failed(
            f"EventBridge cannot send to {users.queues[0]}: AWS manages its key {key_id}, whose policy does not "
            "allow EventBridge"
        )
        return
    if users.queues:
        context = {"aws:sourceaccount": snapshot.account, "aws:securetransport": "true"}
        verdict = all_of(
            allowed([key.policy], Request(action, key.arn, service=EVENTS, context=context))
            for action in ("kms:GenerateDataKey", "kms:Decrypt")
        )
        yield _key_verdict(verdict, f"EventBridge, which sends to {users.queues[0]},", key)
    for stage in snapshot.pipeline.stages:
        function = snapshot.get(FUNCTION, stage.consumer.name).value if stage.consumer else None
        role = snapshot.get(ROLE, function.role_name).value if function else None
        if function is None or role is None or key.is_aws_managed:
            continue
        for action in _key_actions(snapshot, stage, function, key_id, users):
            yield _key_verdict(_role_may_use(snapshot, role, key, action), role.name, key)


def _key_actions(
    snapshot: Snapshot, stage: Stage, function: FunctionConfiguration, key_id: str, users: _KeyUsers
) -> tuple[str, ...]:
    """What a stage's function does with a key."""
    if users.bucket and _prefixes(stage):
        return ("kms:Decrypt", "kms:GenerateDataKey")
    queue = snapshot.get(QUEUE, stage.queue.name).value if stage.queue else None
    return ("kms:Decrypt",) if key_id in (function.kms_key, queue.kms_key if queue else None) else ()


def _role_may_use(snapshot: Snapshot, role: Role, key: KmsKey, action: str) -> Verdict:
    """The key's policy names the role, or leaves it to the account's policies and one of the role's allows it."""
    request = _by_role(role, action, key.arn)
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
