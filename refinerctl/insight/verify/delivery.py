"""Checks of what starts the stages: buckets, event buses, the event rules on them, and schedules."""

from __future__ import annotations

from typing import Any

from refinerctl.aws.event_pattern import pattern_matches, rejection
from refinerctl.aws.events import DEFAULT_BUS, RULES_PER_BUS, RuleSettings, RuleTarget
from refinerctl.aws.policies import Request, allowed
from refinerctl.errors import NotFoundError
from refinerctl.insight.findings import Finding, failed, passed, skipped, warned
from refinerctl.insight.verify.checks import Section, judged, known, present
from refinerctl.insight.verify.permissions import EVENTS, check_role
from refinerctl.insight.verify.samples import SAMPLE_NAME, event, matches_all, matches_any
from refinerctl.insight.verify.snapshot import (
    BUCKET,
    BUCKET_EVENTS,
    BUS,
    QUEUE,
    ROLE,
    RULES,
    SENDERS,
    TARGETS,
    Snapshot,
    name_of,
)
from refinerctl.parallel import Answer
from refinerctl.stacks.base import Bucket, Component, EventBus, EventRule, Function, Queue, Schedule

OTHER_BUCKET = "some-other-bucket"
SCHEDULER = "scheduler.amazonaws.com"
QUOTA_WARNING = 0.8
_OTHER_RULE = "Remove that rule or its target; Terraform does not manage it."

SECTION = Section("Delivery: buckets, event buses, event rules, schedules")


@SECTION.check(
    "bucket-exists",
    Bucket,
    why="Inputs, outputs and completions are in it.",
    fix="Check --env and --region; `refinerctl deploy` creates the bucket unless create_bucket is false.",
)
def _bucket_exists(snapshot: Snapshot, bucket: Bucket) -> Finding:
    return present(snapshot.get(BUCKET, bucket.name), f"bucket {bucket.name} exists")


@SECTION.check(
    "bucket-events",
    Bucket,
    EventBus,
    why="Without events no input is processed.",
    fix="`refinerctl deploy` enables events for a bucket that it created; for any other bucket set "
    "manage_bucket_notifications = true, or enable EventBridge in the bucket's properties.",
)
def _bucket_events(snapshot: Snapshot, bucket: Bucket, _bus: EventBus) -> Finding:
    if known(snapshot.get(BUCKET_EVENTS, bucket.name)):
        return passed(f"bucket {bucket.name} sends its events to EventBridge")
    return failed(f"bucket {bucket.name} sends no events to EventBridge")


@SECTION.check("bus-exists", EventBus, why="The event rules of all stages are on it.")
def _bus_exists(snapshot: Snapshot, bus: EventBus) -> Finding | None:
    if bus.name == DEFAULT_BUS:  # every account has it
        return None
    return present(snapshot.get(BUS, bus.name), f"event bus {bus.name} exists")


@SECTION.check(
    "rule",
    EventRule,
    Queue | Function,
    why="It sends the stage's inputs from the event bus to its queue.",
    fix="`aws events enable-rule --event-bus-name BUS --name RULE`, or `refinerctl deploy`.",
)
def enabled(snapshot: Snapshot, rule: EventRule, _target: Component) -> Finding:
    """Whether the rule exists and is enabled."""
    return _enabled(snapshot.rule(rule), f"rule {rule.name}")


def _enabled(answer: Answer[Any], what: str) -> Finding:
    if not answer.not_found and not known(answer).is_enabled:
        return failed(f"{what} is disabled")
    return present(answer, f"{what} is enabled")


@SECTION.check(
    "rule-pattern",
    EventRule,
    Queue | Function,
    why="An input that no rule matches is never processed; one that two rules match is processed twice.",
    details="Evaluates the pattern on events as S3 sends them, for two keys below the stage's prefix: created at once, "
    "as a multipart upload and by a copy. Fails if AWS rejects the pattern, or it matches inputs of another stage; "
    "warns if it matches keys outside of its prefix, other buckets' events or deletions, or if refinerctl cannot tell.",
)
def _rule_pattern(snapshot: Snapshot, rule: EventRule, _target: Component) -> Finding | None:
    if snapshot.bucket is None:
        return None
    pattern, own = known(snapshot.rule(rule)).pattern, rule.prefix
    if rejected := pattern_rejected(rule, pattern):
        return rejected
    verdict = matches_all(snapshot, pattern, own)
    if verdict is None:
        return warned(f"refinerctl cannot evaluate the pattern of rule {rule.name}: {pattern}")
    if not verdict:
        return failed(f"rule {rule.name} does not match all objects that are created below {own}: {pattern}")
    return _matches_more(snapshot, rule, pattern) or passed(
        f"rule {rule.name} matches the objects that are created below {own}, and no other events"
    )


