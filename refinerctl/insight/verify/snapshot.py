"""The state of a pipeline's components in AWS: each kind has its questions, and answers lead to further ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from refinerctl.aws.alarms import Alarm, Topic, is_topic
from refinerctl.aws.ecs_services import ServiceState, TaskDefinition
from refinerctl.aws.elasticache import CacheSettings, cache_settings
from refinerctl.aws.events import BusSettings, RuleSettings, RuleTarget, ScheduleSettings
from refinerctl.aws.iam import KmsKey, Role, kms_key
from refinerctl.aws.lambda_ import Concurrency, FunctionConfiguration, SourceMapping
from refinerctl.aws.logs import LogGroupSettings
from refinerctl.aws.mq import BrokerSettings, broker_settings
from refinerctl.aws.policies import Policy
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.secrets import INITIAL, SecretState
from refinerctl.aws.security_groups import SecurityGroup, security_group
from refinerctl.aws.service_metrics import ServiceCounts, read_counts
from refinerctl.aws.sqs import QueueState
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference
from refinerctl.inputs.completions import Completions
from refinerctl.inputs.listing import InputCount, count_incomplete
from refinerctl.ledger.entries import Release, deployed
from refinerctl.parallel import Answer, attempt, both, concurrently
from refinerctl.stacks.base import (
    Broker,
    Bucket,
    Cache,
    Component,
    EventBus,
    EventRule,
    Function,
    Pipeline,
    Queue,
    Schedule,
    Service,
    Stage,
)

if TYPE_CHECKING:
    from refinerctl.app import AppContext

THREADS = 32
# IAM throttles at a low rate: at 20 calls/s, 32 roles at once lose 19 of 50 to throttling, 8 at once lose none.
ROLES_AT_ONCE = 8
# Calls to count the incomplete inputs of a stage: some 20,000 inputs with their completions.
INPUT_PAGES = 40
# To connect to a broker, which has no route from most places.
ROUTE_TIMEOUT_S = 3.0

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Question(Generic[Found]):
    """What can be asked about a thing: `ask` gets the app and the thing's names."""

    ask: Callable[..., Found]


Asked: TypeAlias = tuple[Any, ...]  # a question, and what it is about: names, or a stage

BUCKET: Question[None] = Question(lambda app, name: S3Bucket(app.session, name).check())
BUCKET_EVENTS: Question[bool] = Question(lambda app, name: S3Bucket(app.session, name).sends_events())
BUCKET_POLICY: Question[Policy] = Question(lambda app, name: S3Bucket(app.session, name).policy())
BUCKET_KEY: Question[str | None] = Question(lambda app, name: S3Bucket(app.session, name).kms_key())
BUS: Question[BusSettings] = Question(lambda app, name: app.event_buses.bus(name))
RULES: Question[tuple[RuleSettings, ...]] = Question(lambda app, bus: app.event_buses.rules(bus))
TARGETS: Question[tuple[RuleTarget, ...]] = Question(lambda app, bus, rule: app.event_buses.targets(bus, rule))
SENDERS: Question[frozenset[str]] = Question(lambda app, bus, arn: app.event_buses.senders(bus, arn))
SCHEDULE: Question[ScheduleSettings] = Question(lambda app, group, name: app.event_buses.schedule(group, name))
QUEUE: Question[QueueState] = Question(lambda app, name: app.queues.state(name))
FUNCTION: Question[FunctionConfiguration] = Question(lambda app, name: app.functions.get(name))
MAPPINGS: Question[tuple[SourceMapping, ...]] = Question(lambda app, function: app.functions.mappings(function))
LOG_GROUP: Question[LogGroupSettings] = Question(lambda app, name: app.log_groups.settings(name))
ROLE: Question[Role] = Question(lambda app, name: app.roles.get(name))
IMAGE: Question[str] = Question(lambda app, uri: app.ecr.find(ImageReference.parse(uri)))
KEY: Question[KmsKey] = Question(lambda app, key_id: kms_key(app.session, key_id))
ALARMS: Question[tuple[Alarm, ...]] = Question(lambda app, prefix: app.alarms.find(prefix))
TOPIC: Question[Topic] = Question(lambda app, arn: app.alarms.topic(arn))
CONCURRENCY: Question[Concurrency] = Question(lambda app: app.functions.concurrency())
INPUTS: Question[InputCount | None] = Question(lambda app, bucket, stage: _count_inputs(app, bucket, stage))
RELEASE: Question[Release] = Question(lambda app: _deployed_release(app))
FAILURES: Question[str | None] = Question(lambda app, function: app.functions.failure_destination(function))
BROKER: Question[BrokerSettings] = Question(lambda app, name: broker_settings(app.session, name))
CACHE: Question[CacheSettings] = Question(lambda app, name: cache_settings(app.session, name))
SECRET: Question[SecretState] = Question(lambda app, name: app.secrets.state(name))
STATE_LOGIN: Question[bool] = Question(lambda app, broker: _accepts_first_password(app, broker))
SECURITY_GROUP: Question[SecurityGroup] = Question(lambda app, name: security_group(app.session, name))
SERVICE: Question[ServiceState] = Question(lambda app, cluster, name: app.services.get(cluster, name))
DEFINITION: Question[TaskDefinition] = Question(lambda app, arn, container: app.services.definition(arn, container))
COUNTS: Question[ServiceCounts | None] = Question(
    lambda app, service: read_counts(app.metrics, service, datetime.now(UTC))
)


