"""plan, deploy and drift in GitLab jobs: the issue, the note, the webhook, the log, and what a cancelled job leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, Finished
from tests.gitlab_server import GitLabServer, gitlab_server
from tests.integration.releases.tiny_stack import until
from tests.integration.servers import Answer, Request, serving
from tests.needs import needs_terraform
from tests.state_server import StateServer, state_server

STACK = """
terraform {
  backend "s3" {
    key = "refiner/terraform.tfstate"
  }
}

variable "size" { default = 1 }
variable "seconds" { default = 0 }
variable "secret" {
  default   = "hush-hush"
  sensitive = true
}

resource "terraform_data" "this" {
  for_each = toset(["a|b`</details>@all\\n/close"])
  input    = [var.size, var.secret]
}

resource "terraform_data" "slow" {
  triggers_replace = [var.seconds]
  provisioner "local-exec" { command = "touch STARTED; sleep ${var.seconds}" }
}
"""


class Job:
    """A job of a project whose state and API are on servers of the test."""

    def __init__(self, refinerctl: Command, folder: Path) -> None:
        self.refinerctl = refinerctl
        self.folder = folder
        self.values = folder / "terraform/environments/test/refiner.tfvars"
        files = {
            folder / "refinerctl.toml": '[environments.test]\nbackend = "http"\nregion = "us-east-1"\n',
            folder / "terraform/stacks/refiner/main.tf": STACK.replace("STARTED", str(folder / "started")),
            self.values: "",
        }
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")

    def run(self, *arguments: str) -> Finished:
        return self.refinerctl(*arguments, cwd=self.folder)


@pytest.fixture
def states() -> Iterator[StateServer]:
    needs_terraform()
    with state_server() as server:
        yield server


@pytest.fixture
def gitlab() -> Iterator[GitLabServer]:
    with gitlab_server() as server:
        yield server


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What it got."""
    got: list[dict[str, Any]] = []

    def take(request: Request) -> Answer:
        got.append(json.loads(request.body))
        return Answer(200)

    with serving(take) as server:
        monkeypatch.setenv("REFINERCTL_NOTIFY", f"{server.url}/secret-path")
        yield got


