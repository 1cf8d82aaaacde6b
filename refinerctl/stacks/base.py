"""A stack as data: components by kind, the stages that they form, and how to read the stack's data.

Everything here is pure. A third stack is one module like `stacks/refiner.py`, one root module and its images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, NamedTuple, TypeAlias, TypeVar

from refinerctl.errors import UsageError, known_names
from refinerctl.images import ImageReference, Platform, RunsOn
from refinerctl.stacks.records import ReadLogLine, RecordEvent


@dataclass(frozen=True)
class Bucket:
    """An S3 bucket."""

    name: str


@dataclass(frozen=True)
class EventBus:
    """An EventBridge event bus."""

    name: str


@dataclass(frozen=True)
class Broker:
    """An Amazon MQ broker for RabbitMQ; `secret` names the secret with its credentials."""

    name: str
    secret: str = ""


@dataclass(frozen=True)
class Cache:
    """An ElastiCache replication group; `secret` names the secret with its token."""

    name: str
    secret: str = ""


@dataclass(frozen=True)
class Queue:
    """A queue of SQS or, with `broker`, of RabbitMQ; `dlq` takes the messages that its consumer could not process.

    `delivery_limit`: a message is delivered that many times again before RabbitMQ moves it to the DLQ.
    """

    name: str
    dlq: Queue | None = None
    broker: Broker | None = None
    delivery_limit: int | None = None


@dataclass(frozen=True)
class EventRule:
    """An EventBridge rule: objects with key prefix `prefix` on `bus`; `dlq` takes events that it could not deliver."""

    name: str
    bus: str
    prefix: str = ""
    dlq: Queue | None = None


@dataclass(frozen=True)
class Schedule:
    """An EventBridge Scheduler schedule; `dlq` takes invocations that it could not deliver."""

    name: str
    group: str = "default"
    dlq: Queue | None = None


@dataclass(frozen=True)
class Function:
    """A Lambda function that runs an image; `dlq` takes the asynchronous invocations that failed."""

    name: str
    dlq: Queue | None = None

    @property
    def log_group(self) -> str:
        return f"/aws/lambda/{self.name}"


@dataclass(frozen=True)
class Service:
    """An ECS service on Fargate whose tasks run an image, each in a container called `container`.

    `metric_namespace` has the metrics of its queue and tasks that its autoscaler publishes.
    """

    name: str
    cluster: str
    log_group: str
    container: str = "worker"
    metric_namespace: str = ""


Component: TypeAlias = Bucket | EventBus | Broker | Cache | Queue | EventRule | Schedule | Function | Service
Kind = TypeVar("Kind", Bucket, EventBus, Broker, Cache, Queue, EventRule, Schedule, Function, Service)


class CompletionPlace(NamedTuple):
    """Where the completions of a function's inputs are: `prefix`, the input's name below its own prefix, `suffix`."""

    prefix: str
    suffix: str

    def __str__(self) -> str:
        return f"{self.prefix}…{self.suffix}"

    def holds(self, key: str) -> bool:
        """Whether the key is below its prefix."""
        return key.startswith(self.prefix)

    def overlaps(self, other: CompletionPlace) -> bool:
        """Whether a key can be of both: one is below the other one, and one suffix ends in the other one.

        Equal prefixes overlap in any case: an image that appends no suffix could not be told from another one.
        """
        if self.prefix == other.prefix:
            return True
        same_end = self.suffix.endswith(other.suffix) or other.suffix.endswith(self.suffix)
        return same_end and (self.holds(other.prefix) or other.holds(self.prefix))


@dataclass(frozen=True)
class Stage:
    """A part of a pipeline that works on its own: what starts it, the queue in between, what consumes that.

    What a stage does not have is None. `name` is what operators call it, in stack `refiner` the ruleset's name.
    `input_prefix` is the key prefix of its inputs if no event rule starts it.
    `writes` are the key prefixes below which its consumer writes objects, in bucket `results` if that is not the
    pipeline's; `completions` is the place of its completions. `reads` is what it reads besides its inputs, each as
    `s3://bucket/prefix`, `read_keys` are the ARNs of the KMS keys of these objects; `lists` are buckets whose keys it
    only lists. `recorded` are ARNs and ids as Terraform's outputs have them, by the output's name.
    """

    name: str
    source: EventRule | Schedule | None = None
    queue: Queue | None = None
    consumer: Function | Service | None = None
    input_prefix: str | None = None
    writes: tuple[str, ...] = ()
    completions: CompletionPlace | None = None
    reads: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    read_keys: tuple[str, ...] = ()
    recorded: Mapping[str, str] = field(default_factory=dict, compare=False)
    results: str | None = None

    @property
    def read_places(self) -> tuple[tuple[str, str], ...]:
        """Bucket and prefix of each of `reads`."""
        return tuple((bucket, prefix) for bucket, _, prefix in (uri[5:].partition("/") for uri in self.reads))

    @property
    def prefix(self) -> str | None:
        """The key prefix of its inputs; None if no object starts it."""
        return self.source.prefix if isinstance(self.source, EventRule) else self.input_prefix

    @property
    def function(self) -> Function | None:
        """Its consumer, if that is a function."""
        return self.consumer if isinstance(self.consumer, Function) else None

    @property
    def service(self) -> Service | None:
        """Its consumer, if that is a service."""
        return self.consumer if isinstance(self.consumer, Service) else None

    @property
    def dlq(self) -> Queue | None:
        """Takes what its consumer could not process."""
        if self.queue:
            return self.queue.dlq
        return self.function.dlq if self.function else None

    @property
    def delivery_dlq(self) -> Queue | None:
        """Takes what its source could not deliver."""
        return self.source.dlq if self.source else None

    @property
    def queues(self) -> tuple[Queue, ...]:
        """Its queue, its DLQ, and its source's DLQ, of SQS and of RabbitMQ."""
        return tuple(queue for queue in (self.queue, self.dlq, self.delivery_dlq) if queue is not None)

    @property
    def sqs_queues(self) -> tuple[Queue, ...]:
        """Those of its queues that SQS has."""
        return tuple(queue for queue in self.queues if queue.broker is None)

    @property
    def components(self) -> tuple[Component, ...]:
        """In the direction of the data, DLQs last."""
        found = (self.source, self.queue, self.consumer, *(queue for queue in self.queues if queue != self.queue))
        return tuple(item for item in found if item is not None)

    @property
    def edges(self) -> tuple[tuple[Component, Component], ...]:
        """The pairs of connected components, in the direction of the data, DLQs included."""
        way = [item for item in (self.source, self.queue, self.consumer) if item is not None]
        edges: list[tuple[Component, Component]] = list(pairwise(way))
        if self.source and self.source.dlq:
            edges.append((self.source, self.source.dlq))
        if (sender := self.queue or self.function) and self.dlq:
            edges.append((sender, self.dlq))
        return tuple(edges)


