"""A small project with one environment, `lab`, in which nothing is wrong."""

from __future__ import annotations

from pathlib import Path

ACCOUNT = "123456789012"
BUCKET, STATE_BUCKET = "lab-data", "lab-state"
# A part of the real root modules, which take half a second to parse.
MODULES = {
    "refiner": """
terraform {
  backend "s3" { key = "refiner/terraform.tfstate" }
}
variable "region" { default = null }
variable "bucket_name" { default = "data-repository" }
variable "rulesets" { default = {} }
""",
    "rnr": """
terraform {
  backend "s3" { key = "rnr/terraform.tfstate" }
}
variable "app_name" {}
variable "env" {}
variable "input_bucket_name" {}
variable "output_bucket_name" { default = null }
""",
}
REFINER = f'region = "us-east-1"\nbucket_name = "{BUCKET}"\n'
RNR = f'app_name = "rnr"\nenv = "lab"\ninput_bucket_name = "{BUCKET}"\n'
BACKEND = f'bucket = "{STATE_BUCKET}"\nregion = "us-east-1"\n'
CONFIG = f"""
environment = "lab"
[environments.lab]
region = "us-east-1"
account = "{ACCOUNT}"
bucket = "{BUCKET}"
"""


def write_project(folder: Path, config: str = CONFIG) -> None:
    for stack, text in MODULES.items():
        (folder / "terraform" / "stacks" / stack).mkdir(parents=True)
        (folder / "terraform" / "stacks" / stack / "main.tf").write_text(text)
    (folder / "refinerctl.toml").write_text(config)
    write_environment(folder, "lab", **{"refiner.tfvars": REFINER, "backend.hcl": BACKEND})


def write_environment(project: Path, env: str, **files: str | None) -> None:
    """Write files of an environment's folder; None removes one."""
    folder = project / "terraform" / "environments" / env
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text)