def pattern_rejected(rule: EventRule, pattern: str) -> Finding | None:
    """The finding if AWS does not accept the rule's pattern."""
    reason = pattern and rejection(pattern)
    return failed(f"AWS rejects the pattern of rule {rule.name}: {reason}: {pattern}") if reason else None


def _matches_more(snapshot: Snapshot, rule: EventRule, pattern: str) -> Finding | None:
    """The finding if the pattern also matches what is not the rule's."""
    own = rule.prefix
    for stage in snapshot.pipeline.stages:
        other = stage.prefix
        if other is None or other.startswith(own) or own.startswith(other):
            continue
        if matches_any(snapshot, pattern, [other]):
            return failed(f"rule {rule.name} also matches inputs of {stage.name} ({other}): {pattern}")
    # The first is almost below the rule's own prefix.
    for key in (f"{own.removesuffix('/')}-refinerctl-verify", "refinerctl-verify", f"refinerctl-verify/{own}x"):
        if not key.startswith(snapshot.prefixes) and pattern_matches(pattern, event(snapshot, key)):
            return warned(f"rule {rule.name} also matches keys outside of {own}, such as {key}: {pattern}")
    if pattern_matches(pattern, event(snapshot, own + SAMPLE_NAME, bucket=OTHER_BUCKET)):
        return warned(f"rule {rule.name} also matches events of other buckets: {pattern}")
    if pattern_matches(pattern, event(snapshot, own + SAMPLE_NAME, kind="Object Deleted")):
        return warned(f"rule {rule.name} also matches deletions: {pattern}")
    return None


@SECTION.check(
    "rule-target",
    EventRule,
    Queue | Function,
    why="Each event must reach the stage's queue once and unchanged.",
    details="Fails without the target, if two targets are the same queue, if the target changes the event, and if "
    "another rule of the bus sends the same events there; warns about further targets.",
)
def sends_once(snapshot: Snapshot, rule: EventRule, target: Component) -> Finding:
    """Whether the rule, and no other rule of its bus, sends its events to `target`."""
    known(snapshot.rule(rule))
    arn, targets = known(snapshot.settings(target)).arn, known(snapshot.get(TARGETS, rule.bus, rule.name))
    if again := _sent_again(snapshot, rule, arn):
        return again
    wanted = [item for item in targets if item.arn == arn]
    others = ", ".join(sorted(item.arn for item in targets if item.arn != arn))
    if not wanted:
        return failed(f"rule {rule.name} sends to {others or 'no target'}, not to {name_of(arn)}")
    if any(item.changes_event for item in wanted):
        return failed(f"rule {rule.name} changes the event that it sends to {name_of(arn)}")
    if len(wanted) > 1:
        return failed(f"rule {rule.name} sends each event {len(wanted)} times to {name_of(arn)}")
    if others:
        return warned(f"rule {rule.name} sends to {name_of(arn)} and also to {others}")
    return passed(f"rule {rule.name} sends to {name_of(arn)}")


def _sent_again(snapshot: Snapshot, own: EventRule, arn: str) -> Finding | None:
    """The finding if another rule of the bus sends events there; None also if the rules could not be read."""
    prefixes = [prefix for prefix in snapshot.prefixes if prefix.startswith(own.prefix)]
    rules = snapshot.get(RULES, own.bus).value or ()
    senders = snapshot.get(SENDERS, own.bus, arn).value or frozenset()
    for rule in rules:
        if rule.name != own.name and rule.name in senders and rule.is_enabled:
            which = f"rule {rule.name} of event bus {own.bus} also sends"
            if verdict := matches_any(snapshot, rule.pattern, prefixes):
                return failed(f"{which} the same events to {name_of(arn)}", _OTHER_RULE)
            if verdict is None:
                return warned(f"{which} to {name_of(arn)}: {rule.pattern}", _OTHER_RULE)
    return None


@SECTION.check(
    "queue-policy",
    EventRule,
    Queue,
    why="EventBridge can send to a queue only if the queue's policy allows it for the rule.",
    details="Evaluates statements with the conditions `ArnEquals`, `ArnLike`, `String…`, `Bool` and `Null`; warns if "
    "another condition decides.",
)
def _queue_policy(snapshot: Snapshot, rule: EventRule, queue: Queue) -> Finding:
    return _may_send(snapshot, known(snapshot.rule(rule)), queue.name)


@SECTION.check(
    "delivery-dlq",
    EventRule | Schedule,
    Queue | Function,
    why="An event that cannot be delivered would be lost.",
)
def has_dlq(snapshot: Snapshot, source: EventRule | Schedule, target: Component) -> Finding | None:
    """Whether the target has a DLQ for what cannot be delivered, and the DLQ exists."""
    if source.dlq is None:
        return None
    settings = known(snapshot.settings(source)) if isinstance(source, Schedule) else target_of(snapshot, source, target)
    if settings.dlq_arn is None:
        return failed(f"target {target.name} of {source.name} has no DLQ for events that cannot be delivered")
    name = name_of(settings.dlq_arn)
    return present(snapshot.get(QUEUE, name), f"events that cannot be delivered to {target.name} go to {name}")


