"""Saved plans: Terraform's own plan file, which is a zip archive, with an additional entry that records its purpose."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from refinerctl.errors import RefinerctlError
from refinerctl.files import replacing
from refinerctl.images import Build
from refinerctl.terraform.events import HEAD_BYTES, StateVersion

ENTRY = "refinerctl.json"
_PLAN_ENTRY = "tfplan"
_STATE_ENTRY = "tfstate"
_FORMAT = 1


@dataclass(frozen=True)
class PlanRecord:
    """The purpose of a plan: `deploy --plan` compares it with the current values.

    `location` is the account, the region and the environment that it was made for.
    `images` are those that the plan pins, by stage, `bases` what they were built on, `builds` the verified builds;
    `configuration` is a digest of all files that went into it;
    `allow_destroy` are addresses whose loss of data was accepted; `asked_tag` is the tag that was requested, None if
    the current release is kept.
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
    location: str = ""
    refinerctl_version: str = ""
    terraform_version: str = ""
    bases: Mapping[str, str] = field(default_factory=dict)
    asked_tag: str | None = None
    builds: Mapping[str, Build] = field(default_factory=dict)

    @property
    def version(self) -> str | None:
        """The commit for the ledger, marked if the files differed from it."""
        return f"{self.commit}-dirty" if self.commit and self.is_dirty else self.commit


def planned_state(plan: Path) -> StateVersion:
    """The state that a plan file was made against."""
    with zipfile.ZipFile(plan) as archive, archive.open(_STATE_ENTRY) as entry:
        return StateVersion.read(entry.read(HEAD_BYTES))


def save_plan(plan: Path, record: PlanRecord, to: Path) -> None:
    """Write Terraform's plan file `plan` with `record` to `to`: whole or not at all, readable by its owner only.

    A plan file holds the values of variables and of the state, secrets among them.
    """
    document = {"format": _FORMAT} | asdict(record)
    with replacing(to, private=True) as temporary:
        shutil.copyfile(plan, temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(ENTRY, json.dumps(document, indent=2, ensure_ascii=False))


def read_record(path: Path) -> PlanRecord:
    """The record of a saved plan. Raises RefinerctlError for a file that `save_plan` did not write, or not whole."""
    again = "Make one: `refinerctl plan --out FILE`."
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if ENTRY not in names and _PLAN_ENTRY in names:
                raise RefinerctlError(
                    f"{path} was made by terraform alone: it does not say which environment and release it is for",
                    hint=again,
                )
            if ENTRY not in names or _PLAN_ENTRY not in names:
                raise RefinerctlError(f"{path} is not a saved plan", hint=again)
            if (broken := archive.testzip()) is not None:
                raise RefinerctlError(f"{path} is damaged: its entry {broken} cannot be read", hint=again)
            document = json.loads(archive.read(ENTRY))
        if document.pop("format", None) != _FORMAT:
            raise RefinerctlError(f"{path} was made by another version of refinerctl", hint=again)
        return _record(document)
    except FileNotFoundError as error:
        raise RefinerctlError(f"file {path} does not exist", hint=again) from error
    except OSError as error:
        raise RefinerctlError(f"cannot read {path}: {error.strerror}") from error
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise RefinerctlError(f"{path} is not a saved plan, or is incomplete", hint=again) from error
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise RefinerctlError(f"cannot read the record in {path}: {error!r}", hint=again) from error


def _record(document: dict[str, Any]) -> PlanRecord:
    state = document["state"]
    lists = {name: tuple(document[name]) for name in ("allow_destroy", "notes")}
    builds = msgspec.convert(document.get("builds", {}), dict[str, Build])
    version = StateVersion(str(state["lineage"]), int(state["serial"]))
    return PlanRecord(**document | lists | {"state": version, "builds": builds})
