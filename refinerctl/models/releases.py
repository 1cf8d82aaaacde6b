"""Releases: what a plan would change, and what was deployed when, by whom."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from refinerctl.errors import RefinerctlError

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


def deployed(releases: Iterable[Release]) -> Release | None:
    """The release that is in place: the newest entry, unless that destroyed everything."""
    newest = max(releases, key=lambda release: release.at, default=None)
    return None if newest is None or newest.action is ReleaseAction.DESTROY else newest
