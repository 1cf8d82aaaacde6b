"""A plan as Terraform's JSON, read as what a person wants to know of it.

https://developer.hashicorp.com/terraform/internals/json-format#plan-representation
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from refinerctl.errors import RefinerctlError
from refinerctl.releases.model import Action, Change, Holdings, ImageChange

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

FUNCTION = "aws_lambda_function"


def read_changes(document: Mapping[str, Any]) -> tuple[Change, ...]:
    """What the plan would do, by address."""
    found = (_change(entry) for entry in document.get("resource_changes", []))
    return tuple(sorted((change for change in found if change), key=lambda change: change.address))


def read_drift(document: Mapping[str, Any]) -> tuple[Change, ...]:
    """What was changed outside of Terraform: what is gone, and attributes that the configuration says or would restore.

    Providers read back much more: what AWS counts and dates by itself, what another resource has set.
    """
    says = _configured(document.get("configuration", {}).get("root_module", {}))
    restores = {change.address: change for change in read_changes(document)}
    found = []
    for entry in document.get("resource_drift", []):
        change = _change(entry)
        if change is None:
            continue
        restored = restores.get(change.address)
        if change.action is Action.UPDATE:
            ours = says.get(_INDEX.sub("", change.address), frozenset()) | set(restored.attributes if restored else ())
            change = replace(change, attributes=tuple(name for name in change.attributes if name in ours))
        if change.action is not Action.UPDATE or change.attributes:
            found.append(change)
    return tuple(sorted(found, key=lambda change: change.address))


# An instance's key is a number or a string in quotes, which may itself hold brackets.
_INDEX = re.compile(r'\[(?:\d+|"(?:[^"\\]|\\.)*")\]')


def _configured(module: Mapping[str, Any], prefix: str = "") -> dict[str, frozenset[str]]:
    """The attributes that the configuration gives each resource, by address without instance keys."""
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


def read_images(document: Mapping[str, Any]) -> tuple[ImageChange, ...]:
    """The image of each ruleset's function, before and after, changed or not."""
    found = []
    for entry in document.get("resource_changes", []):
        change = _bare_change(entry)
        if entry["type"] == FUNCTION and change.ruleset and entry.get("mode") == "managed":
            before, after = (_image(entry["change"].get(side)) for side in ("before", "after"))
            found.append(ImageChange(change.ruleset, before, after))
    return tuple(sorted(found, key=lambda image: image.ruleset))


def read_holdings(document: Mapping[str, Any]) -> Holdings:
    """Names of what the plan destroys or replaces that may hold something."""
    return Holdings(
        buckets=_lost(document, "aws_s3_bucket", "bucket"),
        repositories=_lost(document, "aws_ecr_repository", "name"),
        queues=_lost(document, "aws_sqs_queue", "name"),
    )


def _lost(document: Mapping[str, Any], kind: str, name: str) -> tuple[str, ...]:
    entries = document.get("resource_changes", [])
    lost = (entry["change"] for entry in entries if entry["type"] == kind and entry["mode"] == "managed")
    return tuple(change["before"][name] for change in lost if "delete" in change["actions"])


def check_images(images: tuple[ImageChange, ...], pinned: Mapping[str, str]) -> None:
    """Raises RefinerctlError unless the plan gives each ruleset the image that was pinned for it."""
    planned = {image.ruleset: image.after for image in images}
    for ruleset, uri in pinned.items():
        digest = uri.rpartition("@")[2]
        if not (planned.get(ruleset) or "").endswith(f"@{digest}"):
            raise RefinerctlError(
                f"Terraform plans image {planned.get(ruleset) or 'unknown'} for ruleset {ruleset}, not {uri}",
                hint="The stack has to hand var.pinned_images on to the ruleset's function.",
            )


def _bare_change(entry: Mapping[str, Any]) -> Change:
    return Change(entry["address"], entry["type"], Action.UPDATE)


def _change(entry: Mapping[str, Any]) -> Change | None:
    """None for what is read only or stays as it is."""
    if entry.get("mode") != "managed":
        return None
    change = entry["change"]
    action = _action(entry)
    return Change(entry["address"], entry["type"], action, _attributes(change, action)) if action else None


def _action(entry: Mapping[str, Any]) -> Action | None:
    """An `import` or `moved` block alone changes the state only, and has to be applied all the same."""
    change = entry["change"]
    actions = tuple(change["actions"])
    if actions in _ACTIONS:
        return _ACTIONS[actions]
    if actions not in (("no-op",), ("read",)):
        raise RefinerctlError(
            f"Terraform plans {' and '.join(actions)} for {entry['address']}: this refinerctl does not know that",
            hint="A newer refinerctl may, or an older Terraform.",
        )
    if change.get("importing"):
        return Action.IMPORT
    return Action.MOVE if entry.get("previous_address", entry["address"]) != entry["address"] else None


def _attributes(change: Mapping[str, Any], action: Action) -> tuple[str, ...]:
    if action not in (Action.UPDATE, Action.REPLACE):
        return ()
    if paths := change.get("replace_paths"):
        return tuple(sorted({str(path[0]) for path in paths}))
    before, after = change.get("before") or {}, change.get("after") or {}
    unknown = change.get("after_unknown") or {}
    names = {name for name in before.keys() | after.keys() if not unknown.get(name)}
    differing = {name for name in names if _value(before.get(name)) != _value(after.get(name))}
    # What is known only after the apply follows from the others, as a rule; alone it is all there is to say.
    return tuple(sorted(differing or {name for name in unknown if unknown[name]}))


def _value(value: Any) -> Any:
    """Providers read nothing back in several forms, and a policy in whatever order AWS has its keys."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return _value(json.loads(value))
        except (ValueError, RecursionError):
            return value
    if isinstance(value, dict):
        return {key: plain for key, item in value.items() if (plain := _value(item)) is not None} or None
    if isinstance(value, list):
        return [_value(item) for item in value] or None
    return None if value is False or value == "" else value


def _image(resource: Mapping[str, Any] | None) -> str | None:
    return (resource or {}).get("image_uri")
