"""A plan, and drift, as Markdown for GitLab. Attributes without values: more people read notes than logs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from refinerctl.console import printable
from refinerctl.releases.plan_view import (
    change_lines,
    change_text,
    changed_images,
    grouped,
    heading,
    image_version,
    totals,
)
from refinerctl.releases.planning import Plan
from refinerctl.terraform.plan_json import Change

# https://spec.commonmark.org/0.31.2/#backslash-escapes; GitLab supports them for its references, too.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()|@#!~&$%^]")

# A list of changes ends after so many characters. GitLab's limits are 1,000,000 for a note, 1,048,576 for an issue.
_LIST_LIMIT = 50_000


def plan_markdown(plan: Plan) -> str:
    """A note for a merge request; the list of changes is folded."""
    record = plan.record
    head = f"Terraform plan: {_escaped(record.stack)} in {_escaped(record.env)}"
    head += f", release {_escaped(record.tag)}" if record.tag else ""
    lines = [f"### {head}", "", _escaped(record.location), "", f"**{totals(plan)}**", ""]
    if images := changed_images(plan):
        lines += ["| stage | image before | image after |", "| --- | --- | --- |"]
        lines += [
            f"| {_escaped(image.stage)} | {_code(image_version(image.before))} | {_code(image_version(image.after))} |"
            for image in images
        ]
        built = [(image.stage, record.builds[image.stage]) for image in images if image.stage in record.builds]
        about = [f"- {_escaped(f'{stage}: built by {build}')}: {_link(build.run_url)}" for stage, build in built]
        lines += ["", *about]
        lines += [""] * bool(built)
    if plan.changes:
        changes = [
            line
            for title, group in grouped(plan.changes)
            for line in (f"# {title}", *(_diff(line) for line in change_lines(group, _named)))
        ]
        lines += ["<details><summary>Changes</summary>", "", *_fenced(changes), "", "</details>", ""]
    lines += _listed("Changed outside of Terraform:", plan.drift)
    lines += [f"- {_escaped(note)}" for note in record.notes]
    return "\n".join(lines).rstrip() + "\n"


def drift_markdown(plan: Plan, changes: Sequence[Change], command: str) -> str:
    """The text of an issue about drift: no times and no links to jobs, so that it changes with the drift only.

    `changes` are what differs from the configuration; `command` shows the drift again.
    """
    lines = [_escaped(heading(plan)), ""]
    lines += _listed("Changed outside of Terraform:", plan.drift)
    lines += _listed("Differs from the configuration:", changes)
    lines += [
        "To show the drift, run:",
        "",
        *_fenced([command], "shell"),
        "",
        "`refinerctl deploy` restores the configuration. If the change is intended, change the configuration instead.",
        "",
        "refinerctl replaces this text, and closes the issue when the drift is gone. Write your notes as comments.",
    ]
    return "\n".join(lines) + "\n"


def _named(change: Change, name: str) -> list[str]:
    return [change_text(change, name)]


def _listed(title: str, changes: Iterable[Change]) -> list[str]:
    """A heading and a list; nothing without changes."""
    found = _limited([f"- {_escaped(change_text(change, change.address))}" for change in changes], "- ")
    return [title, "", *found, ""] if found else []


def _fenced(lines: Iterable[str], language: str = "diff") -> list[str]:
    """A code block. No line of it can end it: each begins with a sign, a # or a command."""
    return [f"```{language}", *_limited([printable(line) for line in lines], "# "), "```"]


def _limited(lines: list[str], mark: str) -> list[str]:
    """The lines up to the limit, then how many are missing."""
    room = _LIST_LIMIT
    for number, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return [*lines[:number], f"{mark}… and {len(lines) - number} more: see the output of the job"]
    return lines


def _escaped(text: str) -> str:
    """Names come from the author of a merge request: without markup, mentions and line breaks."""
    return _MARKUP.sub(r"\\\g<0>", printable(text))


def _link(url: str) -> str:
    """GitLab makes a link of it. Verified builds are kept in files, which the author of a merge request could add."""
    return url if re.fullmatch(r"https://[\w./-]+", url, re.ASCII) else _escaped(url)


def _code(text: str) -> str:
    """In a cell of a table: a pipe or a backtick would end it."""
    return f"`{printable(text)}`" if not re.search(r"[`|]", text) else _escaped(text)


def _diff(line: str) -> str:
    """GitLab colours a line by its first character."""
    return f"! {line[2:]}" if line.startswith("~ ") else line
