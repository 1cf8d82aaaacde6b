"""Checks of alarms: whether anybody is told about messages that were not processed."""

from __future__ import annotations

from refinerctl.aws.alarms import Alarm, alarms_of, is_topic
from refinerctl.insight.findings import Finding, passed, skipped, warned
from refinerctl.insight.verify.checks import Section, dlq_of, known
from refinerctl.insight.verify.snapshot import ALARMS, TOPIC, Snapshot, name_of
from refinerctl.stacks.base import Queue

# Metrics that tell of messages in a DLQ before they expire.
_OF_DLQS = {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage", "DlqMessages"}
_EMULATOR = "a local environment has no alarms"

SECTION = Section("Alarms")


@SECTION.check(
    "dlq-alarms",
    why="Messages in a DLQ expire after 14 days at most. Without an alarm nobody may notice them before that.",
    fix="Set `alarms` in the environment's tfvars, and deploy.",
    details="Warns about a DLQ without an alarm on its messages or their age. Looks at alarms whose names start with "
    "the stack's `name_prefix`. Skipped in a local environment, which has no alarms.",
)
def _dlq_alarms(snapshot: Snapshot) -> Finding | None:
    dlqs = {_watched_as(snapshot, dlq) for item in snapshot.pipeline.components if (dlq := dlq_of(item))}
    if not dlqs:
        return None
    if snapshot.embedded:
        return skipped(_EMULATOR)
    watched = {name for alarm in _alarms(snapshot) if alarm.metric in _OF_DLQS for name in alarm.resources}
    if missing := sorted(dlqs - watched):
        return warned(f"{len(missing)} of {len(dlqs)} DLQs have no alarm: {', '.join(missing)}")
    return passed(f"each of {len(dlqs)} DLQs has an alarm")


def _watched_as(snapshot: Snapshot, dlq: Queue) -> str:
    """The resource of its metric: for a DLQ on a broker the service that consumes the queue."""
    stages = (stage for stage in snapshot.pipeline.stages if stage.dlq == dlq and dlq.broker and stage.service)
    return next((stage.service.name for stage in stages if stage.service), dlq.name)


@SECTION.check(
    "alarm-actions",
    why="An alarm that notifies nobody is visible only in `refinerctl status` and in CloudWatch.",
    fix="Set `alarms.sns_topic_arns` in the environment's tfvars, and deploy; confirm the topic's subscription.",
    details="Warns about an alarm without an action, with disabled actions, or with topics that do not exist or have "
    "no confirmed subscription. Skipped without alarms.",
)
def _alarm_actions(snapshot: Snapshot) -> Finding | None:
    if snapshot.embedded:
        return skipped(_EMULATOR)
    alarms = _alarms(snapshot)
    if not alarms:
        return skipped("there are no alarms")
    silent = {alarm.name: reason for alarm in alarms if (reason := _why_nobody_is_told(snapshot, alarm))}
    if silent:
        name, reason = next(iter(silent.items()))
        return warned(f"{len(silent)} of {len(alarms)} alarms notify nobody, for instance {name}: it {reason}")
    return passed(f"each of {len(alarms)} alarms notifies somebody")


def _why_nobody_is_told(snapshot: Snapshot, alarm: Alarm) -> str | None:
    """None if somebody is. Raises RefinerctlError if that is unknown."""
    if not alarm.actions:
        return "has no action, or its actions are disabled"
    if not all(is_topic(arn) for arn in alarm.actions):  # another action, such as an incident, needs no subscription
        return None
    answers = {name_of(arn): snapshot.get(TOPIC, arn) for arn in alarm.actions}
    if any(answer.value and answer.value.confirmed for answer in answers.values()):
        return None
    for name, answer in answers.items():
        if not answer.not_found and (pending := known(answer).pending):
            return f"notifies topic {name}, which has only unconfirmed subscriptions ({pending})"
    missing = next((name for name, answer in answers.items() if answer.not_found), None)
    if missing:
        return f"notifies topic {missing}, which does not exist"
    return f"notifies topic {next(iter(answers))}, which has no subscription"


def _alarms(snapshot: Snapshot) -> tuple[Alarm, ...]:
    return alarms_of(snapshot.pipeline, known(snapshot.get(ALARMS, snapshot.pipeline.name_prefix)))