def target_of(snapshot: Snapshot, rule: EventRule, component: Component) -> RuleTarget:
    """The rule's target that is the component."""
    arn = known(snapshot.settings(component)).arn
    for target in known(snapshot.get(TARGETS, rule.bus, rule.name)):
        if target.arn == arn:
            return target
    raise NotFoundError(f"no target of rule {rule.name} is {component.name}")


@SECTION.check(
    "delivery-dlq-policy",
    EventRule,
    Queue | Function,
    why="A DLQ that the rule may not send to receives nothing: the event is lost.",
)
def dlq_may_receive(snapshot: Snapshot, rule: EventRule, target: Component) -> Finding | None:
    """Whether the DLQ's policy allows the rule to send to it."""
    if rule.dlq is None:
        return None
    dlq_arn = target_of(snapshot, rule, target).dlq_arn
    if dlq_arn is None:
        return skipped("the target has no DLQ")
    return _may_send(snapshot, known(snapshot.rule(rule)), name_of(dlq_arn))


def _may_send(snapshot: Snapshot, rule: RuleSettings, queue_name: str) -> Finding:
    queue = known(snapshot.get(QUEUE, queue_name))
    request = Request("sqs:SendMessage", queue.arn, service=EVENTS, context=rule_context(snapshot, rule))
    return judged(
        allowed([queue.policy], request),
        f"the policy of {queue.name} allows rule {rule.name} to send",
        f"the policy of {queue.name} does not allow rule {rule.arn} to send",
        f"refinerctl cannot evaluate the policy of {queue.name}",
    )


def rule_context(snapshot: Snapshot, rule: RuleSettings) -> dict[str, str]:
    """The condition keys of a request that EventBridge makes for a rule."""
    return {
        "aws:sourcearn": rule.arn,
        "aws:sourceaccount": snapshot.account,
        "aws:securetransport": "true",
        "aws:principalisawsservice": "true",
        "aws:principalservicename": EVENTS,
    }


@SECTION.check(
    "schedule",
    Schedule,
    why="It starts the stage's work.",
    fix="Enable it in EventBridge Scheduler, or `refinerctl deploy`.",
)
def _schedule(snapshot: Snapshot, schedule: Schedule) -> Finding:
    answer = snapshot.settings(schedule)
    expression = f" ({answer.value.expression})" if answer.value else ""
    return _enabled(answer, f"schedule {schedule.name}{expression}")


@SECTION.check(
    "schedule-target",
    Schedule,
    Queue | Function,
    why="A schedule with another target does not start the stage's work.",
)
def _schedule_target(snapshot: Snapshot, schedule: Schedule, target: Component) -> Finding:
    settings, arn = known(snapshot.settings(schedule)), known(snapshot.settings(target)).arn
    if settings.target_arn != arn:
        return failed(f"schedule {schedule.name} sends to {settings.target_arn}, not to {target.name}")
    return passed(f"schedule {schedule.name} sends to {name_of(arn)}")


@SECTION.check(
    "schedule-role",
    Schedule,
    Queue | Function,
    why="Without the role's permission the schedule starts nothing.",
    details="Evaluates the role's trust policy, policies and boundary: InvokeFunction or SendMessage.",
)
def _schedule_role(snapshot: Snapshot, schedule: Schedule, target: Component) -> Finding:
    settings, arn = known(snapshot.settings(schedule)), known(snapshot.settings(target)).arn
    if settings.role_arn is None:
        return failed(f"schedule {schedule.name} has no role")
    action = "lambda:InvokeFunction" if isinstance(target, Function) else "sqs:SendMessage"
    # The condition key has the ARN of the schedule's group:
    # https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
    group = settings.arn.replace(":schedule/", ":schedule-group/").rpartition("/")[0]
    context = {"aws:sourcearn": group, "aws:sourceaccount": snapshot.account}
    return check_role(snapshot.get(ROLE, name_of(settings.role_arn)), SCHEDULER, context, [(action, arn)])


@SECTION.check(
    "quota-rules",
    why="An event bus accepts no more rules than its quota.",
    fix="Request a higher quota in Service Quotas: EventBridge, rules per event bus.",
    details=f"Warns at {QUOTA_WARNING:.0%} of {RULES_PER_BUS}, the default quota; a higher quota is not detected.",
)
def _quota_rules(snapshot: Snapshot) -> Finding | None:
    counts = {bus.name: len(known(snapshot.get(RULES, bus.name))) for bus in snapshot.pipeline.by_kind(EventBus)}
    if not counts:
        return None
    listed = ", ".join(f"bus {bus} has {count} of {RULES_PER_BUS} rules" for bus, count in sorted(counts.items()))
    seen = f"{listed}, by the default quota"
    return warned(seen) if any(count >= QUOTA_WARNING * RULES_PER_BUS for count in counts.values()) else passed(seen)
