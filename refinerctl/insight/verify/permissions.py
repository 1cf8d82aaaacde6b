"""What a function's role may do: what it needs, and nothing more. And the keys that all this is encrypted with."""

from __future__ import annotations

from collections.abc import Iterator

from refinerctl.aws.event_pattern import Verdict, all_of, any_of, negated
from refinerctl.aws.iam import Role
from refinerctl.aws.kms import KmsKey
from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.aws.policies import Policy, Request, Statement, allowed, delegates, denied, granted, like
from refinerctl.aws.sqs import QueueSettings
from refinerctl.insight.verify.answers import Absent, Unread
from refinerctl.insight.verify.framework import (
    EVENTS,
    Check,
    by_role,
    failed,
    hindered,
    in_bounds,
    known,
    passed,
    role_may,
    warned,
)
from refinerctl.insight.verify.samples import NAMES
from refinerctl.insight.verify.types import Finding, RulesetSnapshot, Snapshot, Status

LAMBDA = "lambda.amazonaws.com"
# AWS's own, as the stack attaches them: they name all log groups and network interfaces.
_MANAGED = (":iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
            ":iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole")  # fmt: skip
_SQS = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
_S3_OBJECTS = ("s3:getobject", "s3:putobject", "s3:abortmultipartupload")
_KMS = ("kms:decrypt", "kms:generatedatakey")
_TRACING = ("xray:puttracesegments", "xray:puttelemetryrecords")
_SHOWN = 5


def _prefixes(snapshot: Snapshot, ruleset: RulesetSnapshot) -> tuple[str, str, str]:
    names = snapshot.names
    return ruleset.names.prefix, names.output_prefix, names.complete_prefix


