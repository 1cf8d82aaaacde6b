"""Plan a stack: what Terraform would do, as a model and as a file to apply."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from refinerctl import __version__
from refinerctl.console import Progress
from refinerctl.errors import RefusedError
from refinerctl.releases.model import Holdings, Pins, Plan, PlanRecord, unfinished
from refinerctl.terraform.plan_file import copy_plan, load_plan, planned_state, save_plan
from refinerctl.terraform.plan_json import (
    check_images,
    read_changes,
    read_drift,
    read_holdings,
    read_images,
    read_outputs,
)
from refinerctl.terraform.stack import Stack


@dataclass(frozen=True)
class Planned:
    """A plan, the file that Terraform applies, what that was made for, and what it takes along."""

    plan: Plan
    file: Path
    record: PlanRecord
    holdings: Holdings = field(default_factory=Holdings)


def make_plan(
    stack: Stack, pins: Pins, folder: Path, progress: Progress, *, allow: Sequence[str] = (), destroy: bool = False
) -> Planned:
    """Plan a stack, with `pins`, into a file in `folder`. `allow` are addresses whose loss of data is accepted.

    Raises RefinerctlError if Terraform fails or would not deploy the pinned images; TimedOutError while another run
    holds the state's lock.
    """
    stack.prepare()
    progress.step(f"terraform plan: stack {stack.name} of {stack.env}")
    configuration = stack.configuration()
    file = folder / "plan.tfplan"
    values = {"pinned_images": dict(pins.images), "release_tag": pins.tag} if pins.images or pins.tag else {}
    stack.terraform.plan(file, stack.var_files(folder, values), destroy=destroy)
    document = stack.terraform.show(file)
    commit, is_dirty = stack.commit()
    record = PlanRecord(
        env=stack.env,
        stack=stack.name,
        tag=pins.tag,
        images=dict(pins.images),
        configuration=configuration,
        state=planned_state(file),
        commit=commit,
        is_dirty=is_dirty,
        allow_destroy=tuple(allow),
        notes=(*pins.notes, *_unfinished(pins, document), *_not_destroyed(document, allow)),
        refinerctl_version=__version__,
        terraform_version=str(document["terraform_version"]),
    )
    return _planned(file, document, record, destroy=destroy)


def _unfinished(pins: Pins, document: Mapping[str, Any]) -> list[str]:
    if pins.in_place is None:
        return []
    name = pins.in_place.tag or "the recorded release"
    return [
        f"{ruleset}: runs another image than that of {name}, the last release recorded: a deployment was cut short"
        for ruleset in unfinished(pins.in_place, read_images(document))
    ]


def _not_destroyed(document: Mapping[str, Any], allow: Sequence[str]) -> list[str]:
    losses = {change.address for change in read_changes(document) if change.loses_data}
    return [f"--allow-destroy {address}: the plan does not destroy that" for address in allow if address not in losses]


def check_target(path: Path, env: str, stack: str, tag: str | None) -> PlanRecord:
    """What a saved plan was made for. Raises RefusedError if that is another environment, stack or release.

    Raises RefinerctlError for a file that is no plan. `tag` None takes whatever release it is.
    """
    record = load_plan(path)
    for what, planned, wanted in (
        ("environment", record.env, env),
        ("stack", record.stack, stack),
        ("release", record.tag, tag or record.tag),
    ):
        if planned != wanted:
            raise RefusedError(f"{path} was made for {what} {planned}, not {wanted}", hint="Plan again.")
    return record


def load(
    stack: Stack, path: Path, folder: Path, progress: Progress, *, tag: str | None = None, allow: Sequence[str] = ()
) -> Planned:
    """A saved plan, if it is still the one to apply. `allow` adds to what it allows to destroy.

    It is copied to `folder`, the user's own: what is shown is what will be applied, whoever writes to `path` meanwhile.
    Raises what `check_target` does, and RefusedError if the configuration is another or the state moved on since.
    """
    check_target(path, stack.env, stack.name, tag)
    progress.step(f"checking {path} against the state of {stack.env}")
    file = copy_plan(path, folder)
    record = check_target(file, stack.env, stack.name, tag)
    stack.prepare()
    if record.configuration != stack.configuration():
        raise RefusedError(
            f"{path} was made with another configuration than that of this checkout",
            hint=f"It was made at commit {record.commit or 'unknown'}{' with changes' if record.is_dirty else ''}.",
        )
    stack.check_state(record.state)
    allowed = tuple(dict.fromkeys([*record.allow_destroy, *allow]))
    return _planned(file, stack.terraform.show(file), replace(record, allow_destroy=allowed))


def _planned(file: Path, document: Mapping[str, Any], record: PlanRecord, *, destroy: bool = False) -> Planned:
    images = read_images(document)
    if not destroy:
        check_images(images, record.images)
    plan = Plan(
        env=record.env,
        stack=record.stack,
        tag=record.tag,
        changes=read_changes(document),
        images=images,
        drift=read_drift(document),
        outputs=read_outputs(document),
        notes=record.notes,
    )
    return Planned(plan, file, record, read_holdings(document))


def save(planned: Planned, to: Path) -> None:
    """Write the plan to a file that `load` takes. Raises RefinerctlError if it cannot be written."""
    save_plan(planned.file, planned.record, to)


def refuse_losses(planned: Planned) -> None:
    """Raises RefusedError if the plan loses data that nobody has allowed it to."""
    losses = planned.plan.losses(planned.record.allow_destroy)
    if not losses:
        return
    named = "; ".join(f"{change.address} ({change.action})" for change in losses)
    addresses = [*planned.record.allow_destroy, *(change.address for change in losses)]
    flags = " ".join(f"--allow-destroy {shlex.quote(address)}" for address in addresses)
    raise RefusedError(f"the plan loses data: {named}", hint=f"If that is wanted: {flags}")
