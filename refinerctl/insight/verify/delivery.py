"""From the bucket to the queues: EventBridge's side."""

from __future__ import annotations

from collections.abc import Sequence

from refinerctl.aws.event_pattern import all_of, takes
from refinerctl.aws.events import RuleSettings, RuleTarget
from refinerctl.aws.policies import Policy, Request, allowed
from refinerctl.insight.verify.answers import Absent, Answer, Unread
from refinerctl.insight.verify.framework import (
    DEFAULT_BUS,
    EVENTS,
    CannotTellError,
    Check,
    failed,
    hindered,
    judged,
    known,
    name_of,
    passed,
    present,
    queue_of,
    role_may,
    warned,
)
from refinerctl.insight.verify.samples import NAMES, elsewhere, event, takes_all, takes_any
from refinerctl.insight.verify.types import Finding, RulesetSnapshot, Snapshot

_OTHERS = "Remove that rule, or its target; Terraform knows nothing of it."
OTHER_BUCKET = "another-bucket-than-this-one"


def _bucket_exists(snapshot: Snapshot) -> Finding:
    return present(snapshot.bucket, lambda name: f"bucket {name} is there")


def _bucket_events(snapshot: Snapshot) -> Finding:
    name = snapshot.names.bucket
    if known(snapshot.sends_events):
        return passed(f"bucket {name} sends its events to EventBridge")
    return failed(f"bucket {name} sends no events to EventBridge")


def _bus_exists(snapshot: Snapshot) -> Finding:
    return present(snapshot.bus, lambda bus: f"event bus {bus.name} is there")


def _enabled(answer: Answer[RuleSettings]) -> Finding:
    if isinstance(answer, Absent):
        return failed(answer.reason)
    rule = known(answer)
    return passed(f"rule {rule.name} is enabled") if rule.is_enabled else failed(f"rule {rule.name} is disabled")


def _forward_rule(snapshot: Snapshot) -> Finding:
    return _enabled(snapshot.forward_rule)


def _forward_pattern(snapshot: Snapshot) -> Finding:
    rule = known(snapshot.forward_rule)
    prefixes = [ruleset.names.prefix for ruleset in snapshot.rulesets] or [""]
    verdict = all_of(takes_all(snapshot, rule.pattern, prefix) for prefix in prefixes)
    found = judged(
        verdict,
        f"rule {rule.name} takes what is created in bucket {snapshot.names.bucket}",
        f"rule {rule.name} does not take all that is created in bucket {snapshot.names.bucket}: {rule.pattern}",
        f"the pattern of rule {rule.name} cannot be evaluated here: {rule.pattern}",
    )
    if verdict and takes(rule.pattern, event(snapshot, "x", bucket=OTHER_BUCKET)):
        return warned(f"rule {rule.name} forwards the events of other buckets, too: {rule.pattern}")
    return found


def _forward_target(snapshot: Snapshot) -> Finding:
    rule, arn = known(snapshot.forward_rule), known(snapshot.bus).arn
    found = _sends_to(rule, known(snapshot.forward_targets), arn)
    prefixes = [ruleset.names.prefix for ruleset in snapshot.rulesets]
    return _sent_again(snapshot, DEFAULT_BUS, rule, arn, prefixes) or found


def _sent_again(snapshot: Snapshot, bus: str, own: RuleSettings, arn: str, prefixes: Sequence[str]) -> Finding | None:
    """What is wrong if another rule of the bus sends events there, too; who may not ask knows of none."""
    rules, senders = snapshot.rules.get(bus, ()), snapshot.senders.get(arn, frozenset())
    if isinstance(rules, Absent | Unread) or isinstance(senders, Absent | Unread):
        return None
    for rule in rules:
        if rule.name != own.name and rule.name in senders and rule.is_enabled:
            if verdict := takes_any(snapshot, rule.pattern, prefixes):
                return failed(
                    f"rule {rule.name} of bus {bus} sends the same events to {name_of(arn)}, once more", _OTHERS
                )
            if verdict is None:
                return warned(f"rule {rule.name} of bus {bus} sends to {name_of(arn)}, too: {rule.pattern}", _OTHERS)
    return None


def _sends_to(rule: RuleSettings, targets: Sequence[RuleTarget], arn: str) -> Finding:
    """Whether the event goes there, as it is, and nowhere else."""
    wanted = [target for target in targets if target.arn == arn]
    others = ", ".join(sorted(target.arn for target in targets if target.arn != arn))
    if not wanted:
        return failed(f"rule {rule.name} sends to {others or 'nothing'}, not to {name_of(arn)}")
    if any(target.changes_event for target in wanted):
        return failed(f"rule {rule.name} changes the event before it sends it to {name_of(arn)}")
    if len(wanted) > 1:
        return failed(f"rule {rule.name} sends each event {len(wanted)} times to {name_of(arn)}")
    if others:
        return warned(f"rule {rule.name} sends to {name_of(arn)}, and to {others}")
    return passed(f"rule {rule.name} sends to {name_of(arn)}")