@dataclass(frozen=True)
class Pipeline:
    """A stack's components: those that all stages share, and the stages. `told_by` says where the names come from.

    `edges` are between shared components, and from them to stages' sources.
    """

    name_prefix: str
    stages: tuple[Stage, ...]
    shared: tuple[Component, ...] = ()
    shared_edges: tuple[tuple[Component, Component], ...] = ()
    told_by: str = ""
    recorded: Mapping[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """Each once."""
        found = [*self.shared, *(item for stage in self.stages for item in stage.components)]
        return tuple(dict.fromkeys(found))

    @cached_property
    def edges(self) -> tuple[tuple[Component, Component], ...]:
        return (*self.shared_edges, *(edge for stage in self.stages for edge in stage.edges))

    @property
    def bucket(self) -> str | None:
        """The name of its bucket, that of the inputs if there are several; None without one."""
        return next((bucket.name for bucket in self.by_kind(Bucket)), None)

    def by_kind(self, kind: type[Kind]) -> Iterator[Kind]:
        return (item for item in self.components if isinstance(item, kind))

    def upstream_of(self, component: Component) -> tuple[Component, ...]:
        return tuple(source for source, target in self.edges if target == component)

    def downstream_of(self, component: Component) -> tuple[Component, ...]:
        return tuple(target for source, target in self.edges if source == component)

    def stage_for(self, key: str) -> Stage | None:
        """The stage that receives object `key`: if there are several, the one with the longest prefix."""
        matching = [stage for stage in self.stages if stage.prefix is not None and key.startswith(stage.prefix)]
        return max(matching, key=lambda stage: len(stage.prefix or ""), default=None)

    def find_stage(self, text: str) -> Stage | None:
        """The stage of this name, of this prefix (with or without outer slashes), or with a component of this name."""
        bare = text.strip("/")
        by_name = (stage for stage in self.stages if stage.name == text)
        by_prefix = (stage for stage in self.stages if stage.prefix and stage.prefix.strip("/") == bare)
        by_component = (stage for stage in self.stages if text in {item.name for item in stage.components})
        return next(chain(by_name, by_prefix, by_component), None)

    def find_queue(self, text: str, *, is_dlq: bool = True) -> Queue | None:
        """The queue of this name, with or without the stack's prefix, or of this stage: its DLQ if `is_dlq`."""
        named = {queue.name: queue for queue in self.by_kind(Queue)}
        if text not in named and (stage := self.find_stage(text)) is not None:
            return stage.dlq if is_dlq else stage.queue
        return named.get(text) or named.get(f"{self.name_prefix}-{text}")

    def choose(self, names: tuple[str, ...]) -> tuple[Stage, ...]:
        """The stages that `find_stage` finds by these names, or all. Raises UsageError for an unknown name."""
        found = {name: self.find_stage(name) for name in names}
        if unknown := [name for name, stage in found.items() if stage is None]:
            hint = known_names(unknown[0], (stage.name for stage in self.stages), "Stages")
            raise UsageError(f"unknown stage {', '.join(unknown)}", hint=hint)
        return tuple(dict.fromkeys(stage for stage in found.values() if stage)) or self.stages


@dataclass(frozen=True)
class Storage:
    """The location of a stack's data in S3. Prefixes have no leading slash and end in one.

    `output_bucket` has the outputs and completions, if not `bucket`. Merged outputs are below `merged_prefix`.
    """

    bucket: str
    input_prefix: str
    output_prefix: str
    complete_prefix: str
    output_bucket: str | None = None
    merged_prefix: str | None = None

    @property
    def result_bucket(self) -> str:
        """The bucket of the outputs and completions."""
        return self.output_bucket or self.bucket


class CompletionStatus(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    MALFORMED = "malformed"


@dataclass(frozen=True)
class CompletionDocument:
    """The content of a completion object."""

    status: CompletionStatus
    output_keys: tuple[str, ...] = ()
    error: str | None = None


class InputObject(NamedTuple):
    """A version of an input; `etag` has no quotation marks."""

    bucket: str
    key: str
    version_id: str | None
    etag: str
    size: int


@dataclass(frozen=True)
class InputMessage:
    """A message of RabbitMQ about an input."""

    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StageImage:
    """The image that a stage's consumer runs, as the environment's values name it."""

    stage: str
    reference: ImageReference
    platform: Platform
    runs_on: RunsOn = RunsOn.LAMBDA


Values: TypeAlias = Mapping[str, Any]
WriteInputMessage: TypeAlias = Callable[[InputObject, datetime], InputMessage]


@dataclass(frozen=True)
class Stack:
    """A stack. No code outside of `refinerctl/stacks/` depends on its name.

    `settings` are the keys of [stacks.<name>] in refinerctl.toml with their defaults. `values` are an environment's
    tfvars over the defaults of the root module's variables; `outputs` are Terraform's, by name.
    `completion_keys` are the keys under which the completion of an input may appear.
    `read_log_line` reads a JSON line of an image's log; `log_terms` is a text that all lines of an event hold.
    `input_message` makes the message that a stage's queue on a broker takes about an input, published at that time.
    `merged_completions` reads the keys of the completions that a manifest of merged outputs lists.
    `checks` name the modules of the checks that only this stack has, `demo` the module of its demo. `needs` are stacks
    to apply before this one.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    storage: Callable[[Mapping[str, str]], Storage] | None = None
    pipeline: Callable[[Mapping[str, str], Values], Pipeline] | None = None
    pipeline_of_outputs: Callable[[Values], Pipeline] | None = None
    images: Callable[[Values], tuple[StageImage, ...]] = lambda _values: ()
    completion_keys: Callable[[Storage, Pipeline, str], tuple[str, ...]] | None = None
    read_completion: Callable[[bytes], CompletionDocument] | None = None
    read_log_line: ReadLogLine = lambda _line: None
    log_terms: Mapping[RecordEvent, str] = field(default_factory=dict)
    input_message: WriteInputMessage | None = None
    merged_completions: Callable[[bytes], frozenset[str]] | None = None
    checks: tuple[str, ...] = ()
    demo: str | None = None
    needs: tuple[str, ...] = ()
    apply_hint: str = ""
