"""Releases: what a plan would change, and what was deployed when, by whom."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.images import ImageReference, Platform

# Types whose destruction loses what cannot be made again.
HOLDS_DATA = frozenset(
    {
        "aws_cloudwatch_log_group",
        "aws_db_instance",
        "aws_dynamodb_table",
        "aws_ebs_volume",
        "aws_ecr_repository",
        "aws_efs_file_system",
        "aws_elasticache_cluster",
        "aws_elasticache_replication_group",
        "aws_elasticache_serverless_cache",
        "aws_kms_key",
        "aws_memorydb_cluster",
        "aws_mq_broker",
        "aws_rds_cluster",
        "aws_s3_bucket",
        "aws_s3_object",
        "aws_secretsmanager_secret",
        "aws_sqs_queue",
    }
)

_RULESET = re.compile(r'^module\.rulesets\["([^"]+)"\]')


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DESTROY = "destroy"
    FORGET = "forget"
    IMPORT = "import"
    MOVE = "move"


@dataclass(frozen=True)
class Change:
    """What a plan does to one resource. `attributes` are the names of those that differ: values may be secret."""

    address: str
    type: str
    action: Action
    attributes: tuple[str, ...] = ()

    @property
    def ruleset(self) -> str | None:
        """The ruleset that the resource belongs to."""
        match = _RULESET.match(self.address)
        return match[1] if match else None

    @property
    def loses_data(self) -> bool:
        """Whether what the resource holds is gone afterwards."""
        return self.type in HOLDS_DATA and self.action in (Action.REPLACE, Action.DESTROY)


@dataclass(frozen=True)
class ImageChange:
    """A ruleset's image by digest, before and after; None where there is none."""

    ruleset: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Holdings:
    """What a plan destroys and may hold something, by name."""

    buckets: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What Terraform would do. `drift` is what differs between the state and reality before anything is done."""

    env: str
    stack: str
    tag: str | None
    changes: tuple[Change, ...] = ()
    images: tuple[ImageChange, ...] = ()
    drift: tuple[Change, ...] = ()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.changes and not self.outputs

    def count(self, *actions: Action) -> int:
        return sum(change.action in actions for change in self.changes)

    def losses(self, allowed: Iterable[str] = ()) -> tuple[Change, ...]:
        """Changes that lose data and are not among the `allowed` addresses."""
        accepted = set(allowed)
        return tuple(change for change in self.changes if change.loses_data and change.address not in accepted)


# As much of a state's document as holds its lineage and serial.
HEAD_BYTES = 4096
_LINEAGE = re.compile(rb'^\s*"lineage": *"([^"]*)"', re.MULTILINE)
_SERIAL = re.compile(rb'^\s*"serial": *(\d+)', re.MULTILINE)


@dataclass(frozen=True)
class StateVersion:
    """Which state it is and how often it was written. Before the first write there is neither."""

    lineage: str = ""
    serial: int = 0

    @classmethod
    def read(cls, head: bytes) -> StateVersion:
        """From the start of a state document, as Terraform writes it: both stand before its resources."""
        lineage, serial = _LINEAGE.search(head), _SERIAL.search(head)
        return cls(lineage[1].decode() if lineage else "", int(serial[1]) if serial else 0)


@dataclass(frozen=True)
class StateLock:
    """Who works on the state, since when (UTC); `operation` is Terraform's: plan, apply, …"""

    id: str
    who: str = ""
    operation: str = ""
    created: datetime | None = None


@dataclass(frozen=True)
class RulesetImage:
    """The image that an environment's values give to a ruleset's function; `platform` is where that runs."""

    ruleset: str
    reference: ImageReference
    platform: Platform


@dataclass(frozen=True)
class Pins:
    """A release before it is deployed: images by digest, by ruleset. `notes` say what is not pinned or not checked.

    `in_place` is what the ledger has as deployed.
    """

    tag: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    in_place: Release | None = None


@dataclass(frozen=True)
class PlanRecord:
    """What a saved plan was made for: `deploy --plan` compares it with what it finds.

    `images` are those that the plan pins, by ruleset; `configuration` is a digest of all files that went into it;
    `allow_destroy` are addresses whose loss of data was accepted.
    """

    env: str
    stack: str
    tag: str | None
    images: Mapping[str, str]
    configuration: str
    state: StateVersion
    commit: str | None = None
    is_dirty: bool = False
    allow_destroy: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refinerctl_version: str = ""
    terraform_version: str = ""

    @property
    def version(self) -> str | None:
        """The commit for the ledger, with a mark if the files differed from it."""
        return f"{self.commit}-dirty" if self.commit and self.is_dirty else self.commit