def _target_to(targets: Sequence[RuleTarget], arn: str) -> RuleTarget:
    for target in targets:
        if target.arn == arn:
            return target
    raise CannotTellError(f"no target sends to {name_of(arn)}")


def _forward_role(snapshot: Snapshot) -> Finding:
    rule, bus = known(snapshot.forward_rule), known(snapshot.bus)
    target = _target_to(known(snapshot.forward_targets), bus.arn)
    if target.role_arn is None:
        return failed(f"the target of rule {rule.name} has no role")
    if isinstance(snapshot.forward_role, Absent):
        return failed(snapshot.forward_role.reason)
    role = known(snapshot.forward_role)
    may_assume = allowed([role.trust], _by_rule(snapshot, "sts:AssumeRole", role.arn, rule))
    may_put = role_may(role, "events:PutEvents", bus.arn, [bus.policy])
    if may_put is False and (why := hindered(role, [("events:PutEvents", bus.arn)], [bus.policy])):
        return failed(f"role {role.name} does not allow events:PutEvents on {bus.name}: {why.seen}", why.fix)
    problem = "trust EventBridge" if may_assume is False else f"allow events:PutEvents on {bus.name}"
    return judged(
        all_of([may_assume, may_put]),
        f"role {role.name} lets rule {rule.name} put events on {bus.name}",
        f"role {role.name} does not {problem}",
        f"the policies of role {role.name} cannot be evaluated here",
    )


def _by_rule(snapshot: Snapshot, action: str, resource: str, rule: RuleSettings) -> Request:
    """EventBridge at work for a rule."""
    context = {
        "aws:sourcearn": rule.arn,
        "aws:sourceaccount": snapshot.account,
        "aws:securetransport": "true",
        "aws:principalisawsservice": "true",
        "aws:principalservicename": EVENTS,
    }
    return Request(action, resource, service=EVENTS, context=context)


def _forward_dlq(snapshot: Snapshot) -> Finding:
    return _dead_letters(snapshot, _target_to(known(snapshot.forward_targets), known(snapshot.bus).arn))


def _forward_dlq_policy(snapshot: Snapshot) -> Finding:
    target = _target_to(known(snapshot.forward_targets), known(snapshot.bus).arn)
    return _dead_letters_admitted(snapshot, target, known(snapshot.forward_rule))


def _dead_letters(snapshot: Snapshot, target: RuleTarget) -> Finding:
    if target.dlq_arn is None:
        return failed(f"the target {name_of(target.arn)} has no dead-letter queue for what cannot be delivered")
    return present(queue_of(snapshot, target.dlq_arn), lambda queue: f"what cannot be delivered goes to {queue.name}")


def _dead_letters_admitted(snapshot: Snapshot, target: RuleTarget, rule: RuleSettings) -> Finding:
    if target.dlq_arn is None:
        raise CannotTellError("the target has no dead-letter queue")
    queue = known(queue_of(snapshot, target.dlq_arn))
    return _admits(snapshot, queue.name, queue.arn, queue.policy, rule)


def _admits(snapshot: Snapshot, name: str, arn: str, policy: Policy, rule: RuleSettings) -> Finding:
    return judged(
        allowed([policy], _by_rule(snapshot, "sqs:SendMessage", arn, rule)),
        f"the policy of {name} lets rule {rule.name} send",
        f"the policy of {name} does not let rule {rule.arn} send",
        f"the policy of {name} cannot be evaluated here",
    )


