"""A copy of this project for end-to-end tests, and the installed command run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.config import Config

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("refinerctl")
IMAGES = {
    "faulty": Path(__file__).parent / "images" / "faulty",
    "dibbs-refiner": ROOT / "tests" / "fixtures" / "images" / "dibbs-refiner",
}

# Short timeouts, so that what fails is dead within seconds: a message comes back after its visibility timeout.
RULESETS = """
s3_use_path_style = true
alarms            = { enabled = false } # the emulator forgets their period: docs/local.md
force_destroy     = true
release_tag       = "local"

rulesets = {
  RefinerInput = {
    prefix               = "RefinerInput/"
    image_uri            = "dibbs-ecr-refiner/lambda"
    timeout_s            = 60
    visibility_timeout_s = 60
  }
  RefinerComplete = {
    prefix = "RefinerComplete/"
  }
  PoisonInput = {
    prefix               = "PoisonInput/"
    image_uri            = "dibbs-ecr-refiner/lambda"
    timeout_s            = 6
    visibility_timeout_s = 6
  }
  FaultyInput = {
    prefix               = "FaultyInput/"
    image_uri            = "tests/faulty"
    timeout_s            = 2
    visibility_timeout_s = 2
    memory_mb            = 192
    max_receive_count    = 2
    batch_size           = 1
  }
  DibbsInput = {
    prefix               = "DibbsInput/"
    image_uri            = "tests/dibbs-refiner"
    timeout_s            = 6
    visibility_timeout_s = 6
    max_receive_count    = 1
    environment = {
      REFINER_INPUT_PREFIX    = "DibbsInput/"
      REFINER_OUTPUT_PREFIX   = "RefinerOutput/"
      REFINER_COMPLETE_PREFIX = "RefinerComplete/DibbsInput/"
      EICR_INPUT_PREFIX       = "EicrInput/"
      S3_BUCKET_CONFIG        = "refiner-config"
    }
    read_access = ["EicrInput/", "s3://refiner-config/configurations/"]
  }
}
"""
CONFIG_BUCKET = "refiner-config"


# The two that the containers need: each ruleset more is a queue more to wait for.
FAULTY_RULESET = """
s3_use_path_style = true
alarms            = { enabled = false } # the emulator forgets their period: docs/local.md
force_destroy     = true
release_tag       = "local"

rulesets = {
  RefinerInput = {
    prefix               = "RefinerInput/"
    image_uri            = "dibbs-ecr-refiner/lambda"
    timeout_s            = 30
    visibility_timeout_s = 30
  }
  FaultyInput = {
    prefix               = "FaultyInput/"
    image_uri            = "tests/faulty"
    timeout_s            = 5
    visibility_timeout_s = 5
    memory_mb            = 192
    max_receive_count    = 1
    batch_size           = 1
  }
}
"""


@dataclass(frozen=True)
class Project:
    """The folder of a project, with a home folder of its own beside it so that stray files are seen."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    command: Path = COMMAND

    @property
    def home(self) -> Path:
        return self.folder.parent / "home"

    @property
    def temporary(self) -> Path:
        return self.folder.parent / "tmp"

    def environment(self) -> dict[str, str]:
        """As a user may have it: somebody's profile, endpoint, proxy and emulator settings must not matter."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "REFINERCTL_"))}
        return inherited | {
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "AWS_PROFILE": "somebody-elses",
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "REFINERCTL_ENDPOINT_URL": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "http_proxy": "http://127.0.0.1:9",
            "SERVICES": "s3",
            **self.environ,
        }

    def run(self, *arguments: str, input: bytes | None = None, timeout: float = 240) -> Finished:  # noqa: A002
        """Run the installed command to its end."""
        done = subprocess.run(
            [self.command, *arguments],
            cwd=self.folder,
            env=self.environment(),
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the installed command in a session of its own; standard error comes with standard output."""
        return subprocess.Popen(
            [self.command, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def client(self, service: Any) -> Any:
        """A plain boto3 client of the local environment, to look at it without refinerctl's code."""
        state = json.loads((self.folder / ".refinerctl/local/state.json").read_text())
        return _client(service, state["endpoints"].get(service, state["endpoint_url"]))

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to a local environment of this project."""
        found = []
        for process in psutil.process_iter():
            try:
                marker = process.environ().get("REFINERCTL_LOCAL_INSTANCE", "")
            except psutil.Error:
                continue
            if marker.startswith(str(self.folder)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def files(self) -> set[str]:
        """Every file of the project, its home and its temporary folder, but for the work folder."""
        base = self.folder.parent
        found = {str(path.relative_to(base)) for path in base.rglob("*") if path.is_symlink() or not path.is_dir()}
        found |= {str(path.relative_to(base)) for folder in (self.home, self.temporary) for path in folder.rglob("*")}
        # pip asks rustc for its version, and rustup then writes its settings.
        others = (f"{self.folder.name}/.refinerctl/", "home/.rustup")
        return {name for name in found if not name.startswith(others)}


@dataclass(frozen=True)
class Finished:
    """What a command left."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.out, f"exit code {self.code}: {self.err}"
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def make_project(base: Path, environ: Mapping[str, str] | None = None, rulesets: str | None = None) -> Project:
    """A project folder as a clone has it, `rulesets` replacing those of environment `local`."""
    folder = base / "project"
    project = Project(folder, environ or {})
    for path in (folder, project.home, project.temporary):
        path.mkdir(parents=True)
    shutil.copytree(ROOT / "terraform", folder / "terraform", ignore=shutil.ignore_patterns(".terraform"))
    (folder / "images").symlink_to(ROOT / "images")
    # Made once for all projects; a project with other images would remove them as unused.
    (folder / ".refinerctl").mkdir()
    (ROOT / ".refinerctl" / "venvs").mkdir(parents=True, exist_ok=True)
    (folder / ".refinerctl" / "venvs").symlink_to(ROOT / ".refinerctl" / "venvs")
    config = (ROOT / "refinerctl.toml").read_text()
    if rulesets is not None:
        (folder / "terraform/environments/local/refiner.tfvars").write_text(rulesets)
        for name, folder_of_image in IMAGES.items():
            if f"tests/{name}" in rulesets:
                config += f'\n[images.{name}]\nrepository = "tests/{name}"\ncontext = "{folder_of_image}"\n'
    (folder / "refinerctl.toml").write_text(config)
    return project


@cache
def _client(service: Any, endpoint: str) -> Any:
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    return session.client(service, endpoint_url=endpoint, config=Config(proxies={}))


def eventually(look: Callable[[], Any], timeout_s: float = 60) -> Any:
    """The first truthy answer of `look`; the last one if none comes in time.

    A look that starts commands takes the processor from what is waited for: the pauses are longer then.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        answer = look()
        now = time.monotonic()
        if answer or now > deadline:
            return answer
        time.sleep(max(0.5, min(3 * (now - began), 5)))