class ReleaseAction(StrEnum):
    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    DESTROY = "destroy"


@dataclass(frozen=True)
class Release:
    """An entry of the ledger. `images` are image URIs by digest, by ruleset; `at` is in UTC."""

    action: ReleaseAction
    tag: str | None
    images: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    who: str = ""
    at: datetime = datetime.min


def dump_releases(releases: Iterable[Release]) -> bytes:
    """The ledger as a JSON document, oldest first."""
    entries = [asdict(release) | {"at": release.at.isoformat()} for release in releases]
    return json.dumps({"version": 1, "releases": entries}, indent=2, ensure_ascii=False).encode() + b"\n"


def load_releases(document: bytes) -> tuple[Release, ...]:
    """Read what `dump_releases` wrote. Raises RefinerctlError for anything else."""
    try:
        content = json.loads(document)
        if content["version"] != 1:
            raise RefinerctlError(
                f"the ledger of releases has version {content['version']}", hint="A newer refinerctl wrote it."
            )
        return tuple(_release(entry) for entry in content["releases"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"the ledger of releases cannot be read: {error!r}") from error


def _release(entry: dict[str, Any]) -> Release:
    return Release(
        action=ReleaseAction(entry["action"]),
        tag=entry["tag"],
        images={str(name): str(uri) for name, uri in entry["images"].items()},
        commit=entry["commit"],
        who=str(entry["who"]),
        at=datetime.fromisoformat(entry["at"]),
    )


# Whoever deploys has a clock of their own: what counts is the order in the ledger, oldest first.


def deployed(releases: Sequence[Release]) -> Release | None:
    """The release that is in place: the last entry, unless that destroyed everything."""
    return releases[-1] if releases and releases[-1].action is not ReleaseAction.DESTROY else None


def last_deploy(releases: Iterable[Release], tag: str) -> Release | None:
    """The last entry that brought `tag` into place."""
    found = [release for release in releases if release.tag == tag and release.action is not ReleaseAction.DESTROY]
    return found[-1] if found else None


def previous(releases: Iterable[Release]) -> Release | None:
    """What to go back to: the last release before the one in place that ran another image in a ruleset of today.

    What was rolled back is none of them: after A, B and back to A, that is what was before A.
    """
    line = _line(releases)
    return next((release for release in reversed(line[:-1]) if _runs_other_images(release, line[-1])), None)


def _line(releases: Iterable[Release]) -> list[Release]:
    """The entries that led to what is in place: a rollback takes those after its target away."""
    line: list[Release] = []
    for release in releases:
        if release.action is ReleaseAction.ROLLBACK:
            target = next(
                (place for place in reversed(range(len(line))) if _is_back_at(release, line[place])), len(line)
            )
            del line[target:]
        line.append(release)
    return line


def _is_back_at(rollback: Release, earlier: Release) -> bool:
    """Rulesets may have come or gone since: those that both have are as they were."""
    return (
        rollback.tag == earlier.tag
        and bool(rollback.images) == bool(earlier.images)
        and not _runs_other_images(earlier, rollback)
    )


def _runs_other_images(one: Release, other: Release) -> bool:
    return any(one.images[ruleset] != other.images[ruleset] for ruleset in one.images.keys() & other.images.keys())


@dataclass(frozen=True)
class StackOutput:
    """An output of a root module."""

    name: str
    value: Any
    sensitive: bool = False


@dataclass(frozen=True)
class DeployedFunction:
    """What has to work after a deployment: a function, and the mapping that feeds it from its queue."""

    ruleset: str
    function: str
    mapping: str | None = None


def unfinished(recorded: Release, images: Iterable[ImageChange]) -> tuple[str, ...]:
    """The rulesets that run another image than the one recorded: a deployment was cut short, or made by other means."""
    return tuple(
        image.ruleset
        for image in images
        if (uri := recorded.images.get(image.ruleset)) and image.before and _digest(uri) != _digest(image.before)
    )


def _digest(uri: str) -> str:
    return uri.rpartition("@")[2]
