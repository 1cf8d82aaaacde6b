"""AWS's resources of a pipeline, as they are: what `verify` looks at. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from refinerctl.aws.policies import Policy


@dataclass(frozen=True)
class Function:
    """A Lambda function's configuration, as far as running it needs. Memory in MB, timeout in seconds."""

    name: str
    arn: str
    version: str
    image_uri: str
    memory_mb: int
    timeout_s: int
    environment: dict[str, str]
    command: tuple[str, ...] = ()
    revision: str = ""


@dataclass(frozen=True)
class RunningFunction:
    """A function as Lambda has it: `digest` is that of the image that it runs, None where Lambda does not tell."""

    name: str
    digest: str | None
    timeout_s: int
    state: str = "Active"


Known = TypeVar("Known")


@dataclass(frozen=True)
class Absent:
    """There is no such thing; `reason` is a sentence that says so."""

    reason: str


@dataclass(frozen=True)
class Unread:
    """It may be there and could not be read: denied, most likely."""

    reason: str


Answer: TypeAlias = Known | Absent | Unread


@dataclass(frozen=True)
class EventBus:
    name: str
    arn: str
    kms_key: str | None = None
    policy: Policy = ()


@dataclass(frozen=True)
class EventRule:
    """`pattern` is JSON, as AWS has it."""

    name: str
    arn: str
    pattern: str
    is_enabled: bool = True


@dataclass(frozen=True)
class RuleTarget:
    """Where a rule sends to. `changes_event`: the target gets something else than the event."""

    id: str
    arn: str
    role_arn: str | None = None
    dlq_arn: str | None = None
    changes_event: bool = False


@dataclass(frozen=True)
class Queue:
    """`redrive_sources` are the queues that may use this one for their dead letters; None is any."""

    name: str
    arn: str
    visibility_timeout_s: int
    retention_s: int
    policy: Policy = ()
    dlq_arn: str | None = None
    max_receive_count: int | None = None
    redrive_sources: tuple[str, ...] | None = None
    kms_key: str | None = None


@dataclass(frozen=True)
class DeployedCode:
    """A function as Lambda has it: `state` and `update` are Lambda's own words, `image_uri` is by digest if it says."""

    name: str
    arn: str
    role_arn: str
    timeout_s: int
    image_uri: str
    state: str = "Active"
    update: str = "Successful"
    reason: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    kms_key: str | None = None
    reserved_concurrency: int | None = None

    @property
    def role_name(self) -> str:
        return self.role_arn.rpartition("/")[2]


@dataclass(frozen=True)
class SourceMapping:
    """What feeds a function from a queue; `state` is Lambda's word. `filters`: patterns of what the function gets."""

    uuid: str
    queue_arn: str
    state: str = "Enabled"
    reports_failures: bool = True
    max_concurrency: int | None = None
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class RolePolicy:
    """A policy of a role: inline, or attached by its ARN."""

    name: str
    statements: Policy
    arn: str | None = None


@dataclass(frozen=True)
class Role:
    """`boundary` is the policy that bounds whatever others allow; None without one."""

    name: str
    arn: str
    trust: Policy
    policies: tuple[RolePolicy, ...] = ()
    boundary: Policy | None = None


@dataclass(frozen=True)
class LogGroupSettings:
    """`retention_days` None keeps lines for ever."""

    name: str
    retention_days: int | None = None
    kms_key: str | None = None


@dataclass(frozen=True)
class KmsKey:
    """`state` is KMS's word; an AWS-managed key has a policy that nobody can change."""

    arn: str
    state: str = "Enabled"
    is_aws_managed: bool = False
    policy: Policy = ()


@dataclass(frozen=True)
class Concurrency:
    """How many functions of the account may run at once, all together and those without a share of their own."""

    limit: int
    unreserved: int