def needs(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Iterator[tuple[str, str]]:
    """Action and resource of each call that Lambda and the image make, see images/refiner/README.md."""
    inputs, outputs, completions = (
        f"{snapshot.bucket_arn}/{prefix}{NAMES[0]}" for prefix in _prefixes(snapshot, ruleset)
    )
    yield "s3:GetObject", inputs
    yield "s3:PutObject", outputs
    yield "s3:PutObject", completions
    queue_arn = known(ruleset.queue).arn
    yield from ((action, queue_arn) for action in _SQS)
    stream = f"{_log_group_arn(ruleset)}:log-stream:refinerctl-verify"
    yield from ((action, stream) for action in _LOGS)


def _log_group_arn(ruleset: RulesetSnapshot) -> str:
    function = known(ruleset.function)
    partition, _, region, account = function.arn.split(":")[1:5]
    return f"arn:{partition}:logs:{region}:{account}:log-group:{ruleset.names.log_group}"


def _role_permissions(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    if isinstance(ruleset.role, Absent):
        return failed(ruleset.role.reason)
    role, queue = known(ruleset.role), known(ruleset.queue)
    context = {"aws:sourcearn": known(ruleset.function).arn, "aws:sourceaccount": snapshot.account}
    trusted = allowed([role.trust], Request("sts:AssumeRole", role.arn, service=LAMBDA, context=context))
    if not trusted:
        said = failed if trusted is False else warned
        return said(f"role {role.name} does not {'' if trusted is False else 'surely '}trust Lambda")
    resource_policies = [_bucket_policy(snapshot), queue.policy]
    verdicts = {
        (action, resource): role_may(role, action, resource, resource_policies)
        for action, resource in needs(snapshot, ruleset)
    }
    if missing := [call for call, verdict in verdicts.items() if verdict is False]:
        listed = ", ".join(f"{action} on {resource}" for action, resource in missing)
        seen = f"role {role.name} does not allow {listed}"
        why = hindered(role, missing, resource_policies)
        return failed(f"{seen}: {why.seen}", why.fix) if why else failed(seen)
    if unknown := [f"{action} on {resource}" for (action, resource), verdict in verdicts.items() if verdict is None]:
        return warned(f"whether role {role.name} allows {', '.join(unknown)} cannot be evaluated here")
    return passed(f"role {role.name} allows all {len(verdicts)} things that the function needs")


def _bucket_policy(snapshot: Snapshot) -> Policy:
    """One that could not be read may grant what nothing else does."""
    policy = snapshot.bucket_policy
    if isinstance(policy, Unread):
        return (Statement(allows=True, is_whole=False),)
    return () if isinstance(policy, Absent) else policy


def _role_extra(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    role = known(ruleset.role)
    own = [policy for policy in role.policies if not (policy.arn or "").endswith(_MANAGED)]
    extra = [
        f"{policy.name}: {what}"
        for policy in own
        for statement in policy.statements
        if statement.allows
        for what in _more_than_needed(snapshot, ruleset, statement)
    ]
    if extra:
        more = f" and {len(extra) - _SHOWN} more" if len(extra) > _SHOWN else ""
        return warned(f"role {role.name} allows more than the function needs: {', '.join(extra[:_SHOWN])}{more}")
    return passed(f"role {role.name} allows nothing more than the function needs")


def _more_than_needed(snapshot: Snapshot, ruleset: RulesetSnapshot, statement: Statement) -> Iterator[str]:
    if statement.not_actions or statement.not_resources or not statement.is_whole:
        yield "a statement that names what it does not allow, or cannot be read"
        return
    for action in statement.actions:
        service = action.partition(":")[0].lower()
        # A statement may name what several services have: S3's actions mean nothing on a queue.
        resources = [item for item in statement.resources if like(_service(item), service)]
        wide = [item for item in resources if not _is_needed(snapshot, ruleset, action.lower(), item)]
        if "*" in action or (wide and len(wide) == len(resources)):
            yield f"{action} on {', '.join(resources)}"
        elif wide:
            yield f"{action} on {', '.join(wide)}"


def _service(resource: str) -> str:
    """That part of an ARN; a pattern that has no such part covers all."""
    parts = resource.split(":")
    return parts[2] if len(parts) > 2 else "*"


def _is_needed(snapshot: Snapshot, ruleset: RulesetSnapshot, action: str, resource: str) -> bool:
    if action in _S3_OBJECTS:
        return resource.startswith(tuple(f"{snapshot.bucket_arn}/{item}" for item in _prefixes(snapshot, ruleset)))
    if action == "s3:listbucket":
        return resource == snapshot.bucket_arn
    if action in map(str.lower, _SQS):
        return resource == known(ruleset.queue).arn
    if action in map(str.lower, (*_LOGS, "logs:CreateLogGroup")):
        return resource.startswith(_log_group_arn(ruleset))
    if action in _KMS:
        return resource in {key.arn for key in snapshot.keys.values() if isinstance(key, KmsKey)}
    return action in _TRACING


def _kms_keys(snapshot: Snapshot) -> Finding:
    findings = list(_key_findings(snapshot))
    for status in (Status.FAIL, Status.WARN, Status.SKIP):
        if seen := [finding.seen for finding in findings if finding.status is status]:
            return Finding(status, "; ".join(dict.fromkeys(seen)))
    count = len(snapshot.keys)
    return passed(
        f"{count} key{'s' * (count != 1)} in use can be used" if count else "no KMS keys of your own are used"
    )


def _key_findings(snapshot: Snapshot) -> Iterator[Finding]:
    for key_id, answer in snapshot.keys.items():
        if isinstance(answer, Unread):
            yield Finding(Status.SKIP, answer.reason)
        elif isinstance(answer, Absent):
            yield failed(f"{answer.reason}, which {_users(snapshot, key_id)} is encrypted with")
        elif answer.state != "Enabled":
            yield failed(f"KMS key {answer.arn} of {_users(snapshot, key_id)} is {answer.state}")
        else:
            yield from _who_may_use(snapshot, key_id, answer)


def _queues_with(snapshot: Snapshot, key_id: str) -> list[QueueSettings]:
    """The queues that EventBridge sends to, and that are encrypted with a key."""
    answers = [snapshot.forward_dlq]
    for ruleset in snapshot.rulesets:
        answers += [ruleset.queue, ruleset.delivery_dlq]
    return [item for item in answers if isinstance(item, QueueSettings) and item.kms_key == key_id]


def _users(snapshot: Snapshot, key_id: str) -> str:
    users = [queue.name for queue in _queues_with(snapshot, key_id)]
    if snapshot.bucket_key == key_id:
        users.append(f"bucket {snapshot.names.bucket}")
    return users[0] if users else "the pipeline"


def _who_may_use(snapshot: Snapshot, key_id: str, key: KmsKey) -> Iterator[Finding]:
    queues = _queues_with(snapshot, key_id)
    if queues and key.is_aws_managed:
        yield failed(
            f"EventBridge cannot send to {queues[0].name}: its key {key_id} is AWS's own, and lets nobody else"
        )
        return
    if queues:
        context = {"aws:sourceaccount": snapshot.account, "aws:securetransport": "true"}
        verdict = all_of(
            allowed([key.policy], Request(action, key.arn, service=EVENTS, context=context))
            for action in ("kms:GenerateDataKey", "kms:Decrypt")
        )
        yield _key_verdict(verdict, f"EventBridge, which sends to {queues[0].name},", key)
    for ruleset in snapshot.rulesets:
        for action in _wanted(snapshot, ruleset, key_id):
            if isinstance(ruleset.role, Role) and not key.is_aws_managed:
                yield _key_verdict(_role_may_use(snapshot, ruleset.role, key, action), ruleset.role.name, key)


def _wanted(snapshot: Snapshot, ruleset: RulesetSnapshot, key_id: str) -> list[str]:
    """What a ruleset's function does with a key."""
    if ruleset.names.function is None:
        return []
    if snapshot.bucket_key == key_id:
        return ["kms:Decrypt", "kms:GenerateDataKey"]
    reads_queue = isinstance(ruleset.queue, QueueSettings) and ruleset.queue.kms_key == key_id
    has_environment = isinstance(ruleset.function, FunctionConfiguration) and ruleset.function.kms_key == key_id
    return ["kms:Decrypt"] if reads_queue or has_environment else []


def _role_may_use(snapshot: Snapshot, role: Role, key: KmsKey, action: str) -> Verdict:
    """The key's policy names the role, or leaves it to the account's policies and one of the role's allows it."""
    request = by_role(role, action, key.arn)
    policies = [policy.statements for policy in role.policies]
    left_to_account = delegates(key.policy, snapshot.account, action)
    says = any_of([granted([key.policy], request), all_of([left_to_account, granted(policies, request)])])
    return all_of([says, negated(denied([key.policy, *policies], request)), in_bounds(role, request)])


def _key_verdict(verdict: Verdict, who: str, key: KmsKey) -> Finding:
    if verdict is None:
        return warned(f"whether {who} may use KMS key {key.arn} cannot be evaluated here")
    return passed(f"{who} may use {key.arn}") if verdict else failed(f"{who} may not use KMS key {key.arn}")


CHECKS = (
    Check(
        "role-permissions",
        "A call that is denied fails every input, and ends it among the dead letters.",
        "`refinerctl deploy` puts the role's policies back as they were released.",
        of_function=_role_permissions,
    ),
    Check(
        "role-extra",
        "Whoever gets hold of the function's credentials could do that, too.",
        "Remove it from the role; `refinerctl drift` shows what was added by hand.",
        of_function=_role_extra,
    ),
    Check(
        "kms-keys",
        "What is encrypted with a key that cannot be used can be neither written nor read.",
        "Enable the key, and let its policy admit events.amazonaws.com (queues) and the functions' roles.",
        of_pipeline=_kms_keys,
    ),
)
