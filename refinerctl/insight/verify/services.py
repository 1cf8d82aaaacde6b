"""Checks of ECS services: they are steady, run what was released, may do what they need, and are scaled."""

from __future__ import annotations

from collections.abc import Iterator

from refinerctl.aws.ecs_services import ServiceState, TaskDefinition
from refinerctl.aws.service_metrics import SILENT
from refinerctl.errors import UsageError
from refinerctl.images import ImageReference
from refinerctl.insight.findings import Finding, failed, passed, skipped, warned
from refinerctl.insight.verify.checks import Section, known, present
from refinerctl.insight.verify.permissions import bucket_arn, bucket_policy, check_role
from refinerctl.insight.verify.samples import SAMPLE_NAME
from refinerctl.insight.verify.snapshot import (
    COUNTS,
    DEFINITION,
    IMAGE,
    RELEASE,
    ROLE,
    SECRET,
    SERVICE,
    Snapshot,
    name_of,
)
from refinerctl.parallel import attempt
from refinerctl.stacks.base import Service, Stage

TASKS = "ecs-tasks.amazonaws.com"
# What Fargate allows at most: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html
STOP_TIMEOUT_S = 120
DEFAULT_STOP_TIMEOUT_S = 30
_DIGEST_SHOWN = 19

SECTION = Section("Services")


def _definition(snapshot: Snapshot, service: Service) -> TaskDefinition:
    state = known(snapshot.get(SERVICE, service.cluster, service.name))
    return known(snapshot.get(DEFINITION, state.task_definition, service.container))


@SECTION.check(
    "service",
    Service,
    why="Its tasks process the messages.",
    fix="Read the service's events; run `refinerctl deploy` again, or `refinerctl rollback`.",
    details="Fails if it does not exist or its deployment failed, warns while tasks start or stop.",
)
def _service_steady(snapshot: Snapshot, service: Service) -> Finding:
    answer = snapshot.get(SERVICE, service.cluster, service.name)
    if answer.not_found:
        return failed(str(answer.error), "`refinerctl deploy` creates it.")
    state = known(answer)
    seen = f"service {service.name} is {state.status}, {state.running} of {state.desired} tasks running"
    if broken := next((item for item in state.deployments if item.rollout == "FAILED"), None):
        return failed(f"{seen}; a deployment failed: {broken.reason or _event(state)}")
    if state.status != "ACTIVE":
        return failed(seen)
    rollout = state.primary.rollout if state.primary else ""
    if rollout == "IN_PROGRESS":
        return warned(f"{seen}; its deployment is in progress: {_event(state)}")
    return passed(seen) if state.running == state.desired else warned(f"{seen}: {_event(state)}")


def _event(state: ServiceState) -> str:
    return state.events[0] if state.events else "no event"


@SECTION.check(
    "service-circuit-breaker",
    Service,
    why="Without it, ECS starts tasks of a broken image for ever, and a deployment never ends.",
)
def _circuit_breaker(snapshot: Snapshot, service: Service) -> Finding:
    state = known(snapshot.get(SERVICE, service.cluster, service.name))
    if not state.has_circuit_breaker:
        return failed(f"service {service.name} has no deployment circuit breaker")
    if not state.rolls_back:
        return warned(f"the deployment circuit breaker of {service.name} does not roll back")
    return passed(f"a deployment of {service.name} that fails is rolled back")


@SECTION.check(
    "service-stop-timeout",
    Service,
    why="A task that is killed while it returns its message delays that by the broker's time limit.",
    fix=f"Set the worker's stop timeout to {STOP_TIMEOUT_S} s, the most that Fargate allows, and deploy.",
    details=f"Warns below {STOP_TIMEOUT_S} s. Skipped in a local environment.",
)
def _stop_timeout(snapshot: Snapshot, service: Service) -> Finding:
    timeout = _definition(snapshot, service).stop_timeout_s
    if snapshot.embedded:
        return skipped("a local environment stops its tasks sooner")
    if timeout is None:
        return warned(f"tasks of {service.name} have ECS's default stop timeout, {DEFAULT_STOP_TIMEOUT_S} s")
    seen = f"tasks of {service.name} have {timeout} s to stop"
    return passed(seen) if timeout >= STOP_TIMEOUT_S else warned(seen)


@SECTION.check(
    "service-release",
    Service,
    why="Tasks must run the image that was reviewed and recorded.",
    fix="`refinerctl drift` shows what else was changed; `refinerctl deploy` restores the release.",
    details="The task definition names the image by the digest of the latest entry of the ledger of releases; skipped "
    "without an entry.",
)
def _service_release(snapshot: Snapshot, service: Service) -> Finding:
    image, release = _definition(snapshot, service).image, known(snapshot.get(RELEASE))
    stage, tag = snapshot.stage_of(service), release.tag or "without a tag"
    recorded = release.images.get(stage.name)
    if recorded is None:
        return skipped(f"release {tag} records no image of {stage.name}")
    wanted, found = recorded.partition("@")[2], image.partition("@")[2]
    if wanted == found:
        return passed(f"{service.name} runs {wanted[:_DIGEST_SHOWN]}, the image of release {tag}")
    return failed(
        f"{service.name} runs {found[:_DIGEST_SHOWN] or image}, but release {tag} has {wanted[:_DIGEST_SHOWN]}"
    )


