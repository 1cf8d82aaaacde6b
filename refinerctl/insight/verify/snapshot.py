"""Asks AWS for everything that the checks look at: all at once, and what depends on an answer right after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from refinerctl.aws.events import BusSettings, RuleSettings, RuleTarget
from refinerctl.aws.iam import Role
from refinerctl.aws.lambda_ import FunctionConfiguration, SourceMapping
from refinerctl.aws.log_settings import LogGroupSettings
from refinerctl.aws.sqs import QueueSettings
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference
from refinerctl.insight.verify.answers import Absent, Answer, Unread
from refinerctl.insight.verify.framework import DEFAULT_BUS, name_of
from refinerctl.insight.verify.types import PipelineParts, RulesetParts, RulesetSnapshot, Snapshot

if TYPE_CHECKING:
    from refinerctl.aws.bucket_settings import BucketSettings
    from refinerctl.aws.ecr import EcrRegistry
    from refinerctl.aws.events import EventBuses
    from refinerctl.aws.iam import Roles
    from refinerctl.aws.kms import Keys
    from refinerctl.aws.lambda_ import Functions
    from refinerctl.aws.log_settings import LogSettings
    from refinerctl.aws.sqs import Queues
    from refinerctl.releases.model import Release

THREADS = 32
# IAM throttles early, and who is throttled too often gives up: at 20 calls/s 32 at once lose 19 roles of 50, 8 none.
ROLES_AT_ONCE = 8

Known = TypeVar("Known")


@dataclass(frozen=True)
class Sources:
    """The clients that are asked. `caller` is the ARN of whoever asks; `release` the one that is in place, if any."""

    caller: Callable[[], str]
    bucket: Callable[[str], BucketSettings]
    buses: EventBuses
    queues: Queues
    functions: Functions
    roles: Roles
    logs: LogSettings
    ecr: EcrRegistry
    keys: Keys
    release: Callable[[], Release | None]
    embedded: bool = False


def answer(read: Callable[[], Known]) -> Answer[Known]:
    """What `read` gives, that it is not there, or why it could not be read."""
    try:
        return read()
    except NotFoundError as error:
        return Absent(error.message)
    except RefinerctlError as error:
        return Unread(error.message)


def take_snapshot(sources: Sources, names: PipelineParts) -> Snapshot:
    """Raises RefinerctlError if the credentials or the network will not do; what is denied is Unread."""
    caller = sources.caller()
    # A call less for each queue: they are all called like this one.
    sources.queues.find(names.forward_dlq.removesuffix("forward-delivery-dlq"))
    with (
        ThreadPoolExecutor(THREADS, thread_name_prefix="verify") as pool,
        ThreadPoolExecutor(ROLES_AT_ONCE, thread_name_prefix="verify-roles") as roles,
    ):
        try:
            first = _first_look(pool, roles, sources, names, caller)
            return _second_look(pool, sources, first)
        except BaseException:
            for threads in (pool, roles):
                threads.shutdown(wait=False, cancel_futures=True)
            raise


def _first_look(
    pool: ThreadPoolExecutor, roles: ThreadPoolExecutor, sources: Sources, names: PipelineParts, caller: str
) -> Snapshot:
    def ask(read: Callable[[], Known]) -> Future[Answer[Known]]:
        return pool.submit(answer, read)

    rules = {bus: ask(partial(sources.buses.rules, bus)) for bus in (DEFAULT_BUS, names.bus)}
    rulesets = [_ask_ruleset(pool, roles, sources, names.bus, item) for item in names.rulesets]
    forward = pool.submit(_forward, sources, names)
    settings = sources.bucket(names.bucket)
    bucket = ask(partial(_bucket, settings))
    sends_events = ask(settings.sends_events)
    policy = ask(settings.policy)
    key = ask(settings.kms_key)
    bus = ask(partial(sources.buses.bus, names.bus))
    forward_dlq = ask(partial(sources.queues.settings, names.forward_dlq))
    concurrency = ask(sources.functions.concurrency)
    release = ask(partial(_release, sources))
    on_default, found_bus = rules[DEFAULT_BUS].result(), bus.result()
    # That there is no bus is said once, not once more by each of its rules.
    on_bus = Unread(found_bus.reason) if isinstance(found_bus, Absent) else rules[names.bus].result()
    targets, role = forward.result()
    return Snapshot(
        names=names,
        account=caller.split(":")[4],
        partition=caller.split(":")[1],
        bucket=bucket.result(),
        sends_events=sends_events.result(),
        bucket_policy=policy.result(),
        bucket_key=key.result(),
        bus=found_bus,
        forward_rule=_named(on_default, names.forward_rule, DEFAULT_BUS),
        forward_targets=targets,
        forward_role=role,
        forward_dlq=forward_dlq.result(),
        rulesets=tuple(collect(_named(on_bus, collect.names.rule, names.bus)) for collect in rulesets),
        concurrency=concurrency.result(),
        release=release.result(),
        rules={bus: found.result() for bus, found in rules.items()},
        embedded=sources.embedded,
    )


def _bucket(settings: BucketSettings) -> str:
    settings.check()
    return settings.name


def _release(sources: Sources) -> Release:
    found = sources.release()
    if found is None:
        raise NotFoundError("no deployment has been recorded")
    return found


def _forward(sources: Sources, names: PipelineParts) -> tuple[Answer[tuple[RuleTarget, ...]], Answer[Role]]:
    targets = answer(partial(sources.buses.targets, DEFAULT_BUS, names.forward_rule))
    arn = next((target.role_arn for target in targets if target.role_arn), None) if isinstance(targets, tuple) else None
    if arn is None:
        return targets, Unread("the forward rule names no role")
    return targets, answer(partial(sources.roles.get, arn.rpartition("/")[2]))


def _named(rules: Answer[tuple[RuleSettings, ...]], name: str, bus: str) -> Answer[RuleSettings]:
    if isinstance(rules, Absent | Unread):
        return rules
    return next((rule for rule in rules if rule.name == name), Absent(f"there is no rule {name} on event bus {bus}"))


@dataclass(frozen=True)
class _AskedRuleset:
    """A ruleset whose parts are being asked for; called with its rule, it waits for them."""

    names: RulesetParts
    targets: Future[Answer[tuple[RuleTarget, ...]]]
    queue: Future[Answer[QueueSettings]]
    dlq: Future[Answer[QueueSettings]]
    delivery_dlq: Future[Answer[QueueSettings]]
    function: Future[_FunctionParts] | None = None
    mappings: Future[Answer[tuple[SourceMapping, ...]]] | None = None
    log_group: Future[Answer[LogGroupSettings]] | None = None

    def __call__(self, rule: Answer[RuleSettings]) -> RulesetSnapshot:
        function, role, image = self.function.result() if self.function else (None, lambda: None, None)
        return RulesetSnapshot(
            self.names,
            rule=rule,
            targets=self.targets.result(),
            queue=self.queue.result(),
            dlq=self.dlq.result(),
            delivery_dlq=self.delivery_dlq.result(),
            function=function,
            role=role(),
            image=image,
            mappings=self.mappings.result() if self.mappings else None,
            log_group=self.log_group.result() if self.log_group else None,
        )


# A role is waited for when it is asked for.
_FunctionParts = tuple[Answer[FunctionConfiguration], Callable[[], Answer[Role]], Answer[str]]


def _ask_ruleset(
    pool: ThreadPoolExecutor, roles: ThreadPoolExecutor, sources: Sources, bus: str, names: RulesetParts
) -> _AskedRuleset:
    function, group = names.function, names.log_group
    return _AskedRuleset(
        names,
        # The longest way first: its role and its image come after it.
        function=pool.submit(_function, sources, roles, function) if function else None,
        targets=pool.submit(answer, partial(sources.buses.targets, bus, names.rule)),
        queue=pool.submit(answer, partial(sources.queues.settings, names.queue)),
        dlq=pool.submit(answer, partial(sources.queues.settings, names.dlq)),
        delivery_dlq=pool.submit(answer, partial(sources.queues.settings, names.delivery_dlq)),
        mappings=pool.submit(answer, partial(sources.functions.mappings, function)) if function else None,
        log_group=pool.submit(answer, partial(sources.logs.get, group)) if group else None,
    )


def _function(sources: Sources, roles: ThreadPoolExecutor, name: str) -> _FunctionParts:
    function = answer(partial(sources.functions.get, name))
    if isinstance(function, Absent | Unread):
        unread = Unread(function.reason)
        return function, lambda: unread, unread
    role = roles.submit(answer, partial(sources.roles.get, function.role_name))
    return function, role.result, answer(partial(_image, sources, function.running_image))


def _image(sources: Sources, uri: str) -> str:
    return sources.ecr.find(ImageReference.parse(uri))


def _second_look(pool: ThreadPoolExecutor, sources: Sources, first: Snapshot) -> Snapshot:
    """The queues that others name, the keys, and whoever else sends to where it should come from one rule only."""
    read = {queue.arn: queue for queue in _queues(first)}
    named = {arn: pool.submit(answer, partial(sources.queues.settings, name_of(arn))) for arn in _named_queues(first)}
    keys = {key: pool.submit(answer, partial(sources.keys.get, key)) for key in _key_ids(first)}
    wanted = {item.queue.arn: first.names.bus for item in first.rulesets if isinstance(item.queue, QueueSettings)}
    if isinstance(first.bus, BusSettings):
        wanted[first.bus.arn] = DEFAULT_BUS
    senders = {arn: pool.submit(answer, partial(sources.buses.senders, bus, arn)) for arn, bus in wanted.items()}
    return replace(
        first,
        queues=read | {arn: found.result() for arn, found in named.items()},
        keys={key: found.result() for key, found in keys.items()},
        senders={arn: found.result() for arn, found in senders.items()},
    )


def _queues(snapshot: Snapshot) -> Iterator[QueueSettings]:
    answers = [snapshot.forward_dlq]
    for ruleset in snapshot.rulesets:
        answers += [ruleset.queue, ruleset.dlq, ruleset.delivery_dlq]
    yield from (item for item in answers if isinstance(item, QueueSettings))


def _named_queues(snapshot: Snapshot) -> set[str]:
    read = {queue.arn for queue in _queues(snapshot)}
    targets = [snapshot.forward_targets, *(ruleset.targets for ruleset in snapshot.rulesets)]
    arns = {target.dlq_arn for found in targets if isinstance(found, tuple) for target in found}
    arns |= {queue.dlq_arn for queue in _queues(snapshot)}
    return {arn for arn in arns if arn is not None and arn not in read}


def _key_ids(snapshot: Snapshot) -> set[str]:
    users: list[object] = [*_queues(snapshot), snapshot.bus]
    for ruleset in snapshot.rulesets:
        users += [ruleset.function, ruleset.log_group]
    used = {
        item.kms_key
        for item in users
        if isinstance(item, QueueSettings | BusSettings | FunctionConfiguration | LogGroupSettings)
    }
    bucket = snapshot.bucket_key
    return {key for key in (*used, bucket if isinstance(bucket, str) else None) if key}