def _accepts_first_password(app: AppContext, broker: Broker) -> bool:
    """Whether the broker accepts the password of the secret's first version, which Terraform's state contains."""
    from refinerctl.rabbitmq.management import Management

    version = app.secrets.state(broker.secret).stages.get(INITIAL)
    if version is None:
        raise NotFoundError(f"no version of secret {broker.secret} has stage {INITIAL}")
    username, password = app.secrets.texts(broker.secret, "username", "password", version=version)
    endpoint = replace(app.broker(broker).endpoint, username=username, password=password)
    # Without a route to the broker, the other checks are not to wait for long.
    return Management(endpoint, connect_timeout_s=ROUTE_TIMEOUT_S, retries=0).accepts_login()


def _deployed_release(app: AppContext) -> Release:
    if (found := deployed(app.ledger.read())) is None:
        raise NotFoundError("no deployment is recorded")
    return found


def _count_inputs(app: AppContext, bucket: str, stage: Stage) -> InputCount | None:
    """None if the stack has no completions."""
    if app.stack.storage is None or app.stack.completion_keys is None:
        return None
    pipeline, inputs = Pipeline(stage.name, (stage,)), S3Bucket(app.session, bucket)
    results = S3Bucket(app.session, stage.results or bucket)
    completions = Completions(inputs, app.storage, app.stack, pipeline, results=results)
    return count_incomplete(completions, stage.prefix or "", datetime.now(UTC), INPUT_PAGES)


def _about(component: Component) -> tuple[Asked, ...]:
    """The questions about a component of a kind."""
    match component:
        case Bucket(name):
            return (BUCKET, name), (BUCKET_EVENTS, name), (BUCKET_POLICY, name), (BUCKET_KEY, name)
        case EventBus(name):
            return (BUS, name), (RULES, name)
        case EventRule(name, bus):
            return ((TARGETS, bus, name),)
        case Schedule(name, group):
            return ((SCHEDULE, group, name),)
        case Queue(name, _, None):
            return ((QUEUE, name),)
        case Function(name):
            of_dlq = ((FAILURES, name),) if component.dlq else ()
            group = component.log_group
            return (FUNCTION, name), (MAPPINGS, name), (LOG_GROUP, group), (CONCURRENCY,), (RELEASE,), *of_dlq
        case Queue():
            return ()
        case Broker(name, secret) | Cache(name, secret):
            is_broker = isinstance(component, Broker)
            own = ((BROKER, name), (STATE_LOGIN, component)) if is_broker else ((CACHE, name),)
            return *own, (SECRET, secret)
        case Service(name, cluster):
            return (SERVICE, cluster, name), (COUNTS, component), (LOG_GROUP, component.log_group), (RELEASE,)


