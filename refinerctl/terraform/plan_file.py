"""Saved plans: Terraform's own plan file, which is a zip archive, with one entry more that says what it is for."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.files import replacing
from refinerctl.releases.model import HEAD_BYTES, PlanRecord, StateVersion

ENTRY = "refinerctl.json"
_PLAN_ENTRY = "tfplan"
_STATE_ENTRY = "tfstate"
_FORMAT = 1


def planned_state(plan: Path) -> StateVersion:
    """The state that a plan file was made against."""
    with zipfile.ZipFile(plan) as archive, archive.open(_STATE_ENTRY) as entry:
        return StateVersion.read(entry.read(HEAD_BYTES))


def save_plan(plan: Path, record: PlanRecord, to: Path) -> None:
    """Write Terraform's plan file `plan` with `record` to `to`: whole or not at all, for the user's eyes only.

    A plan file holds the values of variables and of the state, secrets among them.
    """
    document = {"format": _FORMAT} | asdict(record)
    with replacing(to, private=True) as temporary:
        shutil.copyfile(plan, temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(ENTRY, json.dumps(document, indent=2, ensure_ascii=False))


def copy_plan(path: Path, folder: Path) -> Path:
    """A copy of a saved plan in `folder`. Raises RefinerctlError if it cannot be read."""
    copy = folder / "saved.tfplan"
    try:
        shutil.copyfile(path, copy)
    except OSError as error:
        raise RefinerctlError(f"cannot read {path}: {error.strerror}") from error
    return copy


def load_plan(path: Path) -> PlanRecord:
    """What `save_plan` recorded. Raises RefinerctlError for a file that is no whole plan of ours."""
    again = "Make one: refinerctl plan --out FILE."
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
                raise RefinerctlError(f"{path} is damaged: {broken} in it cannot be read", hint=again)
            document = json.loads(archive.read(ENTRY))
        if document.pop("format", None) != _FORMAT:
            raise RefinerctlError(f"{path} was made by another version of refinerctl", hint=again)
        return _record(document)
    except FileNotFoundError as error:
        raise RefinerctlError(f"there is no file {path}", hint=again) from error
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise RefinerctlError(f"{path} is not a saved plan, or only a part of one", hint=again) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefinerctlError(f"{path}: what is recorded in it cannot be read: {error!r}", hint=again) from error


def _record(document: dict[str, Any]) -> PlanRecord:
    state = document["state"]
    lists = {name: tuple(document[name]) for name in ("allow_destroy", "notes")}
    return PlanRecord(**document | lists | {"state": StateVersion(str(state["lineage"]), int(state["serial"]))})
