"""Checks of schedules: each starts its target, and may."""

from __future__ import annotations

from refinerctl.insight.verify.checks import Finding, Section, failed, known, passed
from refinerctl.insight.verify.delivery import DEPLOY
from refinerctl.insight.verify.permissions import service_role
from refinerctl.insight.verify.snapshot import ROLE, SCHEDULE, Snapshot, name_of
from refinerctl.stacks.base import Component, Function, Queue, Schedule

SCHEDULER = "scheduler.amazonaws.com"

SECTION = Section("Schedules")


@SECTION.check(
    "schedule",
    Schedule,
    why="It starts the stage's work.",
    fix="Enable it in EventBridge Scheduler, or `refinerctl deploy`.",
)
def _schedule(snapshot: Snapshot, schedule: Schedule) -> Finding:
    answer = snapshot.get(SCHEDULE, schedule.group, schedule.name)
    if answer.not_found:
        return failed(str(answer.error))
    settings = known(answer)
    if not settings.is_enabled:
        return failed(f"schedule {schedule.name} is disabled")
    return passed(f"schedule {schedule.name} is enabled: {settings.expression}")


@SECTION.check(
    "schedule-target",
    Schedule,
    Queue | Function,
    why="A schedule with another target does not start the stage's work.",
    fix=DEPLOY,
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
    fix=DEPLOY,
    details="Evaluates the role's trust policy, policies and boundary: InvokeFunction or SendMessage.",
)
def _schedule_role(snapshot: Snapshot, schedule: Schedule, target: Component) -> Finding:
    settings, arn = known(snapshot.settings(schedule)), known(snapshot.settings(target)).arn
    if settings.role_arn is None:
        return failed(f"schedule {schedule.name} has no role")
    action = "lambda:InvokeFunction" if isinstance(target, Function) else "sqs:SendMessage"
    context = {"aws:sourcearn": settings.arn, "aws:sourceaccount": snapshot.account}
    return service_role(snapshot.get(ROLE, name_of(settings.role_arn)), SCHEDULER, context, (action, arn))
