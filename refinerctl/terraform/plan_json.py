"""Terraform's JSON of a plan, read as the changes that it would make.

https://developer.hashicorp.com/terraform/internals/json-format#plan-representation
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.terraform.losses import HOLDS_DATA, foreseen, lost_in_place
from refinerctl.terraform.plan_values import ValueChange, has_true, normal, value_changes

FUNCTION = "aws_lambda_function"
TASK_DEFINITION = "aws_ecs_task_definition"
SERVICE = "aws_ecs_service"
NOTIFICATION = "aws_s3_bucket_notification"

# An instance's key is a number or a string in quotes, which may itself hold brackets.
_KEY = r'"((?:[^"\\]|\\.)*)"'
_INDEX = re.compile(rf"\[(?:\d+|{_KEY})\]")
_MODULE = re.compile(rf"(module\.([^.\[]+)(?:\[{_KEY}\])?)\.")


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DESTROY = "destroy"
    FORGET = "forget"
    IMPORT = "import"
    MOVE = "move"


_ACTIONS = {
    ("create",): Action.CREATE,
    ("update",): Action.UPDATE,
    ("delete",): Action.DESTROY,
    ("delete", "create"): Action.REPLACE,
    ("create", "delete"): Action.REPLACE,
    ("forget",): Action.FORGET,
    ("create", "forget"): Action.REPLACE,
    ("forget", "create"): Action.REPLACE,
}


@dataclass(frozen=True)
class Change:
    """What a plan does to one resource.

    `attributes` has the names of those that differ, `values` the values in them that differ. `name` is what AWS knows
    the existing resource by, a bucket's or a queue's name; empty for a resource that has none. `losses` say what is
    lost although the resource stays: "message retention 14d → 1d". `image_only`: nothing but the image differs.
    """

    address: str
    type: str
    action: Action
    attributes: tuple[str, ...] = ()
    name: str = ""
    losses: tuple[str, ...] = ()
    image_only: bool = False
    values: tuple[ValueChange, ...] = ()

    @property
    def module(self) -> str | None:
        """The address of the module instance that it belongs to: `module.<name>["<stage>"]`."""
        match = _MODULE.match(self.address)
        return match[1] if match and match[3] is not None else None

    @property
    def stage(self) -> str | None:
        """The key of that module instance: a root module has one instance for each stage."""
        match = _MODULE.match(self.address)
        return match[3] if match else None

    @property
    def is_removed(self) -> bool:
        """Whether the existing resource is deleted."""
        return self.action in (Action.REPLACE, Action.DESTROY)

    @property
    def loses_data(self) -> bool:
        """Whether data is lost: all in the resource, or what `losses` say."""
        return bool(self.losses) or (self.is_removed and self.type in HOLDS_DATA)


@dataclass(frozen=True)
class ImageChange:
    """The image of a stage before and after; None without one."""

    stage: str
    before: str | None
    after: str | None


def read_changes(document: Mapping[str, Any]) -> tuple[Change, ...]:
    """What the plan would do, by address."""
    found = [change for entry in document.get("resource_changes", []) if (change := _change(entry))]
    if all(change.image_only for change in found if change.type == TASK_DEFINITION):
        # A service follows its task definition: its only change is the new revision.
        found = [replace(change, image_only=change.image_only or _is_new_revision(change, found)) for change in found]
    return tuple(sorted(found, key=lambda change: change.address))


def _is_new_revision(change: Change, changes: Sequence[Change]) -> bool:
    is_planned = any(other.type == TASK_DEFINITION for other in changes)
    return is_planned and change.type == SERVICE and change.attributes == ("task_definition",)


def read_drift(document: Mapping[str, Any]) -> tuple[Change, ...]:
    """What was changed outside of Terraform: removed resources, and attributes that the configuration sets.

    An attribute that the configuration does not set counts if the plan would restore it. Providers read back much
    more: what AWS counts and dates by itself, what another resource has set. One that the configuration sets does not
    count if the plan would leave it: the configuration ignores its changes, or has the new value.
    """
    configured = _configured(document.get("configuration", {}).get("root_module", {}))
    planned = {entry["address"] for entry in document.get("resource_changes", [])}
    restored = {change.address: change.attributes for change in read_changes(document)}
    found = []
    for entry in document.get("resource_drift", []):
        change = _change(entry)
        if change is None:
            continue
        if change.action is Action.UPDATE:
            ours = set(restored.get(change.address, ()))
            if change.address not in planned:
                ours |= configured.get(_INDEX.sub("", change.address), frozenset())
            attributes = tuple(name for name in change.attributes if name in ours)
            change = replace(
                change,
                attributes=attributes,
                image_only=_is_image_only(entry, attributes),
                values=value_changes(entry["change"], attributes),
            )
        if change.action is not Action.UPDATE or change.attributes:
            found.append(change)
    return tuple(sorted(found, key=lambda change: change.address))


def _configured(module: Mapping[str, Any], prefix: str = "") -> dict[str, frozenset[str]]:
    """The attributes that the configuration sets in each resource, by address without instance keys."""
    found = {
        f"{prefix}{resource['address']}": frozenset(resource.get("expressions", {}))
        for resource in module.get("resources", [])
    }
    for name, call in module.get("module_calls", {}).items():
        found |= _configured(call.get("module", {}), f"{prefix}module.{name}.")
    return found


def read_outputs(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the outputs that would change."""
    changes: Mapping[str, Any] = document.get("output_changes", {})
    return tuple(sorted(name for name, change in changes.items() if change["actions"] != ["no-op"]))


