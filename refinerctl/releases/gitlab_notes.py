"""The issue about drift and the note about a plan, in the GitLab project that the job runs in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refinerctl.errors import RefinerctlError
from refinerctl.releases.markdown import drift_markdown, plan_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refinerctl.app import AppContext
    from refinerctl.gitlab import Project
    from refinerctl.releases.planning import Plan
    from refinerctl.terraform.plan_json import Change

_DONE = {
    "opened": "opened an issue about the drift",
    "updated": "updated the issue about the drift",
    "reopened": "reopened the issue about the drift",
    "unchanged": "the issue about the drift is up to date",
    "closed": "closed the issue about the drift",
}


@dataclass(frozen=True)
class MergeRequest:
    """A merge request by its number in `project`; `pipeline` is the number of the pipeline that runs for it."""

    project: Project
    number: str
    pipeline: int | None


def job_project(app: AppContext) -> Project:
    """The GitLab project of this job. Raises UsageError if a variable is missing."""
    from refinerctl.gitlab import project_of

    return project_of(os.environ, app.render.note)


def job_merge_request(app: AppContext) -> MergeRequest | None:
    """The merge request that this job runs for; None, with a message, in a pipeline of a branch or a tag."""
    project = job_project(app)
    number, pipeline = os.environ.get("CI_MERGE_REQUEST_IID", ""), os.environ.get("CI_PIPELINE_ID", "")
    if not number:
        app.render.note("no note written: CI_MERGE_REQUEST_IID is not set, so this is not a merge request pipeline")
        return None
    return MergeRequest(project, number, int(pipeline) if pipeline.isdecimal() else None)


def write_plan_note(app: AppContext, merge_request: MergeRequest | None, plan: Plan) -> None:
    """Create or update the note about this environment and stack."""
    if merge_request is None:
        return
    from refinerctl.gitlab import marker

    text = plan_markdown(plan)
    if job := os.environ.get("CI_JOB_URL"):
        text += f"\n[Job]({job}), commit {os.environ.get('CI_COMMIT_SHORT_SHA', 'unknown')}\n"
    mark = marker("plan", plan.record.env, plan.record.stack)
    try:
        outcome = merge_request.project.write_note(merge_request.number, mark, text, merge_request.pipeline)
    except RefinerctlError as error:
        raise type(error)(f"the note was not written: {error.message}", hint=error.hint) from error
    kept = "kept the note of a later pipeline in"
    done = kept if outcome.action == "nothing" else f"{outcome.action} the note of"
    app.render.note(f"{done} merge request !{merge_request.number}")


def keep_drift_issue(app: AppContext, project: Project, plan: Plan, changes: Sequence[Change], has_drift: bool) -> None:
    """Open or update the issue about this environment and stack if there is drift, else close it.

    `changes` are what differs from the configuration.
    """
    from refinerctl.gitlab import marker

    env, stack = plan.record.env, plan.record.stack
    mark = marker("drift", env, stack)
    try:
        if has_drift:
            text = drift_markdown(plan, changes, app.command("drift"))
            outcome = project.open_issue(mark, f"Drift of stack {stack} in environment {env}", text)
        else:
            outcome = project.close_issue(mark)
    except RefinerctlError as error:
        raise type(error)(f"the issue was not updated: {error.message}", hint=error.hint) from error
    if outcome.action in _DONE:
        app.render.note(" ".join([_DONE[outcome.action], outcome.url]).rstrip())