def _rule(_: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    return _enabled(ruleset.rule)


def _rule_pattern(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    rule, own = known(ruleset.rule), ruleset.names.prefix
    verdict = takes_all(snapshot, rule.pattern, own)
    if verdict is None:
        return warned(f"the pattern of rule {rule.name} cannot be evaluated here: {rule.pattern}")
    if not verdict:
        return failed(f"rule {rule.name} does not take all that is created below {own}: {rule.pattern}")
    for other in snapshot.rulesets:
        prefix = other.names.prefix
        if not prefix.startswith(own) and not own.startswith(prefix) and takes_any(snapshot, rule.pattern, [prefix]):
            return failed(f"rule {rule.name} takes inputs of {other.names.name} ({prefix}), too: {rule.pattern}")
    if outside := next((key for key in elsewhere(snapshot, own) if takes(rule.pattern, event(snapshot, key))), None):
        return warned(f"rule {rule.name} takes what is created outside {own}, too, like {outside}: {rule.pattern}")
    if takes(rule.pattern, event(snapshot, own + NAMES[0], bucket=OTHER_BUCKET)):
        return warned(f"rule {rule.name} takes events of other buckets, too: {rule.pattern}")
    if takes(rule.pattern, event(snapshot, own + NAMES[0], kind="Object Deleted")):
        return warned(f"rule {rule.name} takes deletions, too: {rule.pattern}")
    return passed(f"rule {rule.name} takes what is created below {own}, and nothing else")


def _rule_target(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    rule, arn = known(ruleset.rule), known(ruleset.queue).arn
    found = _sends_to(rule, known(ruleset.targets), arn)
    return _sent_again(snapshot, snapshot.names.bus, rule, arn, [ruleset.names.prefix]) or found


def _queue_policy(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    queue = known(ruleset.queue)
    return _admits(snapshot, queue.name, queue.arn, queue.policy, known(ruleset.rule))


def _delivery_dlq(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    return _dead_letters(snapshot, _target_to(known(ruleset.targets), known(ruleset.queue).arn))


def _delivery_dlq_policy(snapshot: Snapshot, ruleset: RulesetSnapshot) -> Finding:
    target = _target_to(known(ruleset.targets), known(ruleset.queue).arn)
    return _dead_letters_admitted(snapshot, target, known(ruleset.rule))


_DEPLOY = "`refinerctl deploy` puts it back as it was released."

CHECKS = (
    Check(
        "bucket-exists",
        "Inputs, outputs and completions are kept in it.",
        "Check --env, --region and --bucket; `refinerctl deploy` makes the bucket unless create_bucket is false.",
        of_pipeline=_bucket_exists,
    ),
    Check(
        "bucket-events",
        "Without its events nobody hears of an input.",
        "`refinerctl deploy` switches it on for a bucket that it made; for another one set "
        "manage_bucket_notifications = true, or switch on EventBridge in the bucket's properties.",
        of_pipeline=_bucket_events,
    ),
    Check("bus-exists", "All rulesets listen on it.", _DEPLOY, of_pipeline=_bus_exists),
    Check(
        "forward-rule",
        "S3 sends its events to the default bus only; this rule takes them to the pipeline's.",
        "`aws events enable-rule --name RULE`, or `refinerctl deploy`.",
        of_pipeline=_forward_rule,
    ),
    Check(
        "forward-pattern", "Events that it does not take never reach a ruleset.", _DEPLOY, of_pipeline=_forward_pattern
    ),
    Check("forward-target", "Events have to reach the pipeline's bus once.", _DEPLOY, of_pipeline=_forward_target),
    Check(
        "forward-role",
        "EventBridge needs it to put events on another bus; without it every event is lost or dead.",
        _DEPLOY,
        of_pipeline=_forward_role,
    ),
    Check(
        "forward-dlq",
        "An event that cannot be forwarded would be gone without a trace.",
        _DEPLOY,
        of_pipeline=_forward_dlq,
    ),
    Check(
        "forward-dlq-policy",
        "A dead-letter queue that does not let the rule send keeps nothing.",
        _DEPLOY,
        of_pipeline=_forward_dlq_policy,
    ),
    Check(
        "rule",
        "It takes the ruleset's inputs from the bus to its queue.",
        "`aws events enable-rule --event-bus-name BUS --name RULE`, or `refinerctl deploy`.",
        of_ruleset=_rule,
    ),
    Check(
        "rule-pattern",
        "An input that no rule takes is never processed; one that two take is processed twice.",
        _DEPLOY,
        of_ruleset=_rule_pattern,
    ),
    Check(
        "rule-target",
        "Events have to reach the ruleset's queue, once and as they are.",
        _DEPLOY,
        of_ruleset=_rule_target,
    ),
    Check(
        "queue-policy",
        "EventBridge may send to a queue only if the queue's policy lets the rule.",
        _DEPLOY,
        of_ruleset=_queue_policy,
    ),
    Check(
        "delivery-dlq",
        "An event that cannot be delivered would be gone without a trace.",
        _DEPLOY,
        of_ruleset=_delivery_dlq,
    ),
    Check(
        "delivery-dlq-policy",
        "A dead-letter queue that does not let the rule send keeps nothing.",
        _DEPLOY,
        of_ruleset=_delivery_dlq_policy,
    ),
)
