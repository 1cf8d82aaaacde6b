"""A plan as text, as data and as GitLab's report, with the values that are not sensitive."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from os.path import commonprefix
from typing import Any

from refinerctl.releases.planning import Plan
from refinerctl.terraform.plan_json import Action, Change, ImageChange
from refinerctl.terraform.plan_values import ValueChange

SIGNS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "-/+",
    Action.DESTROY: "-",
    Action.FORGET: "forget",
    Action.IMPORT: "import",
    Action.MOVE: "move",
}
# Recorded: in Terraform's state.
OUTSIDE = "changed outside of Terraform (recorded → now)"
_MANY_CREATED = 5
_DIGEST_LENGTH = 19
_VALUE_LENGTH = 30
_SAME_START = 12  # a shorter common start is shown


def plan_lines(plan: Plan, *, in_full: bool = False) -> Iterator[str]:
    """The summary of a plan, one screen for an ordinary one; `in_full`: with long values as they are."""
    yield heading(plan)
    images = changed_images(plan)
    if images:
        yield "images"
        for image in images:
            yield f"  {image.stage:<24}  {image_version(image.before)} → {image_version(image.after)}"
            if build := plan.record.builds.get(image.stage):
                yield f"  {'':<24}  built by {build}"
    for title, changes in grouped(plan.changes):
        yield title
        yield from (f"  {line}" for line in change_lines(changes, partial(change_block, in_full=in_full)))
    if plan.outputs:
        yield f"outputs that change: {', '.join(plan.outputs)}"
    if plan.drift:
        yield OUTSIDE
        yield from (f"  {line}" for change in plan.drift for line in change_block(change, change.address, in_full))
    yield from (f"note: {note}" for note in plan.record.notes)
    yield totals(plan)


def heading(plan: Plan) -> str:
    """The account, region, environment, stack and release of the plan."""
    record = plan.record
    return f"{record.location or f'environment {record.env}'}, stack {record.stack}" + (
        f", release {record.tag}" if record.tag else ""
    )


def totals(plan: Plan) -> str:
    """The numbers of changes, in one line."""
    if plan.is_empty:
        return "no changes"
    parts = [
        f"{plan.count(Action.CREATE)} to create",
        f"{plan.count(Action.UPDATE)} to change",
        f"{plan.count(Action.REPLACE)} to replace",
        f"{plan.count(Action.DESTROY)} to destroy",
    ]
    rare = (Action.FORGET, Action.IMPORT, Action.MOVE)
    parts += [f"{count} to {action}" for action in rare if (count := plan.count(action))]
    return ", ".join(parts)


def changed_images(plan: Plan) -> list[ImageChange]:
    return [image for image in plan.images if image.before != image.after]


def grouped(changes: Iterable[Change]) -> list[tuple[str, list[Change]]]:
    """Changes by module instance, which is a stage, as a rule; all others last."""
    groups: dict[str | None, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.module, []).append(change)
    ordered = sorted(groups.items(), key=lambda item: (item[0] is None, item[0] or ""))
    return [(module or "all other resources", found) for module, found in ordered]


def change_lines(changes: list[Change], block: Callable[[Change, str], Iterable[str]]) -> Iterator[str]:
    """The lines that `block` returns for each change and its name; many creations only as counts of their types."""
    created = [change for change in changes if change.action is Action.CREATE]
    if len(created) > _MANY_CREATED:
        types = Counter(change.type for change in created)
        yield f"+ {', '.join(name if count == 1 else f'{name} x {count}' for name, count in sorted(types.items()))}"
        changes = [change for change in changes if change.action is not Action.CREATE]
    for change in changes:
        yield from block(change, change.address.removeprefix(f"{change.module}."))


def change_block(change: Change, name: str, in_full: bool) -> Iterator[str]:
    """The lines of a change: itself, then one for each value that differs."""
    yield change_text(replace(change, attributes=() if change.values else change.attributes), name)
    yield from (f"    {value_text(value, in_full=in_full)}" for value in change.values)


def value_text(value: ValueChange, *, in_full: bool) -> str:
    """`timeout: 900 → 60`. Of long values the part that differs, unless `in_full`."""
    if value.is_sensitive:
        return f"{value.path}: sensitive value{', known after apply' if value.is_unknown else ''}"
    before, after = _text(value.before), "known after apply" if value.is_unknown else _text(value.after)
    if not in_full:
        before, after = _shortened(before, after)
    return f"{value.path}: {before} → {after}"


def _text(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _shortened(before: str, after: str) -> tuple[str, str]:
    """Both texts without a long common start, which ends at a delimiter such as a slash, and cut to their maximum."""
    if max(len(before), len(after)) > _VALUE_LENGTH:
        same = commonprefix([before, after])  # noqa: RUF071 - values, no paths
        start = max(same.rfind(sign) for sign in "/@, ") + 1
        if start > _SAME_START:
            before, after = f"…{before[start:]}", f"…{after[start:]}"
    return _cut(before), _cut(after)


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE_LENGTH else f"{text[: _VALUE_LENGTH - 1]}…"


def change_text(change: Change, name: str) -> str:
    """A change in one line, without values."""
    attributes = f"  ({', '.join(change.attributes)})" if change.attributes else ""
    lost = f": {', '.join(change.losses)}" if change.losses else ""
    return f"{SIGNS[change.action]} {name}{attributes}" + (f"  LOSES DATA{lost}" if change.loses_data else "")


def image_version(uri: str | None) -> str:
    """The start of the digest; the tag of an image that is not pinned."""
    if uri is None:
        return "none"
    _, at, digest = uri.rpartition("@")
    return digest[:_DIGEST_LENGTH] if at else uri.rpartition("/")[2]


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as data."""
    return {
        "env": plan.record.env,
        "location": plan.record.location,
        "stack": plan.record.stack,
        "tag": plan.record.tag,
        "has_changes": not plan.is_empty,
        "totals": {action.value: plan.count(action) for action in Action},
        "images": [vars(image) for image in plan.images],
        "builds": plan.record.builds,
        "changes": [change_json(change) for change in plan.changes],
        "outputs": list(plan.outputs),
        "drift": [change_json(change) for change in plan.drift],
        "notes": list(plan.record.notes),
    }


def change_json(change: Change) -> dict[str, Any]:
    return {**vars(change), "stage": change.stage, "loses_data": change.loses_data}


def gitlab_report(plan: Plan) -> Mapping[str, int]:
    """https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsterraform"""
    return {
        "create": plan.count(Action.CREATE, Action.REPLACE),
        "update": plan.count(Action.UPDATE),
        "delete": plan.count(Action.DESTROY, Action.REPLACE),
    }
