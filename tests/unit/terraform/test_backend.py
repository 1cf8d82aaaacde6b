"""Where a stack's state is: blocks, files and variables put together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from refinerctl.config import GlobalFlags, Settings, load_settings
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.layout import Layout
from refinerctl.terraform.backend import OVERRIDE_NAME, Backend, read_backend

GITLAB = {
    "CI_API_V4_URL": "https://gitlab.example/api/v4",
    "CI_PROJECT_ID": "42",
    "CI_JOB_TOKEN": "job-token",
}
STATE = "https://gitlab.example/api/v4/projects/42/terraform/state/refiner-production"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one stack, one module and two environments: `production` in S3, `gitlab` over HTTP."""
    (tmp_path / "refinerctl.toml").write_text(
        '[environments.production]\n[environments.gitlab]\nbackend = "http"\n', encoding="utf-8"
    )
    stack = tmp_path / "terraform" / "stacks" / "refiner"
    stack.mkdir(parents=True)
    (stack / "main.tf").write_text(
        'terraform {\n  backend "s3" {\n    key = "refiner/terraform.tfstate"\n  }\n}\n'
        'module "one" {\n  source = "../../modules/one"\n}\n',
        encoding="utf-8",
    )
    (stack / "templates").mkdir()
    (stack / ".terraform").mkdir()
    module = tmp_path / "terraform" / "modules" / "one"
    module.mkdir(parents=True)
    (module / "main.tf").write_text('output "one" {\n  value = 1\n}\n', encoding="utf-8")
    environment = tmp_path / "terraform" / "environments" / "production"
    environment.mkdir(parents=True)
    (environment / "backend.hcl").write_text(
        'bucket = "states"\nregion = "eu-west-1"\nencrypt = true\n', encoding="utf-8"
    )
    return tmp_path


def _settings(project: Path, env: str) -> Settings:
    return load_settings(GlobalFlags(env=env), {}, project)


def _http(project: Path, environ: dict[str, str]) -> Backend:
    return read_backend(_settings(project, "gitlab"), "refiner", environ=environ)


def test_s3_backend_merges_block_and_file(project: Path) -> None:
    backend = read_backend(_settings(project, "production"), "refiner")

    assert backend.settings == {
        "key": "refiner/terraform.tfstate",
        "bucket": "states",
        "region": "eu-west-1",
        "encrypt": True,
    }
    assert backend.place == "s3://states/refiner/terraform.tfstate"
    file = project / "terraform" / "environments" / "production" / "backend.hcl"
    assert backend.init_arguments == (f"-backend-config={file}",)
    assert backend.prepare_module(Layout(project), "refiner") == project / "terraform" / "stacks" / "refiner"
    assert backend.environment == {}


def test_overrides_of_an_embedded_environment_win(project: Path) -> None:
    backend = read_backend(_settings(project, "production"), "refiner", {"bucket": "mine", "region": "us-east-1"})

    assert (backend.settings["bucket"], backend.settings["region"]) == ("mine", "us-east-1")
    assert backend.init_arguments[1:] == ("-backend-config=bucket=mine", "-backend-config=region=us-east-1")


def test_s3_backend_without_a_bucket_is_an_error(project: Path) -> None:
    file = project / "terraform" / "environments" / "production" / "backend.hcl"
    file.unlink()
    with pytest.raises(RefinerctlError, match="no bucket in S3 is set") as said:
        read_backend(_settings(project, "production"), "refiner")
    assert str(file) in (said.value.hint or "")


