"""Lambda: a function's configuration, what connects functions and queues, and which images all functions run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import about, or_none
from refinerctl.aws.session import AwsSession
from refinerctl.errors import RefinerctlError
from refinerctl.images import ImageReference, ImageUse
from refinerctl.parallel import concurrently

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

THREADS = 16

_MISSING = "ResourceNotFoundException"


@dataclass(frozen=True)
class FunctionConfiguration:
    """A function as Lambda has it; `state`, `update` and `reason` are Lambda's own. Memory in MB, timeout in s.

    `image_uri` is as it was given, `resolved_image_uri` by the digest that runs; empty if Lambda does not report it.
    """

    name: str
    arn: str
    version: str = "$LATEST"
    image_uri: str = ""
    memory_mb: int = 128
    timeout_s: int = 3
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    revision: str = ""
    role_arn: str = ""
    resolved_image_uri: str = ""
    state: str = "Active"
    update: str = "Successful"
    reason: str = ""
    kms_key: str | None = None
    reserved_concurrency: int | None = None
    security_groups: tuple[str, ...] = ()

    @property
    def running_image(self) -> str:
        """The image that it runs, by digest if Lambda reports it."""
        return self.resolved_image_uri or self.image_uri

    @property
    def digest(self) -> str | None:
        """The digest of the image that it runs; None if Lambda does not report it."""
        return self.running_image.partition("@")[2] or None

    @property
    def role_name(self) -> str:
        return self.role_arn.rpartition("/")[2]


@dataclass(frozen=True)
class SourceMapping:
    """What feeds a function from a queue; `state` is Lambda's word. `filters`: patterns of what the function gets.

    `function` is its name without version or alias.
    """

    uuid: str
    queue_arn: str
    state: str = "Enabled"
    function: str = ""
    reports_failures: bool = True
    max_concurrency: int | None = None
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Concurrency:
    """The account's concurrent executions: the limit, and those that are unreserved."""

    limit: int
    unreserved: int