def _led_to(value: object) -> Iterator[Asked]:
    """The questions that an answer leads to: what it names."""
    match value:
        case TaskDefinition():
            yield IMAGE, value.image
            yield from ((ROLE, name_of(arn)) for arn in (value.task_role_arn, value.execution_role_arn) if arn)
        case FunctionConfiguration():
            yield ROLE, value.role_name
            yield IMAGE, value.running_image
        case QueueState(dlq_arn=str(arn)):
            yield QUEUE, name_of(arn)
        case RuleTarget() | ScheduleSettings():
            if value.dlq_arn:
                yield QUEUE, name_of(value.dlq_arn)
            if value.role_arn:
                yield ROLE, name_of(value.role_arn)
        case Alarm():
            yield from ((TOPIC, arn) for arn in value.actions if is_topic(arn))
        case tuple():
            for item in value:
                yield from _led_to(item)
    yield from _uses(value)


def _uses(value: object) -> Iterator[Asked]:
    """The security groups and the key that it uses."""
    if isinstance(value, FunctionConfiguration | ServiceState | BrokerSettings | CacheSettings):
        yield from ((SECURITY_GROUP, group) for group in value.security_groups)
    encrypted = QueueState | BusSettings | FunctionConfiguration | LogGroupSettings
    if isinstance(value, encrypted) and value.kms_key:
        yield KEY, value.kms_key


def _about_reads(stage: Stage) -> Iterator[Asked]:
    for bucket, _ in stage.read_places:
        yield from ((question, bucket) for question in (BUCKET, BUCKET_POLICY, BUCKET_KEY))
    yield from ((KEY, key) for key in stage.read_keys)


def name_of(arn: str) -> str:
    """The name at the end of an ARN."""
    return arn.rpartition(":")[2].rpartition("/")[2]


@dataclass(frozen=True)
class Snapshot:
    """A pipeline as AWS has it: the answers by what was asked."""

    pipeline: Pipeline
    account: str
    partition: str
    answers: Mapping[Asked, Answer[Any]] = field(default_factory=dict)
    embedded: bool = False
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def get(self, question: Question[Found], *names: str | Stage | Broker | Service) -> Answer[Found]:
        """The answer to a question; an error if it was not asked."""
        what = " ".join(name if isinstance(name, str) else name.name for name in names)
        return self.answers.get((question, *names)) or Answer(error=RefinerctlError(f"{what} was not read"))

    def answered(self, question: Question[Found]) -> Mapping[tuple[str, ...], Found]:
        """What was found for a question, by names; without errors."""
        return {
            asked[1:]: answer.value  # type: ignore[misc]  # without an error it is what was found
            for asked, answer in self.answers.items()
            if asked[0] is question and answer.error is None
        }

    def rule(self, rule: EventRule) -> Answer[RuleSettings]:
        bus = self.get(BUS, rule.bus)
        if bus.not_found:  # that is reported once, not again for each of its rules
            return Answer(error=RefinerctlError(str(bus.error)))
        rules = self.get(RULES, rule.bus)
        if rules.error:
            return Answer(error=rules.error)
        found = next((item for item in rules.value or () if item.name == rule.name), None)
        missing = NotFoundError(f"rule {rule.name} does not exist on event bus {rule.bus}")
        return Answer(found) if found else Answer(error=missing)

    def settings(self, component: Component) -> Answer[Any]:
        """How a component is configured: what its kind's first question asks for."""
        if isinstance(component, Queue) and component.broker:
            return Answer(error=RefinerctlError(f"queue {component.name} is on broker {component.broker.name}"))
        return self.rule(component) if isinstance(component, EventRule) else self.get(*_about(component)[0])

    def arn(self, component: Component | None) -> str | None:
        """None if it is not known."""
        return getattr(self.settings(component).value, "arn", None) if component else None

    def stage_of(self, consumer: Function | Service) -> Stage:
        """The consumer's stage; for a shared function one of itself alone."""
        alone = Stage(consumer.name, consumer=consumer)
        return next((stage for stage in self.pipeline.stages if stage.consumer == consumer), alone)

    @property
    def bucket(self) -> str | None:
        """The name of the pipeline's bucket; None for a pipeline without one."""
        return self.pipeline.bucket

    @property
    def buckets(self) -> tuple[str, ...]:
        """The names of all of its buckets."""
        return tuple(bucket.name for bucket in self.pipeline.by_kind(Bucket))

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The key prefixes of the stages that objects start."""
        return tuple(stage.prefix for stage in self.pipeline.stages if stage.prefix is not None)

    @property
    def region(self) -> str:
        """Where the pipeline's event buses are; empty if they are not known."""
        return next((bus.arn.split(":")[3] for bus in self.answered(BUS).values()), "")


