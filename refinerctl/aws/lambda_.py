"""Lambda: a function's configuration, and which images all functions run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError, RefinerctlError
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
    """An event source mapping of a queue; `state` is Lambda's own. `filters`: patterns of what the function gets."""

    uuid: str
    queue_arn: str
    state: str = "Enabled"
    reports_failures: bool = True
    max_concurrency: int | None = None
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Concurrency:
    """The account's concurrent executions: the limit, and those that are unreserved."""

    limit: int
    unreserved: int


@dataclass(frozen=True)
class Consumer:
    """A function with an event source mapping from a queue; `state` is the mapping's."""

    function: str
    state: str


class Functions:
    """The functions of one account and region."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session

    def consumers(self, queue_arn: str) -> tuple[Consumer, ...]:
        """One for each event source mapping of a queue. Functions are named without version or alias."""
        try:
            pages = self._client().get_paginator("list_event_source_mappings").paginate(EventSourceArn=queue_arn)
            return tuple(
                Consumer(item.get("FunctionArn", "").split(":")[6], item.get("State", ""))
                for page in pages
                for item in page["EventSourceMappings"]
            )
        except Exception as error:
            raise explain(error, f"the consumers of {queue_arn.rpartition(':')[2]}") or error from error

    def get(self, name: str) -> FunctionConfiguration:
        """How `name` is configured and what it runs. Raises NotFoundError without such a function."""
        try:
            answer: Any = self._client().get_function(FunctionName=name)
        except Exception as error:
            raise _explained(error, name) from error
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
        )

    def mapping_state(self, name: str) -> str | None:
        """The state of the event source mapping that feeds `name`: "Enabled", "Disabled", …; None without one."""
        try:
            found = self._client().list_event_source_mappings(FunctionName=name).get("EventSourceMappings", [])
        except Exception as error:
            raise _explained(error, name) from error
        return found[0].get("State") if found else None

    def mapping_is_enabled(self, uuid: str) -> bool:
        """Whether the event source mapping receives messages."""
        try:
            found = self._client().get_event_source_mapping(UUID=uuid)
        except Exception as error:
            raise explain(error, f"event source mapping {uuid}") or error from error
        return found.get("State") == "Enabled"

    def mappings(self, function: str) -> tuple[SourceMapping, ...]:
        """The event source mappings of the function. Raises NotFoundError without the function."""
        try:
            pages = self._client().get_paginator("list_event_source_mappings").paginate(FunctionName=function)
            return tuple(
                SourceMapping(
                    item.get("UUID", ""),
                    item.get("EventSourceArn", ""),
                    state=item.get("State", ""),
                    reports_failures="ReportBatchItemFailures" in item.get("FunctionResponseTypes", []),
                    max_concurrency=item.get("ScalingConfig", {}).get("MaximumConcurrency"),
                    filters=tuple(
                        pattern.get("Pattern", "") for pattern in item.get("FilterCriteria", {}).get("Filters", [])
                    ),
                )
                for page in pages
                for item in page["EventSourceMappings"]
            )
        except Exception as error:
            raise _explained(error, function) from error

    def concurrency(self) -> Concurrency:
        """The account's limits of concurrent executions."""
        try:
            limits = self._client().get_account_settings()["AccountLimit"]
        except Exception as error:
            raise explain(error, "the account's limits") or error from error
        return Concurrency(limits.get("ConcurrentExecutions", 0), limits.get("UnreservedConcurrentExecutions", 0))

    def images(self, *, aliases: bool = False, settled: bool = False) -> tuple[ImageUse, ...]:
        """The images of all functions, every published version and `$LATEST`, by the digest that Lambda resolved.

        With `aliases` each version's names, too. Raises RefinerctlError if what one of them runs cannot be told; with
        `settled` also in the middle of an update, when one may run another image than Lambda tells.
        """
        try:
            pages = self._client().get_paginator("list_functions")
            listed = [function for page in pages.paginate() for function in page["Functions"]]
        except Exception as error:
            raise explain(error, "the account's functions") or error from error
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
        try:
            pages = self._client().get_paginator("list_versions_by_function")
            return [
                (name, version["Version"]) for page in pages.paginate(FunctionName=name) for version in page["Versions"]
            ]
        except Exception as error:
            if error_code(error) == _MISSING:
                return []
            raise explain(error, f"function {name}") or error from error

    def _aliases(self, name: str) -> dict[str, tuple[str, ...]]:
        """Aliases by version; one that shifts traffic has two."""
        found: dict[str, tuple[str, ...]] = {}
        try:
            for page in self._client().get_paginator("list_aliases").paginate(FunctionName=name):
                for alias in page["Aliases"]:
                    weights = alias.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
                    for version in (alias["FunctionVersion"], *weights):
                        found[version] = (*found.get(version, ()), alias["Name"])
        except Exception as error:
            if error_code(error) != _MISSING:
                raise explain(error, f"function {name}") or error from error
        return found

    def _image(self, name: str, version: str, settled: bool) -> ImageReference | None:
        """None if the version was deleted after it was listed."""
        try:
            answer = self._client().get_function(FunctionName=name, Qualifier=version)
        except Exception as error:
            if error_code(error) == _MISSING:
                return None
            raise explain(error, f"function {name}:{version}") or error from error
        if settled:
            _check_settled(f"{name}:{version}", answer.get("Configuration", {}))
        code: Any = answer.get("Code", {})
        uri = code.get("ResolvedImageUri") or code.get("ImageUri")
        if not uri:
            raise RefinerctlError(f"Lambda does not report the image of function {name}:{version}")
        return ImageReference.parse(uri)

    def _client(self) -> LambdaClient:
        return self._session.client("lambda")


def _explained(error: Exception, name: str) -> Exception:
    if error_code(error) == _MISSING:
        return NotFoundError(f"function {name!r} does not exist")
    return explain(error, f"function {name}") or error


def _check_settled(name: str, configuration: Any) -> None:
    """Until an update is done, and after one that failed, the image before it is the one that is invoked.

    https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
    """
    update = configuration.get("LastUpdateStatus", "Successful")
    if update != "Successful" and configuration.get("State") != "Pending":  # a new function has no previous image
        state = "is being updated" if update == "InProgress" else "could not be updated"
        raise RefinerctlError(f"function {name} {state}: Lambda does not report which image it runs")