@pytest.fixture
def job(
    refinerctl: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: StateServer, gitlab: GitLabServer
) -> Job:
    # The state's address is its own: one server stands for GitLab's states, another one for its issues and notes.
    (tmp_path / "terraform/environments/test").mkdir(parents=True)
    address = states.address("refiner-test")
    lines = [
        f'{name} = "{address}{path}"'
        for name, path in (("address", ""), ("lock_address", "/lock"), ("unlock_address", "/lock"))
    ]
    lines += ['lock_method = "POST"', 'unlock_method = "DELETE"']
    (tmp_path / "terraform/environments/test/backend.hcl").write_text("\n".join(lines) + "\n")
    variables = {
        **gitlab.environment(),
        "TF_HTTP_USERNAME": "gitlab-ci-token",
        "TF_HTTP_PASSWORD": states.environment()["CI_JOB_TOKEN"],
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_JOB_URL": "https://gitlab.example/-/jobs/1",
        "CI_PIPELINE_ID": "11",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "REFINERCTL_ENV": "test",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Job(refinerctl, tmp_path)


def test_drift_keeps_one_issue_and_plan_one_note(
    job: Job, gitlab: GitLabServer, webhook: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = job.run("deploy", "--yes")
    assert deployed.code == 0, deployed.err
    assert [(item["command"], item["status"], item["result"]["applied"]) for item in webhook] == [
        ("deploy", "done", True)
    ]
    assert deployed.err.count("section_start:") == deployed.err.count("section_end:") == 2
    assert "\x1b[3" not in deployed.err

    none = job.run("drift", "--gitlab-issue")
    assert (none.code, gitlab.issues) == (0, []), none.err

    job.values.write_text("size = 2\n")
    for _ in range(2):
        found = job.run("drift", "--gitlab-issue", "--output", "json")
        assert (found.code, found.json()["has_drift"]) == (5, True), found.err
        assert "section_start" not in found.err
    (issue,) = gitlab.issues
    assert len(gitlab.writes()) == 1
    assert issue["title"] == "Drift of stack refiner in environment test"
    assert r'\~ terraform\_data.this\["a\|b\`\</details\>\@all\\n/close"\]  \(input\)' in issue["description"]
    assert "hush-hush" not in json.dumps(gitlab.issues) + json.dumps(webhook)
    assert webhook[-1]["result"] == found.json()

    outside = job.run("plan", "--gitlab-note")
    assert (outside.code, gitlab.notes) == (0, [])
    assert "no note written: CI_MERGE_REQUEST_IID is not set" in outside.err
    monkeypatch.setenv("CI_MERGE_REQUEST_IID", "5")
    for _ in range(2):
        assert job.run("plan", "--gitlab-note").code == 0
    (note,) = gitlab.notes
    assert "### Terraform plan: refiner in test" in note["body"]
    assert "[Job](https://gitlab.example/-/jobs/1)" in note["body"]

    monkeypatch.setenv("GITLAB_TOKEN", "glpat-expired")
    denied = job.run("drift", "--gitlab-issue")
    assert denied.code == 1
    assert "error: the issue was not updated: GitLab at 127.0.0.1" in denied.err
    assert "glpat" not in denied.err
    assert (webhook[-1]["status"], webhook[-1]["result"]["has_drift"]) == ("failed", True)

    monkeypatch.setenv("GITLAB_TOKEN", gitlab.environment()["GITLAB_TOKEN"])
    job.values.write_text("")
    assert job.run("drift", "--gitlab-issue").code == 0
    assert [item["state"] for item in gitlab.issues] == ["closed"]


def test_missing_token_is_a_usage_error_before_anything_is_planned(
    job: Job, states: StateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITLAB_TOKEN")
    for arguments in (("drift", "--gitlab-issue"), ("plan", "--gitlab-note")):
        done = job.run(*arguments)
        assert done.code == 2
        assert "GITLAB_TOKEN is not set" in done.err
    assert states.requests == []


def test_deploy_without_yes_does_not_ask_in_a_job(job: Job) -> None:
    done = job.run("deploy")
    assert done.code == 2
    assert "a CI job cannot answer questions; pass --yes" in done.err


@contextmanager
def cancelled(job: Job, command: str, is_under_way: Callable[[], object]) -> Iterator[subprocess.Popen[str]]:
    """A script whose job is cancelled: the runner sends SIGTERM to the process group of its shell, here twice."""
    shell = subprocess.Popen(
        ["sh", "-c", f"{sys.executable} -m refinerctl {command}; echo next command"],
        cwd=job.folder,
        env=os.environ.copy(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        until(is_under_way, 120)
    finally:
        for _ in range(2):
            os.killpg(shell.pid, signal.SIGTERM)
    yield shell


def test_cancelled_deployment_leaves_no_lock(job: Job, states: StateServer) -> None:
    job.values.write_text("seconds = 60\n")
    with cancelled(job, "deploy --yes", (job.folder / "started").exists) as shell:
        output, _ = shell.communicate(timeout=120)  # until refinerctl has closed it, too
    assert "saves its state" in output
    assert "refinerctl: terminated" in output
    assert "to continue, run `refinerctl deploy" in output
    assert "next command" not in output
    assert not states.locks
    resources = {item["name"] for item in states.state("refiner-test")["resources"]}
    assert "slow" in resources


def test_cancelled_plan_leaves_no_lock(job: Job, states: StateServer) -> None:
    """While Terraform reads the state that it has locked."""
    is_read, goes_on = threading.Event(), threading.Event()

    def wait(method: str) -> None:
        if method == "GET" and states.locks and not is_read.is_set():
            is_read.set()
            goes_on.wait(60)

    states.before = wait
    with cancelled(job, "plan", is_read.is_set) as shell:
        assert shell.stdout is not None
        lines = []
        for line in shell.stdout:
            lines.append(line)
            if "saves its state" in line:
                goes_on.set()
        shell.wait(60)
    assert lines[-1] == "refinerctl: terminated\n"
    assert not states.locks
