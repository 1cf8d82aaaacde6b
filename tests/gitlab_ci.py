"""Pipelines of GitLab on this machine: gitlab-ci-local runs the jobs of a repository, each in a folder of its own.

Only tracked files and artifacts reach a job. gitlab-ci-local does nothing for `id_tokens`, `resource_group` and access
to artifacts.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.needs import absent, needs_program

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tests" / "tools"
PROGRAM = TOOLS / "node_modules" / ".bin" / "gitlab-ci-local"
TIMEOUT_SECONDS = 550
ORIGIN = "https://gitlab.example.com/group/refinerctl.git"


@dataclass(frozen=True)
class PipelineRun:
    """What a pipeline left, by names of jobs: `warned` are those that may fail, as manual ones."""

    code: int
    output: str

    @property
    def passed(self) -> list[str]:
        return self._jobs("PASS")

    @property
    def failed(self) -> list[str]:
        return self._jobs("FAIL")

    @property
    def warned(self) -> list[str]:
        return self._jobs("WARN")

    def _jobs(self, status: str) -> list[str]:
        return re.findall(rf"^ {status} +(\S+)", self.output, re.MULTILINE)


@dataclass(frozen=True)
class GitlabRepository:
    """A repository with a .gitlab-ci.yml. `environ` is what its jobs inherit."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @classmethod
    def make(cls, folder: Path, environ: Mapping[str, str], origin: str = ORIGIN) -> GitlabRepository:
        """Commit everything in `folder`, on branch main."""
        if not PROGRAM.exists():
            absent("gitlab-ci-local is not installed: run `make test` once")
        needs_program("rsync", "rsync")
        repository = cls(folder, environ)
        repository.git("init", "--quiet", "--initial-branch", "main")
        repository.git("remote", "add", "origin", origin)
        repository.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
        for name in ("name", "email"):
            repository.git("config", f"user.{name}", "tests@example.com")
        repository.commit()
        return repository

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "A commit")

    def run(self, *arguments: str, **variables: str) -> PipelineRun:
        """Run jobs, all that are not manual by default, with `variables`; a CI_COMMIT_TAG makes it a tag's pipeline."""
        if "CI_COMMIT_TAG" in variables:
            arguments = (*arguments, "--unset-variable", "CI_COMMIT_BRANCH")
        given = [word for name, value in variables.items() for word in ("--variable", f"{name}={value}")]
        options = ["--shell-isolation", "--force-shell-executor", "--no-color", "--no-json-schema-validation"]
        options += ["--ignore-predefined-vars", ",".join(variables)]
        command = [str(PROGRAM), *options, *given, *arguments]
        # It copies a component that is included twice two times at once, and fails if the copies meet.
        first = self._run(command)
        return self._run(command) if "include could not be fetched" in first.output else first

    def _run(self, command: list[str]) -> PipelineRun:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={
                **self.environ,
                "NODE_OPTIONS": f"--require={TOOLS / 'node20.cjs'}",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return PipelineRun(done.returncode, done.stdout)

    def jobs(self, **variables: str) -> dict[str, str]:
        """The jobs of the pipeline that `variables` would start, with their `when`."""
        listed = self.run("--list-csv", **variables)
        assert listed.code == 0, listed.output
        rows = listed.output.partition("needs\n")[2].splitlines()
        return {name: when for name, _, when, *_ in (row.split(";") for row in rows)}

    def checkout(self, job: str) -> Path:
        """The folder that a job ran in."""
        name = re.sub(r"[^\w-]+", lambda found: urlsafe_b64encode(found[0].encode()).decode().rstrip("="), job)
        return self.folder / ".gitlab-ci-local" / "builds" / name