def read_event_buckets(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The buckets whose events the plan begins to send to EventBridge."""
    found = []
    for entry in document.get("resource_changes", []):
        if entry["type"] == NOTIFICATION and entry.get("mode") == "managed":
            before, after = (entry["change"].get(side) or {} for side in ("before", "after"))
            is_same = before.get("eventbridge") and _action(entry) is not Action.REPLACE
            if after.get("eventbridge") and not is_same:
                found.append(str(after.get("bucket") or entry["address"]))
    return tuple(sorted(found))


def read_images(document: Mapping[str, Any]) -> tuple[ImageChange, ...]:
    """The image of each function and each service, changed or not, by stage."""
    found = []
    for entry in document.get("resource_changes", []):
        if entry["type"] in (FUNCTION, TASK_DEFINITION) and entry.get("mode") == "managed":
            change, stage = entry["change"], _stage(entry)
            before, after = (_image(change.get(side) or {}) for side in ("before", "after"))
            if (change.get("after_unknown") or {}).get("container_definitions"):
                after = _image_in_output(document, stage)
            found.append(ImageChange(stage, before, after))
    return tuple(sorted(found, key=lambda image: image.stage))


def _image(values: Mapping[str, Any]) -> str | None:
    """The image of a function, or of the first container of a task definition."""
    image = values.get("image_uri")
    if containers := json.loads(values.get("container_definitions") or "[]"):
        image = containers[0].get("image")
    return None if image is None else str(image)


def _image_in_output(document: Mapping[str, Any], stage: str) -> str | None:
    """A task definition is one JSON text: with an unknown address of a broker in it, its image is unknown, too.

    The output that is named like the stage has the image alone.
    """
    output = (document.get("output_changes", {}).get(stage) or {}).get("after")
    return _image(output) if isinstance(output, dict) else None


def _stage(entry: Mapping[str, Any]) -> str:
    """A stage is an instance of a module, a module, or a resource of the root module: its key, or else its name."""
    if module := _MODULE.match(entry["address"]):
        return module[3] or module[2]
    return str(entry.get("index", entry["name"]))


def check_images(images: tuple[ImageChange, ...], pinned: Mapping[str, str]) -> None:
    """Raises RefinerctlError unless the plan gives each stage the image that was pinned for it."""
    planned = {image.stage: image.after for image in images}
    for stage, uri in pinned.items():
        digest = uri.rpartition("@")[2]
        if not (planned.get(stage) or "").endswith(f"@{digest}"):
            raise RefinerctlError(
                f"Terraform plans image {planned.get(stage) or 'unknown'} for {stage}, not {uri}",
                hint="The root module must pass var.pinned_images to its functions and services.",
            )


def _change(entry: Mapping[str, Any]) -> Change | None:
    """None for what is only read or does not change."""
    if entry.get("mode") != "managed":
        return None
    change, kind = entry["change"], entry["type"]
    action = _action(entry)
    if action is None:
        return None
    name = (change.get("before") or {}).get("bucket" if kind == "aws_s3_bucket" else "name")
    attributes = _attributes(change, action)
    return Change(
        entry["address"],
        kind,
        action,
        attributes,
        str(name or ""),
        lost_in_place(kind, change),
        _is_image_only(entry, attributes),
        value_changes(change, attributes),
    )


def _is_image_only(entry: Mapping[str, Any], attributes: Sequence[str]) -> bool:
    """Whether a function or a task definition would differ in nothing but its image."""
    if entry["type"] == FUNCTION:
        return tuple(attributes) == ("image_uri",)
    if entry["type"] != TASK_DEFINITION or tuple(attributes) != ("container_definitions",):
        return False
    before, after = (_without_images(entry["change"].get(side) or {}) for side in ("before", "after"))
    return bool(before) and before == after


def _without_images(values: Mapping[str, Any]) -> Any:
    """The containers of a task definition without their images; None if they are unknown."""
    containers = json.loads(values.get("container_definitions") or "[]")
    return normal([{**container, "image": None} for container in containers])


def _action(entry: Mapping[str, Any]) -> Action | None:
    """An `import` or `moved` block alone changes the state only, and has to be applied all the same."""
    change = entry["change"]
    actions = tuple(change["actions"])
    if actions in _ACTIONS:
        return _ACTIONS[actions]
    if actions not in (("no-op",), ("read",)):
        raise RefinerctlError(
            f"Terraform plans {' and '.join(actions)} for {entry['address']}: not supported by this version",
            hint="Use a newer refinerctl, or an older Terraform.",
        )
    if change.get("importing"):
        return Action.IMPORT
    return Action.MOVE if entry.get("previous_address", entry["address"]) != entry["address"] else None


def _attributes(change: Mapping[str, Any], action: Action) -> tuple[str, ...]:
    if action not in (Action.UPDATE, Action.REPLACE):
        return ()
    if paths := change.get("replace_paths"):
        return tuple(sorted({str(path[0]) for path in paths}))
    before, after = change.get("before") or {}, foreseen(change)
    differing = {name for name in before.keys() | after.keys() if normal(before.get(name)) != normal(after.get(name))}
    # Attributes that are known only after the apply usually follow from others; show them only if there are no others.
    unknown: Mapping[str, Any] = change.get("after_unknown") or {}
    return tuple(sorted(differing or {name for name, part in unknown.items() if has_true(part)}))