def test_missing_root_module_is_an_error(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(NotFoundError, match=r"Terraform root module .* does not exist") as said:
        read_backend(_settings(project, "production"), "registry")
    assert said.value.hint is None
    with pytest.raises(NotFoundError, match=r"no refinerctl.toml in") as said:
        read_backend(_settings(tmp_path_factory.mktemp("elsewhere"), "local"), "refiner")
    assert "Run this in a project" in (said.value.hint or "")


def test_gitlab_job_uses_its_projects_state(project: Path) -> None:
    backend = _http(project, GITLAB)
    address = "https://gitlab.example/api/v4/projects/42/terraform/state/refiner-gitlab"

    assert backend.place == address
    assert backend.environment == {
        "TF_HTTP_ADDRESS": address,
        "TF_HTTP_LOCK_ADDRESS": f"{address}/lock",
        "TF_HTTP_UNLOCK_ADDRESS": f"{address}/lock",
        "TF_HTTP_LOCK_METHOD": "POST",
        "TF_HTTP_UNLOCK_METHOD": "DELETE",
        "TF_HTTP_USERNAME": "gitlab-ci-token",
        "TF_HTTP_PASSWORD": "job-token",
    }
    assert backend.init_arguments == ()
    assert "job-token" not in repr(backend) + str(backend.settings)


def test_variables_win_over_the_jobs_own(project: Path) -> None:
    given = {"TF_HTTP_ADDRESS": STATE, "TF_HTTP_USERNAME": "me", "TF_HTTP_PASSWORD": "mine"}
    environment = _http(project, GITLAB | given).environment

    assert environment["TF_HTTP_ADDRESS"] == STATE
    assert environment["TF_HTTP_LOCK_ADDRESS"] == f"{STATE}/lock"
    assert (environment["TF_HTTP_USERNAME"], environment["TF_HTTP_PASSWORD"]) == ("me", "mine")


def test_job_token_is_sent_to_gitlab_only(project: Path) -> None:
    backend = _http(project, GITLAB | {"TF_HTTP_ADDRESS": "https://gitlab.example.org/api/v4/x"})

    assert backend.environment == {"TF_HTTP_ADDRESS": "https://gitlab.example.org/api/v4/x"}


def test_file_wins_over_variables(project: Path) -> None:
    folder = project / "terraform" / "environments" / "gitlab"
    folder.mkdir()
    (folder / "backend.hcl").write_text(f'address = "{STATE}"\n', encoding="utf-8")
    backend = _http(project, {"TF_HTTP_ADDRESS": "https://other.example/x", "TF_HTTP_UPDATE_METHOD": "PUT"})

    assert backend.settings == {"address": STATE, "update_method": "PUT"}
    assert backend.init_arguments == (f"-backend-config={folder / 'backend.hcl'}",)


def test_http_backend_without_an_address_is_an_error(project: Path) -> None:
    with pytest.raises(RefinerctlError, match="address of the state refiner-gitlab is not set") as said:
        _http(project, {})
    assert "TF_HTTP_ADDRESS" in (said.value.hint or "")


def test_password_in_the_address_is_an_error_that_hides_it(project: Path) -> None:
    with pytest.raises(RefinerctlError) as said:
        _http(project, {"TF_HTTP_ADDRESS": "https://me:secret-1@example.org/x"})
    assert "secret-1" not in said.value.message + str(said.value.hint)


def test_linked_module_overrides_the_backend(project: Path) -> None:
    backend = _http(project, GITLAB)
    stack = project / "terraform" / "stacks" / "refiner"
    module = backend.prepare_module(Layout(project), "refiner")

    assert module.is_relative_to(project / ".refinerctl")
    assert (module / "main.tf").read_bytes() == (stack / "main.tf").read_bytes()
    assert (module / "templates").is_dir()
    assert not (module / ".terraform").exists()
    assert (module / "../../modules/one/main.tf").is_file()
    assert 'backend "http" {}' in (module / OVERRIDE_NAME).read_text(encoding="utf-8")
    assert not (stack / OVERRIDE_NAME).exists()


def test_linked_module_is_updated_when_files_change(project: Path) -> None:
    backend = _http(project, GITLAB)
    stack = project / "terraform" / "stacks" / "refiner"
    module = backend.prepare_module(Layout(project), "refiner")
    (module / "errored.tfstate").write_text("{}", encoding="utf-8")
    before = os.lstat(module / "templates").st_ino
    (stack / "main.tf").rename(stack / "other.tf")
    (stack / "errored.tfstate").write_text("the stack's own", encoding="utf-8")
    backend.prepare_module(Layout(project), "refiner")

    names = sorted(path.name for path in module.iterdir())
    assert names == ["errored.tfstate", "other.tf", OVERRIDE_NAME, "templates"]
    assert (module / "errored.tfstate").read_text(encoding="utf-8") == "{}"
    assert os.lstat(module / "templates").st_ino == before