@SECTION.check(
    "service-image",
    Service,
    why="ECS pulls the image whenever a task starts: without it the service cannot scale out. A tag may move.",
    fix="`refinerctl sync --tag TAG` copies the release's images to ECR again; `refinerctl deploy` pins them.",
    details="The image is named by digest and is in ECR. Skipped in a local environment that runs it from its folder.",
)
def _service_image(snapshot: Snapshot, service: Service) -> Finding:
    image = _definition(snapshot, service).image
    try:
        digest = ImageReference.parse(image).digest
    except UsageError as error:
        return failed(f"{service.name}: {error.message}")
    found = snapshot.get(IMAGE, image)
    if snapshot.embedded and not digest and found.error:
        return skipped(f"{service.name} runs from the image's folder on this machine")
    if not digest:
        return failed(f"{service.name} runs {image}, which is not pinned to a digest")
    return present(found, f"{image} is in ECR")


@SECTION.check(
    "task-role",
    Service,
    why="If a call is denied, every job fails, or a busy task is stopped.",
    fix="`refinerctl deploy` restores the role's policies; the owner of a bucket grants access in its policy.",
    details="Evaluates the policies of the task role and of the buckets: GetObject on inputs, PutObject on outputs and "
    "completions, GetSecretValue on the secret of the queue's broker, Get- and UpdateTaskProtection.",
)
def _task_role(snapshot: Snapshot, service: Service) -> Finding:
    definition, stage = _definition(snapshot, service), snapshot.stage_of(service)
    role = snapshot.get(ROLE, name_of(definition.task_role_arn))
    policies = [bucket_policy(snapshot, bucket) for bucket in snapshot.buckets]
    return check_role(role, TASKS, _context(snapshot, definition), list(_calls(snapshot, service, stage)), policies)


def _calls(snapshot: Snapshot, service: Service, stage: Stage) -> Iterator[tuple[str, str]]:
    if stage.prefix is not None and snapshot.bucket:
        yield "s3:GetObject", f"{bucket_arn(snapshot)}/{stage.prefix}{SAMPLE_NAME}"
    for prefix in stage.writes:
        yield "s3:PutObject", f"{bucket_arn(snapshot, stage.results or snapshot.bucket)}/{prefix}{SAMPLE_NAME}"
    if stage.queue and stage.queue.broker and stage.queue.broker.secret:
        yield "secretsmanager:GetSecretValue", known(snapshot.get(SECRET, stage.queue.broker.secret)).arn
    arn = known(snapshot.get(SERVICE, service.cluster, service.name)).arn
    task = arn.rpartition(":service/")[0] + f":task/{service.cluster}/refinerctl-verify"
    yield from ((action, task) for action in ("ecs:GetTaskProtection", "ecs:UpdateTaskProtection"))


def _context(snapshot: Snapshot, definition: TaskDefinition) -> dict[str, str]:
    region = definition.arn.split(":")[3]
    source = f"arn:{snapshot.partition}:ecs:{region}:{snapshot.account}:task/refinerctl-verify"
    return {"aws:sourcearn": source, "aws:sourceaccount": snapshot.account}


@SECTION.check(
    "execution-role",
    Service,
    why="ECS pulls the image and writes the log with this role: without it no task starts.",
    details="CreateLogStream and PutLogEvents on the log group; BatchGetImage on an image in ECR.",
)
def _execution_role(snapshot: Snapshot, service: Service) -> Finding:
    definition = _definition(snapshot, service)
    region = definition.arn.split(":")[3]
    prefix = f"arn:{snapshot.partition}:logs:{region}:{snapshot.account}:log-group:{service.log_group}"
    stream = f"{prefix}:log-stream:{service.container}/refinerctl-verify"
    calls = [("logs:CreateLogStream", stream), ("logs:PutLogEvents", stream)]
    image = attempt(lambda: ImageReference.parse(definition.image))
    if image.value and image.value.ecr:
        account, ecr_region = image.value.ecr
        repository = f"arn:{snapshot.partition}:ecr:{ecr_region}:{account}:repository/{image.value.repository}"
        calls.append(("ecr:BatchGetImage", repository))
    role = snapshot.get(ROLE, name_of(definition.execution_role_arn))
    return check_role(role, TASKS, _context(snapshot, definition), calls)


@SECTION.check(
    "autoscaler-metrics",
    Service,
    why="Who scales the service publishes its metrics each minute. Without them nobody scales it, and `status` and "
    "alarms know nothing of a private broker's queue.",
    fix="`refinerctl logs` of the autoscaler says why it fails; check its schedule and that it reaches the broker.",
    details=f"Fails if the newest metric is older than {SILENT.total_seconds() / 60:.0f} minutes.",
)
def _autoscaler_metrics(snapshot: Snapshot, service: Service) -> Finding | None:
    if not service.metric_namespace:
        return None
    counts = known(snapshot.get(COUNTS, service))
    if counts is None:
        return failed(f"no metrics of {service.name} in the last minutes")
    age = snapshot.at - counts.at
    seen = f"the newest metrics of {service.name} are {max(age.total_seconds(), 0) / 60:.0f} minutes old"
    return passed(seen) if age <= SILENT else failed(seen)
