"""A plan for people: on a screen, in a merge request, as GitLab's report. Attributes by name only, never a value."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from refinerctl.console import printable
from refinerctl.releases.model import Action, Change, ImageChange, Plan

SIGNS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "-/+",
    Action.DESTROY: "-",
    Action.FORGET: "forget",
    Action.IMPORT: "import",
    Action.MOVE: "move",
}
_MANY_CREATED = 5
_DIGEST_LENGTH = 19

# https://spec.commonmark.org/0.31.2/#backslash-escapes; GitLab takes them for its references, too.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()|@#!~&$%^]")


def plan_lines(plan: Plan) -> Iterator[str]:
    """The summary of a plan, one screen for an ordinary one."""
    yield f"environment {plan.env}, stack {plan.stack}" + (f", release {plan.tag}" if plan.tag else "")
    images = [image for image in plan.images if image.before != image.after]
    if images:
        yield "images"
        yield from (f"  {image.ruleset:<24}  {image_text(image)}" for image in images)
    for title, changes in grouped(plan.changes):
        yield title
        yield from (f"  {line}" for line in change_lines(changes))
    if plan.outputs:
        yield f"outputs that change: {', '.join(plan.outputs)}"
    if plan.drift:
        yield "changed outside of Terraform"
        yield from (f"  {change_text(change, change.address)}" for change in plan.drift)
    yield from (f"note: {note}" for note in plan.notes)
    yield totals(plan)


def totals(plan: Plan) -> str:
    """What the plan comes to, in one line."""
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


def grouped(changes: Iterable[Change]) -> list[tuple[str, list[Change]]]:
    """Changes by ruleset, those of the stack itself last."""
    groups: dict[str | None, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.ruleset, []).append(change)
    ordered = sorted(groups.items(), key=lambda item: (item[0] is None, item[0] or ""))
    return [(f"ruleset {name}" if name else "the stack itself", found) for name, found in ordered]


def change_lines(changes: list[Change]) -> Iterator[str]:
    """A line per change; many creations only as counts of their types."""
    created = [change for change in changes if change.action is Action.CREATE]
    if len(created) > _MANY_CREATED:
        types = Counter(change.type for change in created)
        yield f"+ {', '.join(name if count == 1 else f'{name} x {count}' for name, count in sorted(types.items()))}"
        changes = [change for change in changes if change.action is not Action.CREATE]
    for change in changes:
        prefix = f'module.rulesets["{change.ruleset}"].' if change.ruleset else ""
        yield change_text(change, change.address.removeprefix(prefix))


def change_text(change: Change, name: str) -> str:
    attributes = f"  ({', '.join(change.attributes)})" if change.attributes else ""
    return f"{SIGNS[change.action]} {name}{attributes}" + ("  LOSES DATA" if change.loses_data else "")


def image_text(image: ImageChange) -> str:
    return f"{_short(image.before)} → {_short(image.after)}"


def _short(uri: str | None) -> str:
    """A digest as far as a person compares it; the tag of an image that is not pinned."""
    if uri is None:
        return "none"
    _, at, digest = uri.rpartition("@")
    return digest[:_DIGEST_LENGTH] if at else uri.rpartition("/")[2]


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as data."""
    return {
        "env": plan.env,
        "stack": plan.stack,
        "tag": plan.tag,
        "has_changes": not plan.is_empty,
        "totals": {action.value: plan.count(action) for action in Action},
        "images": [vars(image) for image in plan.images],
        "changes": [change_json(change) for change in plan.changes],
        "outputs": list(plan.outputs),
        "drift": [change_json(change) for change in plan.drift],
        "notes": list(plan.notes),
    }


def change_json(change: Change) -> dict[str, Any]:
    return {**vars(change), "ruleset": change.ruleset, "loses_data": change.loses_data}


def gitlab_report(plan: Plan) -> Mapping[str, int]:
    """https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsterraform"""
    return {
        "create": plan.count(Action.CREATE, Action.REPLACE),
        "update": plan.count(Action.UPDATE),
        "delete": plan.count(Action.DESTROY, Action.REPLACE),
    }


def markdown(plan: Plan) -> str:
    """For a note on a merge request; a long list is folded."""
    head = f"Terraform plan: {_escaped(plan.stack)} in {_escaped(plan.env)}"
    head += f", release {_escaped(plan.tag)}" if plan.tag else ""
    lines = [f"### {head}", "", f"**{totals(plan)}**", ""]
    images = [image for image in plan.images if image.before != image.after]
    if images:
        lines += ["| ruleset | image before | image after |", "| --- | --- | --- |"]
        lines += [
            f"| {_escaped(image.ruleset)} | `{_short(image.before)}` | `{_short(image.after)}` |" for image in images
        ]
        lines.append("")
    if plan.changes:
        lines += ["<details><summary>Changes</summary>", "", "```diff"]
        for title, changes in grouped(plan.changes):
            lines += [printable(line) for line in (f"# {title}", *map(_diff, change_lines(changes)))]
        lines += ["```", "", "</details>", ""]
    if plan.drift:
        lines += ["Changed outside of Terraform:", ""]
        lines += [f"- {_escaped(change_text(change, change.address))}" for change in plan.drift] + [""]
    lines += [f"- {_escaped(note)}" for note in plan.notes]
    return "\n".join(lines).rstrip() + "\n"


def _escaped(text: str) -> str:
    """Names come from whoever wrote the merge request: no markup, no mention, no line of its own."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


def _diff(line: str) -> str:
    """GitLab colours a line by its first sign."""
    return f"! {line[2:]}" if line.startswith("~ ") else line