class Functions:
    """The functions of one account and region."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def get(self, name: str) -> FunctionConfiguration:
        """How `name` is configured and what it runs. Raises NotFoundError without such a function."""
        with about(f"function {name}"):
            answer: Any = self._client().get_function(FunctionName=name)
        config, code = answer["Configuration"], answer.get("Code", {})
        return FunctionConfiguration(
            name=config["FunctionName"],
            arn=config["FunctionArn"],
            version=config.get("Version", "$LATEST"),
            image_uri=code.get("ImageUri", ""),
            memory_mb=config.get("MemorySize", 128),
            timeout_s=config.get("Timeout", 3),
            environment=dict(config.get("Environment", {}).get("Variables", {})),
            command=tuple(config.get("ImageConfigResponse", {}).get("ImageConfig", {}).get("Command", [])),
            revision=config.get("RevisionId", config.get("LastModified", "")),
            role_arn=config.get("Role", ""),
            resolved_image_uri=code.get("ResolvedImageUri", ""),
            state=config.get("State", "Active"),
            update=config.get("LastUpdateStatus", "Successful"),
            reason=config.get("LastUpdateStatusReason") or config.get("StateReason") or "",
            kms_key=config.get("KMSKeyArn") or None,
            reserved_concurrency=answer.get("Concurrency", {}).get("ReservedConcurrentExecutions"),
            security_groups=tuple(config.get("VpcConfig", {}).get("SecurityGroupIds", [])),
        )

    def failure_destination(self, name: str) -> str | None:
        """The ARN of what takes asynchronous invocations that failed; None without one."""
        with about(f"function {name}"):
            found: Any = or_none(partial(self._client().get_function_event_invoke_config, FunctionName=name), _MISSING)
        return ((found or {}).get("DestinationConfig", {}).get("OnFailure") or {}).get("Destination")

    def mapping_is_enabled(self, uuid: str) -> bool:
        """Whether the event source mapping receives messages."""
        with about(f"event source mapping {uuid}"):
            return self._client().get_event_source_mapping(UUID=uuid).get("State") == "Enabled"

    def mappings(self, function: str) -> tuple[SourceMapping, ...]:
        """The event source mappings of the function. Raises NotFoundError without the function."""
        with about(f"function {function}"):
            return self._mappings(FunctionName=function)

    def consumers(self, queue_arn: str) -> tuple[SourceMapping, ...]:
        """What feeds functions from the queue."""
        with about(f"the consumers of {queue_arn.rpartition(':')[2]}"):
            return self._mappings(EventSourceArn=queue_arn)

    def all_mappings(self) -> tuple[SourceMapping, ...]:
        """The event source mappings of all functions of the account."""
        with about("the event source mappings"):
            return self._mappings()

    def _mappings(self, **of: str) -> tuple[SourceMapping, ...]:
        pages: Any = self._client().get_paginator("list_event_source_mappings").paginate(**of)  # type: ignore[arg-type]
        return tuple(_mapping(item) for page in pages for item in page["EventSourceMappings"])

    def concurrency(self) -> Concurrency:
        """The account's limits of concurrent executions."""
        with about("the account's limits"):
            limits = self._client().get_account_settings()["AccountLimit"]
        return Concurrency(limits.get("ConcurrentExecutions", 0), limits.get("UnreservedConcurrentExecutions", 0))

    def images(self, *, aliases: bool = False, settled: bool = False) -> tuple[ImageUse, ...]:
        """The images of all functions, every published version and `$LATEST`, by the digest that Lambda resolved.

        With `aliases` each version's names, too. Raises RefinerctlError if what one of them runs cannot be told; with
        `settled` also in the middle of an update, when one may run another image than Lambda tells.
        """
        with about("the account's functions"):
            pages = self._client().get_paginator("list_functions")
            listed = [function for page in pages.paginate() for function in page["Functions"]]
        names = [function["FunctionName"] for function in listed if function.get("PackageType") == "Image"]
        found = concurrently([partial(self._versions, name) for name in names], THREADS)
        versions = [version for of_function in found for version in of_function]
        references = concurrently([partial(self._image, name, version, settled) for name, version in versions], THREADS)
        named = concurrently([partial(self._aliases, name) for name in names], THREADS) if aliases else []
        known = dict(zip(names, named, strict=False))
        return tuple(
            ImageUse("function", f"{name}:{version}", reference, known.get(name, {}).get(version, ()))
            for (name, version), reference in zip(versions, references, strict=True)
            if reference
        )

    def _versions(self, name: str) -> list[tuple[str, str]]:
        def read() -> list[tuple[str, str]]:
            pages = self._client().get_paginator("list_versions_by_function").paginate(FunctionName=name)
            return [(name, version["Version"]) for page in pages for version in page["Versions"]]

        with about(f"function {name}"):
            return or_none(read, _MISSING) or []

    def _aliases(self, name: str) -> dict[str, tuple[str, ...]]:
        """Aliases by version; one that shifts traffic has two."""
        found: dict[str, tuple[str, ...]] = {}

        def read() -> None:
            for page in self._client().get_paginator("list_aliases").paginate(FunctionName=name):
                for alias in page["Aliases"]:
                    weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
                    for version in (alias["FunctionVersion"], *weights):
                        found[version] = (*found.get(version, ()), alias["Name"])

        with about(f"function {name}"):
            or_none(read, _MISSING)
        return found

    def _image(self, name: str, version: str, settled: bool) -> ImageReference | None:
        """None if the version was deleted after it was listed."""
        get = partial(self._client().get_function, FunctionName=name, Qualifier=version)
        with about(f"function {name}:{version}"):
            answer: Any = or_none(get, _MISSING)
        if answer is None:
            return None
        if settled:
            _check_settled(f"{name}:{version}", answer.get("Configuration", {}))
        code = answer.get("Code", {})
        uri = code.get("ResolvedImageUri") or code.get("ImageUri")
        if not uri:
            raise RefinerctlError(f"Lambda does not report the image of function {name}:{version}")
        return ImageReference.parse(uri)

    def _client(self) -> LambdaClient:
        return self._session.client("lambda")


def _mapping(item: Any) -> SourceMapping:
    arn = item.get("FunctionArn", "").split(":")  # arn:aws:lambda:region:account:function:NAME[:qualifier]
    return SourceMapping(
        item.get("UUID", ""),
        item.get("EventSourceArn", ""),
        state=item.get("State", ""),
        function=arn[6] if len(arn) > 6 else arn[-1],
        reports_failures="ReportBatchItemFailures" in item.get("FunctionResponseTypes", []),
        max_concurrency=item.get("ScalingConfig", {}).get("MaximumConcurrency"),
        filters=tuple(pattern.get("Pattern", "") for pattern in item.get("FilterCriteria", {}).get("Filters", [])),
    )


def _check_settled(name: str, configuration: Any) -> None:
    """Until an update is done, and after one that failed, the image before it is the one that is invoked.

    https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
    """
    update = configuration.get("LastUpdateStatus", "Successful")
    if update != "Successful" and configuration.get("State") != "Pending":  # a new function has no previous image
        state = "is being updated" if update == "InProgress" else "could not be updated"
        raise RefinerctlError(f"function {name} {state}: Lambda does not report which image it runs")
