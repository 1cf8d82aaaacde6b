"""A project with a stack that needs no provider, so that the real terraform takes no time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refinerctl.console import Progress
from refinerctl.errors import RefinerctlError
from refinerctl.layout import Layout
from refinerctl.ledger.entries import Release
from refinerctl.releases.deploy import apply_plan
from refinerctl.releases.pins import Pins
from refinerctl.releases.planning import Plan, load_plan, make_plan
from refinerctl.terraform.root_module import RootModule
from refinerctl.terraform.runner import Terraform

SECRET = "hush-hush"
MODULE = """
terraform {
  backend "local" {}
}
variable "size" { default = 1 }
variable "seconds" { default = 0 }
variable "secret" {
  default   = "hush-hush"
  sensitive = true
}
variable "release_tag" { default = null }
variable "pinned_images" { default = {} }
resource "terraform_data" "plain" { input = var.size }
resource "terraform_data" "secret" {
  triggers_replace = [var.size, var.secret]
}
resource "terraform_data" "slow" {
  triggers_replace = [var.size, var.seconds]
  provisioner "local-exec" { command = "echo started > ../../../started; sleep ${var.seconds}" }
}
resource "terraform_data" "after" { input = [var.size, terraform_data.slow.id] }
output "size" { value = var.size }
output "secret" {
  value     = var.secret
  sensitive = true
}
"""


class MemoryLedger:
    """A ledger in memory."""

    place = "memory"

    def __init__(self) -> None:
        self.releases: list[Release] = []
        self.error: RefinerctlError | None = None

    def read(self) -> tuple[Release, ...]:
        return tuple(self.releases)

    def append(self, release: Release) -> None:
        if self.error:
            raise self.error
        self.releases.append(release)


RESUME = "refinerctl deploy --env test --stack tiny"


class Project:
    """A project with one small root module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        layout = Layout(folder)
        self.module = layout.root_module("tiny")
        self.module.mkdir(parents=True)
        (self.module / "main.tf").write_text(MODULE)
        layout.environment("test").mkdir(parents=True)
        self.told: list[str] = []
        self.ledger = MemoryLedger()
        terraform = Terraform(
            self.module,
            folder / "data",
            folder / "work",
            log=folder / "terraform.log",
            lock_timeout_s=0,
            tell=self.told.append,
        )
        self.root = RootModule("test", "tiny", terraform, layout)

    def set(self, **values: Any) -> None:
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        self.root.var_file.write_text(lines)

    def plan(self, tag: str | None = None, root: RootModule | None = None) -> Plan:
        return make_plan(root or self.root, Pins(tag), self.folder, Progress())

    def load(self, saved: Path, tag: str | None = None) -> Plan:
        return load_plan(self.root, saved, self.folder, Progress(), tag=tag)

    def deploy(self, plan: Plan | None = None, root: RootModule | None = None) -> bool:
        """Whether it has applied anything."""
        plan = plan or self.plan(root=root)
        return apply_plan(root or self.root, plan, self.ledger, "alice", Progress(), RESUME)[0]

    def state(self) -> dict[str, Any]:
        """The state as terraform keeps it."""
        document: dict[str, Any] = json.loads((self.module / "terraform.tfstate").read_text())
        return document

    def resources(self) -> list[str]:
        return sorted(resource["name"] for resource in self.state()["resources"])


def until(look_: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not look_():
        assert time.monotonic() < deadline
        time.sleep(0.02)
