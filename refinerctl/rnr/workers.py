"""`refinerctl rnr workers`: the tasks of the service that consumes the broker's queue, and how many there should be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from refinerctl.app import AppContext, app_context
from refinerctl.aws.ecs_services import ServiceState, Task
from refinerctl.console import counted, seconds
from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.options import ask, check_consent, examples, global_options, yes_option
from refinerctl.parallel import attempt
from refinerctl.rnr import STACK
from refinerctl.stacks.base import Schedule, Service

# Of a task's log that is read for its job: older jobs are not shown. ECS protects a task for two hours at a time.
LOG_WINDOW = timedelta(hours=2)
_RECEIVED = "received"
_STREAMS_AT_ONCE = 100


@dataclass(frozen=True)
class Workers:
    """The service, and the schedule of the function that scales it; None if the stack has none."""

    service: Service
    autoscaler: Schedule | None


@click.command(
    epilog=examples(
        "refinerctl rnr workers",
        "refinerctl rnr workers --drain --yes",
        "refinerctl rnr workers --resume --yes",
    )
)
@click.option("--scale", type=click.IntRange(0, 1000), metavar="N", help="Number of workers to run.")
@click.option("--drain", is_flag=True, help="Stop the autoscaler, and all workers after their jobs.")
@click.option("--resume", is_flag=True, help="Let the autoscaler decide again.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and stop.")
@yes_option
@global_options
@click.pass_context
def workers(ctx: click.Context, scale: int | None, drain: bool, resume: bool, dry_run: bool, yes: bool) -> None:
    """Show the workers and their jobs, or set how many there should be.

    --scale holds until the next run of the autoscaler, which decides again. --drain disables the autoscaler's schedule
    and sets 0: a busy worker is protected, and ends after its job. --resume enables the schedule. A deployment with
    Terraform enables it, too.
    """
    changing = [
        flag for flag, given in (("--scale", scale is not None), ("--drain", drain), ("--resume", resume)) if given
    ]
    if len(changing) > 1:
        raise UsageError(f"{' and '.join(changing)} are mutually exclusive")
    if dry_run and not changing:
        raise UsageError("--dry-run needs --scale, --drain or --resume")
    if changing and not dry_run:
        check_consent(yes)
    app = app_context(ctx, changes=bool(changing), stack=STACK)
    found = find(app)
    app.tell_settings()
    if not changing:
        _show(app, found)
        return
    state = app.services.get(found.service.cluster, found.service.name)
    count = None if resume else 0 if drain else scale
    enabled = True if resume else False if drain else None
    plan = _plan(app, found, state, count, enabled)
    if dry_run:
        _report(app, found, plan, count, dry_run=True)
        return
    ask(f"{'; '.join(plan)} in {app.location}?", yes)
    if enabled is not None and found.autoscaler is not None:  # first: a run in between would set another number
        app.event_buses.enable_schedule(found.autoscaler.group, found.autoscaler.name, enabled)
    if count is not None:
        app.services.scale(found.service.cluster, found.service.name, count)
    _report(app, found, plan, count, dry_run=False)


def find(app: AppContext) -> Workers:
    """The service of the pipeline, and what scales it. Raises UsageError without a service."""
    pipeline = app.pipeline
    service = next(iter(pipeline.by_kind(Service)), None)
    if service is None:
        raise UsageError(f"stack {app.stack.name} has no service", hint="Choose another stack with --stack.")
    scaling = pipeline.upstream_of(service)
    sources = (stage.source for stage in pipeline.stages if stage.function and stage.function in scaling)
    return Workers(service, next((source for source in sources if isinstance(source, Schedule)), None))


def _plan(
    app: AppContext, found: Workers, state: ServiceState, count: int | None, enabled: bool | None
) -> tuple[str, ...]:
    plan = []
    if enabled is not None:
        if found.autoscaler is None:
            raise UsageError(f"stack {app.stack.name} has no function that scales service {found.service.name}")
        app.event_buses.schedule(found.autoscaler.group, found.autoscaler.name)  # raises if it does not exist
        plan.append(f"{'Enable' if enabled else 'Disable'} schedule {found.autoscaler.name}")
    if count is not None:
        plan.append(f"Set service {found.service.name} from {state.desired} to {counted(count, 'worker')}")
    return tuple(plan)


def _report(app: AppContext, found: Workers, plan: Sequence[str], count: int | None, *, dry_run: bool) -> None:
    is_enabled = _autoscaler_is_enabled(app, found)
    if app.render.is_json:
        document = {"service": found.service.name, "desired": count, "autoscaler_enabled": is_enabled}
        app.render.json({**document, "dry_run": dry_run, "steps": plan})
        return
    for step in plan:
        app.render.line(f"{'would ' if dry_run else 'done: '}{step[0].lower()}{step[1:]}")
    if dry_run:
        return
    if count is not None and is_enabled:
        app.render.note("the next run of the autoscaler decides again")
    elif count is not None and is_enabled is False:
        command = app.command("rnr", "workers", "--resume")
        app.render.note(f"the autoscaler's schedule is disabled: the number stays until `{command}`")


def _autoscaler_is_enabled(app: AppContext, found: Workers) -> bool | None:
    """None if it is not known."""
    schedule = found.autoscaler
    if schedule is None:
        return None
    answer = attempt(lambda: app.event_buses.schedule(schedule.group, schedule.name))
    return answer.value.is_enabled if answer.value else None


def _show(app: AppContext, found: Workers) -> None:
    service, now = found.service, datetime.now(UTC)
    state, tasks = app.services.get(service.cluster, service.name), app.services.tasks(service.cluster, service.name)
    jobs, is_enabled = _jobs(app, service, tasks, now), _autoscaler_is_enabled(app, found)
    protected = sum(task.is_protected for task in tasks)
    if app.render.is_json:
        app.render.json(
            {
                "service": service.name,
                "desired": state.desired,
                "running": state.running,
                "pending": state.pending,
                "protected": protected,
                "autoscaler_enabled": is_enabled,
                "tasks": [
                    {
                        "id": task.task_id,
                        "status": task.status,
                        "started_at": task.started_at,
                        "protected": task.is_protected,
                        "protected_until": task.protected_until,
                        "key": jobs.get(task.task_id),
                    }
                    for task in tasks
                ],
            }
        )
        return
    counts = f"desired {state.desired}, running {state.running}, pending {state.pending}, protected {protected}"
    app.render.line(f"{service.name}: {counts}{'; the autoscaler is stopped' if is_enabled is False else ''}")
    rows = [
        (
            task.task_id,
            task.status,
            seconds((now - task.started_at).total_seconds()) if task.started_at else "unknown",
            "yes" if task.is_protected else "no",
            jobs.get(task.task_id, "unknown" if task.is_protected else "none"),
        )
        for task in tasks
    ]
    if rows:
        app.render.table({"TASK": 0, "STATUS": 0, "AGE": 2, "PROTECTED": 3, "JOB": 1}, rows)


def _jobs(app: AppContext, service: Service, tasks: Sequence[Task], now: datetime) -> dict[str, str]:
    """The key of the input that each protected task works on, as far as its log of the last hours tells."""
    busy = [task.task_id for task in tasks if task.is_protected][:_STREAMS_AT_ONCE]
    if not busy:
        return {}
    streams = [f"{service.container}/{service.container}/{task}" for task in busy]
    jobs: dict[str, str] = {}
    try:
        for event in app.log_groups.events(service.log_group, now - LOG_WINDOW, streams=streams):
            record = _record(event.message)
            line = app.stack.read_log_line(record) if record else None
            if line and line.event == _RECEIVED and line.key:
                jobs[line.request_id] = line.key
            elif line and line.event in ("done", "failed", "ignored"):
                jobs.pop(line.request_id, None)
    except RefinerctlError as error:
        app.render.warning(f"the workers' jobs are not known: {error.message}")
    return jobs


def _record(message: str) -> dict[str, object] | None:
    try:
        found = json.loads(message)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
