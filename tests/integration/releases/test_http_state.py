"""plan and deploy in GitLab jobs whose project stores the state: real Terraform, a server like GitLab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refinerctl.ledger.entries import load_releases
from tests.command import Command
from tests.needs import needs_terraform
from tests.state_server import PASSWORD, StateServer, state_server

STACK = """
terraform {
  backend "s3" {
    key = "refiner/terraform.tfstate"
  }
}

module "one" {
  source = "../../modules/one"
}

output "bucket" {
  value = "not all that the stack refiner has"
}
"""


def _project(folder: Path) -> Path:
    """A project whose stack needs no provider."""
    files = {
        "refinerctl.toml": '[environments.test]\nbackend = "http"\nregion = "us-east-1"\n',
        "terraform/stacks/refiner/main.tf": STACK,
        "terraform/modules/one/main.tf": 'resource "terraform_data" "this" {\n  input = 1\n}\n',
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StateServer]:
    needs_terraform()
    with state_server() as server:
        job = {
            **server.environment(),
            "CI_JOB_URL": "https://gitlab.example/-/jobs/1",
            "GITLAB_USER_LOGIN": "me",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "REFINERCTL_ENV": "test",
        }
        for name, value in job.items():
            monkeypatch.setenv(name, value)
        yield server


def test_plan_of_one_job_is_deployed_by_the_next(refinerctl: Command, server: StateServer, tmp_path: Path) -> None:
    """The next job has its own working copy, at another path."""
    first, second = _project(tmp_path / "first"), _project(tmp_path / "second")
    plan = tmp_path / "plan.tfplan"
    planned = refinerctl("plan", "--out", str(plan), cwd=first)
    assert planned.code == 0, planned.err
    assert PASSWORD.encode() not in plan.read_bytes()

    deployed = refinerctl("deploy", "--plan", str(plan), "--yes", cwd=second)
    assert deployed.code == 0, deployed.err
    assert "warning: applied, but cannot wait until it is in effect: Terraform's outputs are not" in deployed.err
    assert [item["type"] for item in server.state("refiner-test")["resources"]] == ["terraform_data"]
    document = server.state("refiner-test-releases")["outputs"]["releases"]["value"]
    assert [entry.who for entry in load_releases(document.encode(), "here")] == ["me (https://gitlab.example/-/jobs/1)"]
    assert not server.locks
    assert PASSWORD not in planned.err + deployed.err

    drift = refinerctl("drift", cwd=second)
    assert drift.code == 0, drift.err

    for applied in (True, False):
        gone = refinerctl("destroy", "--confirm", "test", "--output", "json", cwd=second)
        assert (gone.code, gone.json()["applied"]) == (0, applied), gone.err
        document = server.state("refiner-test-releases")["outputs"]["releases"]["value"]
        assert [entry.action for entry in load_releases(document.encode(), "here")] == ["deploy", "destroy"]


def test_denied_access_to_the_state_is_an_error(
    refinerctl: Command, server: StateServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_JOB_TOKEN", "expired-token")
    done = refinerctl("plan", cwd=_project(tmp_path))

    assert done.code == 1
    assert "expired-token" not in done.out + done.err
    assert "refiner-test" in done.err or "auth" in done.err
