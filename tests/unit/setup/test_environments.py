"""What is wrong with an environment's configuration: file, key and fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, Finished
from tests.small_project import BACKEND, CONFIG, REFINER, RNR, write_environment, write_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems(done: Finished, env: str = "lab") -> list[tuple[str, str, str | None]]:
    (environment,) = (item for item in done.json()["environments"] if item["name"] == env)
    return [(problem["severity"], problem["file"], problem["key"]) for problem in environment["problems"]]


def test_an_environment_without_problems(refinerctl: Command, project: Path) -> None:
    done = refinerctl("env", "list", "--output", "json")

    assert done.code == 0, done.out
    assert done.json() == {
        "environments": [
            {
                "name": "lab",
                "default": True,
                "embedded": False,
                "account": "123456789012",
                "region": "us-east-1",
                "bucket": "lab-data",
                "state": "s3://lab-state",
                "stacks": ["refiner"],
                "problems": [],
            }
        ]
    }


def test_a_project_whose_commands_have_to_name_an_environment(refinerctl: Command, project: Path) -> None:
    (project / "refinerctl.toml").write_text(CONFIG.replace('environment = "lab"', ""))

    listed = refinerctl("env", "list", "--output", "json")
    checked = refinerctl("--env", "lab", "doctor", "--offline")

    assert [item["default"] for item in listed.json()["environments"]] == [False]
    assert "PASS  configuration  environment lab" in checked.out
    assert refinerctl("env", "list").code == 0


def test_a_default_environment_that_does_not_exist(refinerctl: Command, project: Path) -> None:
    (project / "refinerctl.toml").write_text(CONFIG.replace('environment = "lab"', 'environment = "lap"'))

    done = refinerctl("env", "list")

    assert (done.code, done.out) == (2, "")
    assert "environment 'lap' does not exist" in done.err


@pytest.mark.parametrize(
    ("files", "file", "key"),
    [
        ({"refiner.tfvars": None}, "refiner.tfvars", None),
        ({"refiner.tfvars": f"{REFINER}rulesets = {{"}, "refiner.tfvars", None),
        ({"refiner.tfvars": f'{REFINER}bucket_nam = "x"\n'}, "refiner.tfvars", "bucket_nam"),
        ({"refiner.tfvars": REFINER.replace("lab-data", "other-data")}, "refiner.tfvars", "bucket_name"),
        ({"refiner.tfvars": REFINER.replace("us-east-1", "eu-west-1")}, "refiner.tfvars", "region"),
        ({"refiner.tfvars": f"{REFINER}rulesets = {{ A = {{}} }}\n"}, "refiner.tfvars", None),
        ({"rnr.tfvars": 'app_name = "rnr"\nenv = "lab"\n'}, "rnr.tfvars", "input_bucket_name"),
        ({"backend.hcl": None}, "backend.hcl", None),
        ({"backend.hcl": 'region = "us-east-1"\n'}, "backend.hcl", "bucket"),
        ({"backend.hcl": "bucket = lab\n"}, "backend.hcl", None),
    ],
)
def test_a_wrong_file_is_named_with_its_key(
    refinerctl: Command, project: Path, files: dict[str, str | None], file: str, key: str | None
) -> None:
    write_environment(project, "lab", **files)
    done = refinerctl("env", "list", "--output", "json")

    assert done.code == 5
    assert problems(done) == [("error", f"terraform/environments/lab/{file}", key)]


@pytest.mark.parametrize(
    ("line", "severity", "key"),
    [
        ('region = "us-east-1"', "error", "environments.lab.region"),
        ('account = "123456789012"', "warning", "environments.lab.account"),
    ],
)
def test_a_missing_key_of_the_section(
    refinerctl: Command, project: Path, line: str, severity: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")  # others may have another one
    (project / "refinerctl.toml").write_text(CONFIG.replace(line, ""))
    done = refinerctl("env", "list", "--output", "json")

    assert (done.code, problems(done)) == (5 if severity == "error" else 0, [(severity, "refinerctl.toml", key)])


def test_a_stack_with_a_bucket_of_its_own(refinerctl: Command, project: Path) -> None:
    write_environment(project, "lab", **{"rnr.tfvars": RNR.replace("lab-data", "forecasts")})
    text = refinerctl("env", "list").out

    assert "terraform/environments/lab/rnr.tfvars: input_bucket_name: forecasts is not the bucket" in text
    assert 'set bucket = "forecasts" in [environments.lab.stacks.rnr]' in text


def test_an_incomplete_environment_is_reported(refinerctl: Command, project: Path) -> None:
    """A folder without a section, and a section without a folder."""
    write_environment(project, "stray", **{"refiner.tfvars": REFINER})
    with (project / "refinerctl.toml").open("a") as file:
        file.write('[environments.bare]\nregion = "us-east-1"\naccount = "123456789012"\n')
    done = refinerctl("env", "list", "--output", "json")

    assert done.code == 5
    assert problems(done, "stray") == [("error", "refinerctl.toml", "environments.stray")]
    assert problems(done, "bare") == [("error", "terraform/environments/bare", None)]


def test_environments_must_not_share_a_state(refinerctl: Command, project: Path) -> None:
    with (project / "refinerctl.toml").open("a") as file:
        file.write(CONFIG.partition("\n[")[2].join(("[", "")).replace("lab", "copy"))
    write_environment(project, "copy", **{"refiner.tfvars": REFINER.replace("lab", "copy"), "backend.hcl": BACKEND})
    done = refinerctl("env", "list", "--output", "json")

    for env in ("lab", "copy"):
        assert problems(done, env) == [("error", f"terraform/environments/{env}/backend.hcl", "bucket")]


@pytest.mark.parametrize(
    ("section", "state"),
    [('backend = "http"\n', "http"), ("", "emulator")],
)
def test_states_that_are_not_in_s3(refinerctl: Command, project: Path, section: str, state: str) -> None:
    own = section or "embedded = true\n"
    (project / "refinerctl.toml").write_text(CONFIG + own)
    write_environment(project, "lab", **{"backend.hcl": None})
    done = refinerctl("env", "list", "--output", "json")

    found: Any = done.json()["environments"][0]
    assert (done.code, found["state"], found["problems"]) == (0, state, [])


def test_this_repository(refinerctl: Command, root: Path) -> None:
    """Its example of an environment names no account."""
    done = refinerctl("env", "list", cwd=root)

    assert done.code == 0, done.out
    assert "\nlocal *  " in done.out
    assert "warning  refinerctl.toml: environments.production.account: is missing" in done.out


def test_outside_of_a_project(refinerctl: Command, tmp_path: Path) -> None:
    done = refinerctl("env", "list", cwd=tmp_path)

    assert done.code == 1
    assert "no refinerctl.toml in this folder" in done.err