def take_snapshot(app: AppContext, pipeline: Pipeline) -> Snapshot:
    """Ask until no answer leads to a new question.

    Raises RefinerctlError if the credentials or the network do not work; what is denied is an answer with an error.
    """
    caller = app.session.caller()
    # Saves one call for each queue that is found here.
    app.queues.find(f"{pipeline.name_prefix}-")
    answers: dict[Asked, Answer[Any]] = {}
    snapshot = Snapshot(pipeline, caller.split(":")[4], caller.split(":")[1], answers, app.settings.embedded)
    while new := [asked for asked in dict.fromkeys(_questions(snapshot)) if asked not in answers]:
        # Functions alone first: their roles take longest, and are then read at the same time as all else.
        wave = [asked for asked in new if asked[0] is FUNCTION] or new
        roles = [asked for asked in wave if asked[0] is ROLE]
        others = [asked for asked in wave if asked[0] is not ROLE]
        of_roles, of_others = both(partial(_ask, app, roles, ROLES_AT_ONCE), partial(_ask, app, others, THREADS))
        answers.update(zip([*roles, *others], [*of_roles, *of_others], strict=True))
    return snapshot


def _questions(snapshot: Snapshot) -> Iterator[Asked]:
    """All questions, as far as the answers so far lead to them."""
    pipeline = snapshot.pipeline
    for component in pipeline.components:
        yield from _about(component)
    for stage in pipeline.stages:
        yield from _about_reads(stage)
    yield ALARMS, pipeline.name_prefix
    for answer in list(snapshot.answers.values()):
        yield from _led_to(answer.value)
    for key in snapshot.answered(BUCKET_KEY).values():
        if key:
            yield KEY, key
    for stage in pipeline.stages:  # after its queues: what is processed meanwhile is not missing in both
        is_counted = all((QUEUE, queue.name) in snapshot.answers for queue in stage.sqs_queues)
        if stage.consumer and stage.prefix and snapshot.bucket and is_counted:
            yield INPUTS, snapshot.bucket, stage
    yield from _definitions(snapshot)
    for source, target in pipeline.edges:  # which other rules send to it?
        if isinstance(source, EventRule) and target != source.dlq and (arn := snapshot.arn(target)):
            yield SENDERS, source.bus, arn


def _definitions(snapshot: Snapshot) -> Iterator[Asked]:
    for service in snapshot.pipeline.by_kind(Service):
        if state := snapshot.get(SERVICE, service.cluster, service.name).value:
            yield DEFINITION, state.task_definition, service.container


def _ask(app: AppContext, asked: list[Asked], threads: int) -> list[Answer[Any]]:
    return concurrently([partial(attempt, partial(question.ask, app, *names)) for question, *names in asked], threads)
