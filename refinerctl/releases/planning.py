"""Plans of Terraform, as a model and as a file to apply."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinerctl import __version__
from refinerctl.errors import RefusedError
from refinerctl.git import git_commit
from refinerctl.terraform.plan_file import PlanRecord, planned_state, read_record
from refinerctl.terraform.plan_json import (
    Action,
    Change,
    ImageChange,
    check_images,
    read_changes,
    read_drift,
    read_event_buckets,
    read_images,
    read_outputs,
)

if TYPE_CHECKING:
    from refinerctl.console import Progress
    from refinerctl.ledger.entries import Release
    from refinerctl.releases.pins import Pins
    from refinerctl.terraform.root_module import RootModule


@dataclass(frozen=True)
class Plan:
    """What Terraform would do: its plan `file`, what that was made for, and what is in it.

    `drift` is what differs between the state and reality before anything is done. `event_buckets` begin to send their
    events to EventBridge.
    """

    file: Path
    record: PlanRecord
    changes: tuple[Change, ...] = ()
    images: tuple[ImageChange, ...] = ()
    drift: tuple[Change, ...] = ()
    outputs: tuple[str, ...] = ()
    event_buckets: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.changes and not self.outputs

    @property
    def losses(self) -> tuple[Change, ...]:
        """Changes that lose data, unless that was accepted."""
        return tuple(
            change for change in self.changes if change.loses_data and change.address not in self.record.allow_destroy
        )

    def count(self, *actions: Action) -> int:
        return sum(change.action in actions for change in self.changes)

    def removed(self, kind: str) -> tuple[str, ...]:
        """The names of the resources of a type that it destroys or replaces."""
        return tuple(change.name for change in self.changes if change.type == kind and change.is_removed)


def make_plan(
    root: RootModule, pins: Pins, folder: Path, progress: Progress, *, allow: Sequence[str] = (), destroy: bool = False
) -> Plan:
    """Plan a stack, with `pins`, into a file in `folder`. `allow` are addresses whose loss of data is accepted.

    Raises RefusedError for unknown variables or attributes in the environment's values; RefinerctlError if
    Terraform fails or would not deploy the pinned images; TimedOutError while another run holds the state's lock.
    """
    if not destroy:
        root.check_values()
    root.prepare()
    progress.step(f"terraform plan: stack {root.name} of {root.env}")
    configuration = root.configuration()
    file = folder / "plan.tfplan"
    values = {"pinned_images": dict(pins.images), "release_tag": pins.tag} if pins.images or pins.tag else {}
    root.terraform.plan(file, root.var_files(folder, values), destroy=destroy)
    document = root.terraform.show(file)
    commit, is_dirty = git_commit(root.layout.terraform)
    record = PlanRecord(
        env=root.env,
        stack=root.name,
        tag=pins.tag,
        images=dict(pins.images),
        configuration=configuration,
        state=planned_state(file),
        commit=commit,
        is_dirty=is_dirty,
        allow_destroy=tuple(allow),
        notes=pins.notes,
        location=root.location,
        refinerctl_version=__version__,
        terraform_version=str(document["terraform_version"]),
        bases=dict(pins.bases),
        asked_tag=pins.asked_tag,
        builds=dict(pins.builds),
    )
    plan = _plan(file, document, record, destroy=destroy)
    notes = list(pins.notes)
    if pins.current is not None:
        name = pins.current.tag or "the recorded release"
        why = f"does not run the image of {name}, the last recorded release: a deployment was interrupted"
        notes += [f"{stage}: {why}" for stage in unfinished(pins.current, plan.images)]
    lost = {change.address for change in plan.changes if change.loses_data}
    notes += [f"--allow-destroy {address}: the plan does not lose its data" for address in allow if address not in lost]
    return replace(plan, record=replace(record, notes=tuple(notes)))


def unfinished(recorded: Release, images: Sequence[ImageChange]) -> tuple[str, ...]:
    """The stages that run another image than the recorded one: an apply was interrupted, or made by other means."""
    return tuple(
        image.stage
        for image in images
        if (uri := recorded.images.get(image.stage))
        and image.before
        and uri.rpartition("@")[2] != image.before.rpartition("@")[2]
    )


def check_target(path: Path, env: str, stack: str, tag: str | None) -> PlanRecord:
    """What a saved plan was made for. Raises RefusedError if that is another environment, stack or release.

    Raises RefinerctlError for a file that is not a saved plan. `tag` None accepts any release.
    """
    record = read_record(path)
    for what, planned, wanted in (
        ("environment", record.env, env),
        ("stack", record.stack, stack),
        ("release", record.tag, tag or record.tag),
    ):
        if planned != wanted:
            raise RefusedError(f"{path} was made for {what} {planned}, not {wanted}", hint="Make a new plan.")
    return record


def load_plan(
    root: RootModule, path: Path, folder: Path, progress: Progress, *, tag: str | None = None, allow: Sequence[str] = ()
) -> Plan:
    """A saved plan, if it is still valid. `allow` adds to the losses of data that it accepts.

    It is copied to `folder`, which only its owner can write to: what is shown is what will be applied, even if `path`
    changes meanwhile. Raises what `check_target` does, and RefusedError if the configuration or the state has changed.
    """
    progress.step(f"checking {path} against the state of {root.env}")
    file = folder / "saved.tfplan"
    shutil.copyfile(path, file)
    record = check_target(file, root.env, root.name, tag)
    if record.location and record.location != root.location:
        raise RefusedError(f"{path} was made for {record.location}, not for {root.location}", hint="Make a new plan.")
    root.prepare()
    if record.configuration != root.configuration():
        raise RefusedError(
            f"{path} was made with another configuration than that of this checkout",
            hint=f"It was made at commit {record.commit or 'unknown'}{' with changes' if record.is_dirty else ''}.",
        )
    root.check_state(record.state)
    allowed = tuple(dict.fromkeys([*record.allow_destroy, *allow]))
    return _plan(file, root.terraform.show(file), replace(record, allow_destroy=allowed))


def _plan(file: Path, document: Mapping[str, Any], record: PlanRecord, *, destroy: bool = False) -> Plan:
    images = read_images(document)
    if not destroy:
        check_images(images, record.images)
    return Plan(
        file,
        record,
        changes=read_changes(document),
        images=images,
        drift=read_drift(document),
        outputs=read_outputs(document),
        event_buckets=read_event_buckets(document),
    )


def refuse_losses(plan: Plan) -> None:
    """Raises RefusedError if the plan loses data, unless that was accepted."""
    if not plan.losses:
        return
    named = "; ".join(f"{change.address} ({', '.join(change.losses) or change.action})" for change in plan.losses)
    addresses = [*plan.record.allow_destroy, *(change.address for change in plan.losses)]
    flags = " ".join(f"--allow-destroy {shlex.quote(address)}" for address in addresses)
    raise RefusedError(f"the plan loses data: {named}", hint=f"To accept that, add {flags}")
