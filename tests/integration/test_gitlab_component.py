"""The GitLab pipeline and its component: schema, rules, roles, tokens, and its use from another repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from ruamel.yaml import YAML

from tests.command_lines import check
from tests.gitlab_ci import ORIGIN, ROOT, GitlabRepository
from tests.integration.servers import Answer, Request, Server, serving

BIN = Path(sys.executable).parent
TAG = {"CI_COMMIT_TAG": "v1.2.3"}
SCHEDULE = {"CI_PIPELINE_SOURCE": "schedule"}
MERGE_REQUEST = {"CI_PIPELINE_SOURCE": "merge_request_event", "CI_COMMIT_BRANCH": ""}
BRANCH = {"CI_COMMIT_BRANCH": "feature"}
RELEASE = ["sync", "plan", "deploy", "verify", "rollback", "destroy"]
CHECKS = ["lint", "validate", "test"]
ROLE_PREFIX = "arn:aws:iam::123456789012:role/refinerctl"
KEY = "ASIAOFTHEROLE"
ISSUER = "https://gitlab.example.com"


def make_repository(root: Path, folder: Path, pipeline: str | None = None) -> GitlabRepository:
    """A repository with this one's pipeline and component, or with a `pipeline` of its own."""
    (folder / "home").mkdir(parents=True)
    (folder / "home" / ".gitignore").write_text("*\n")
    if pipeline is None:
        shutil.copytree(root / "templates", folder / "templates")
        shutil.copy(root / ".gitlab-ci.yml", folder)
        shutil.copytree(root / "terraform/environments/production", folder / "terraform/environments/dev")
    else:
        (folder / ".gitlab-ci.yml").write_text(pipeline)
    origin = ORIGIN if pipeline is None else ORIGIN.replace("refinerctl", "team")
    return GitlabRepository.make(folder, os.environ | {"HOME": str(folder / "home")}, origin)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> GitlabRepository:
    return make_repository(ROOT, tmp_path_factory.mktemp("gitlab"))


@pytest.fixture(scope="module")
def jobs(repository: GitlabRepository) -> Mapping[str, Any]:
    """All jobs as GitLab sees them: with inputs, and what they extend."""
    return expanded(repository, PRODUCTION_ROLE_PREFIX=ROLE_PREFIX)


def expanded(repository: GitlabRepository, **variables: str) -> Mapping[str, Any]:
    repository.jobs(**variables)
    document = YAML(typ="safe").load(repository.folder / ".gitlab-ci-local" / "expanded-gitlab-ci.yml")
    return {name: job for name, job in document.items() if isinstance(job, dict) and "script" in job}


@pytest.mark.usefixtures("jobs")
def test_pipeline_follows_gitlabs_schema(root: Path, repository: GitlabRepository, tmp_path: Path) -> None:
    header = tmp_path / "spec.yml"
    header.write_text((root / "templates/refinerctl/template.yml").read_text().partition("\n---\n")[0])
    files = [root / ".gitlab-ci.yml", header, repository.folder / ".gitlab-ci-local" / "expanded-gitlab-ci.yml"]
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]

    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "checks", "expected"),
    [
        ({}, True, RELEASE),
        (TAG, True, RELEASE),
        (SCHEDULE, False, ["detect", *RELEASE[:4], "drift", "report"]),
        (SCHEDULE | {"SCHEDULE": "release"}, False, ["detect", *RELEASE[:4]]),
        (SCHEDULE | {"SCHEDULE": "drift report"}, False, ["drift", "report"]),
        (MERGE_REQUEST, True, ["plan", "report"]),
        (BRANCH, True, []),
    ],
    ids=["merge", "tag", "schedule", "schedule of releases", "other schedule", "merge request", "branch"],
)
def test_jobs_of_each_kind_of_pipeline(
    repository: GitlabRepository, variables: dict[str, str], checks: bool, expected: list[str]
) -> None:
    found = repository.jobs(**variables, PRODUCTION_ROLE_PREFIX=ROLE_PREFIX)

    environments = [f"{job}:{name}" for job in expected for name in ("dev", "production")]
    own = [*CHECKS, *(["release"] if variables == TAG else [])] if checks else []
    assert sorted(found) == sorted(environments + own)
    deployments = {"deploy:dev": "on_success", "deploy:production": "manual"}
    assert {name: when for name, when in found.items() if name.startswith("deploy:")} == (
        deployments if "deploy" in expected else {}
    )
    for name in ("rollback:dev", "destroy:dev"):
        assert found.get(name, "manual") == "manual"


def test_environment_without_a_role_or_values_has_no_jobs(repository: GitlabRepository) -> None:
    assert not [name for name in repository.jobs() if name.endswith(":production")]


def test_jobs_that_change_an_environment_run_one_at_a_time_and_are_not_interrupted(jobs: Mapping[str, Any]) -> None:
    changing = {name for name, job in jobs.items() if re.search(r"refinerctl (deploy|rollback|destroy)\b", str(job))}

    assert changing == {f"{job}:{env}" for job in ("deploy", "rollback", "destroy") for env in ("dev", "production")}
    for name in changing:
        assert jobs[name]["resource_group"] == f"{name.partition(':')[2]}/refiner"
        assert jobs[name]["environment"]["name"] == name.partition(":")[2]
        assert jobs[name]["interruptible"] is False
        # Half of a deployment would be drift.
        assert jobs[f"drift:{name.partition(':')[2]}"]["resource_group"] == jobs[name]["resource_group"]
        # What exists nowhere else.
        assert jobs[name]["artifacts"]["when"] == "always"
        assert any("errored.tfstate" in path for path in jobs[name]["artifacts"]["paths"])


def test_artifacts_expire_and_those_with_secrets_are_for_developers(jobs: Mapping[str, Any]) -> None:
    given = {name: job["artifacts"] for name, job in jobs.items() if "artifacts" in job}

    assert all("expire_in" in artifacts for artifacts in given.values())
    with_files = {name for name, artifacts in given.items() if artifacts.get("paths")}
    assert with_files == {
        f"{job}:{env}"
        for job in ("sync", "plan", "deploy", "rollback", "destroy", "report")
        for env in ("dev", "production")
    }
    assert {given[name]["access"] for name in with_files} == {"developer"}
    for kind, job, name in (
        ("terraform", "plan:dev", "plan.json"),
        ("dotenv", "sync:dev", "images.env"),
        ("junit", "verify:dev", "verify.xml"),
        ("junit", "test", "junit.xml"),
    ):
        assert given[job]["reports"] == {kind: name}
    assert given["report:dev"]["expose_as"]


def test_each_job_has_the_role_with_the_least_rights(jobs: Mapping[str, Any]) -> None:
    roles = {name.partition(":")[0]: job["variables"]["AWS_ROLE_NAME"] for name, job in jobs.items() if ":" in name}

    assert roles == {
        **dict.fromkeys(("plan", "drift"), "plan"),
        **dict.fromkeys(("detect", "sync"), "sync"),
        **dict.fromkeys(("deploy", "rollback", "destroy"), "deploy"),
        **dict.fromkeys(("verify", "report"), "operate"),
    }
    for name, job in jobs.items():
        assert "services" not in job, name  # no Docker-in-Docker
        assert ("id_tokens" in job) == (":" in name)


@pytest.mark.parametrize(
    ("job", "variables", "expected"),
    [
        ("detect", {}, "releases --new --limit 1"),
        ("sync", {"CI_COMMIT_TAG": "v1"}, "sync --tag v1 --engine registry --dotenv images.env"),
        ("sync", {}, None),
        ("sync", {"RELEASE_TAG": "none"}, None),
        (
            "sync",
            {"RELEASE_TAG": "v2", "CI_COMMIT_TAG": "v1", "GITHUB_IMAGE": "ghcr.io/a/b", "ECR_REPO": "c"},
            "sync ghcr.io/a/b:v2 c:v2 --engine registry --dotenv images.env",
        ),
        ("plan", {}, "plan --report plan.json --markdown plan.md --out release.tfplan"),
        ("plan", {"CI_MERGE_REQUEST_IID": "1"}, "plan --report plan.json --markdown plan.md"),
        (
            "plan",
            {"CI_MERGE_REQUEST_IID": "1", "GITLAB_TOKEN": "t"},
            "plan --report plan.json --markdown plan.md --gitlab-note",
        ),
        ("deploy", {}, "deploy --plan release.tfplan --yes"),
        ("verify", {}, "verify --junit verify.xml"),
        ("rollback", {}, "rollback --yes"),
        ("rollback", {"ROLLBACK_TO": "v0"}, "rollback --yes --to v0"),
        ("destroy", {"CONFIRM": "dev"}, "destroy --confirm dev"),
        ("drift", {}, "drift"),
        ("drift", {"GITLAB_TOKEN": "t"}, "drift --gitlab-issue"),
        ("report", {}, "report --html report.html --since 7d"),
    ],
)
def test_commands_of_the_jobs(
    jobs: Mapping[str, Any], tmp_path: Path, job: str, variables: dict[str, str], expected: str | None
) -> None:
    """With a program that only says how it was called."""
    (tmp_path / "refinerctl").write_text('#!/bin/sh\necho refinerctl "$@" >&2\n')
    (tmp_path / "refinerctl").chmod(0o755)
    lines = "\n".join([*jobs[f"{job}:dev"]["before_script"], *jobs[f"{job}:dev"]["script"]])
    environ = jobs[f"{job}:dev"]["variables"] | variables | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    done = subprocess.run(["sh", "-ec", lines], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ([f"refinerctl {expected}"] if expected else [])
    if expected:
        check(("refinerctl", *expected.split()))


class TokenService:
    """STS as far as a job needs it: exchanges a token that GitLab has signed for the role that it names."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.roles: list[str] = []

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        given = {"iss": ISSUER, "aud": ISSUER, "sub": "project_path:group/refinerctl:ref_type:branch:ref:main"}
        return jwt.encode({**given, "exp": now + 300, **claims}, self.key, "ES256")

    def answer(self, request: Request) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form["Action"] == "GetCallerIdentity":
            assert f"Credential={KEY}/" in request.authorization
            identity = "<Arn>arn:aws:sts::999999999999:assumed-role/x/y</Arn><Account>999999999999</Account>"
            return self._result("GetCallerIdentity", identity)
        try:
            jwt.decode(form["WebIdentityToken"], self.key.public_key(), ["ES256"], audience=ISSUER, issuer=ISSUER)
        except jwt.PyJWTError as error:
            text = f"<Error><Code>InvalidIdentityToken</Code><Message>{error}</Message></Error>"
            return Answer(400, f"<ErrorResponse>{text}</ErrorResponse>".encode())
        self.roles.append(form["RoleArn"])
        expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        given = {"AccessKeyId": KEY, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": expiration}
        credentials = "".join(f"<{name}>{value}</{name}>" for name, value in given.items())
        return self._result("AssumeRoleWithWebIdentity", f"<Credentials>{credentials}</Credentials>")

    @staticmethod
    def _result(action: str, text: str) -> Answer:
        body = f"<{action}Response><{action}Result>{text}</{action}Result></{action}Response>"
        return Answer(200, body.encode(), {"Content-Type": "text/xml"})


@pytest.fixture
def tokens() -> TokenService:
    return TokenService()


@pytest.fixture
def sts(tokens: TokenService) -> Iterator[Server]:
    with serving(tokens.answer) as server:
        yield server


def run_job(job: Mapping[str, Any], folder: Path, sts: Server, token: str) -> subprocess.CompletedProcess[str]:
    """Run the shell lines of a job of environment `production`, which is in account 123456789012."""
    (folder / "tmp").mkdir()
    (folder / "terraform").symlink_to(ROOT / "terraform")
    environments = (
        f'[environments.production]\nregion = "us-east-1"\naccount = "123456789012"\nendpoint_url = "{sts.url}"\n'
    )
    (folder / "refinerctl.toml").write_text(environments)
    environ = os.environ | job["variables"] | {"AWS_ID_TOKEN": token, "PRODUCTION_ROLE_PREFIX": ROLE_PREFIX}
    environ |= {"TMPDIR": str(folder / "tmp"), "PATH": f"{BIN}:{os.environ['PATH']}", "AWS_ENDPOINT_URL": sts.url}
    lines = "\n".join([*job["before_script"], *job["script"]])
    return subprocess.run(
        ["sh", "-ec", lines], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_token_of_a_job_is_in_a_file_that_other_jobs_cannot_read(
    jobs: Mapping[str, Any], sts: Server, tmp_path: Path
) -> None:
    """Other jobs on the runner share the builds folder."""
    look = 'stat -c "%a %n" "$AWS_WEB_IDENTITY_TOKEN_FILE" && cat "$AWS_WEB_IDENTITY_TOKEN_FILE"'

    done = run_job(jobs["plan:production"] | {"script": [look]}, tmp_path, sts, "t0ken")

    assert re.fullmatch(rf"600 {tmp_path}/tmp/\S+\nt0ken", done.stdout)
    assert [*(tmp_path / "tmp").iterdir()] == []


def test_token_that_the_runner_has_for_all_its_jobs_is_kept(jobs: Mapping[str, Any], tmp_path: Path) -> None:
    """As in a pod of EKS, where it is on a volume that is read-only."""
    (tmp_path / "token").write_text("the runner's")
    job = jobs["plan:dev"]
    environ = job["variables"] | {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "PATH": os.environ["PATH"]}

    subprocess.run(["sh", "-ec", "\n".join([*job["before_script"], "true"])], cwd=tmp_path, env=environ, check=True)

    assert (tmp_path / "token").read_text() == "the runner's"


def test_token_of_a_job_is_exchanged_for_its_role(
    jobs: Mapping[str, Any], tokens: TokenService, sts: Server, tmp_path: Path
) -> None:
    done = run_job(jobs["rollback:production"], tmp_path, sts, tokens.token())

    assert tokens.roles[:1] == [f"{ROLE_PREFIX}-deploy"], done.stderr
    assert done.returncode == 4, done.stderr  # the service says that the role is in another account
    assert "999999999999" in done.stderr
    assert "The job failed with exit code 4." in done.stderr
    assert [*(tmp_path / "tmp").iterdir()] == []  # the file with the token
    assert tokens.token() not in done.stdout + done.stderr


@pytest.mark.parametrize("claims", [{"aud": "https://elsewhere.example.com"}, {"exp": 1}], ids=["audience", "expired"])
def test_refused_token_fails_the_job(
    jobs: Mapping[str, Any], tokens: TokenService, sts: Server, tmp_path: Path, claims: dict[str, Any]
) -> None:
    done = run_job(jobs["rollback:production"], tmp_path, sts, tokens.token(**claims))

    assert (done.returncode, tokens.roles) == (1, []), done.stderr
    assert "InvalidIdentityToken" in done.stderr


SECOND = """
stages: [prepare, sync-image, deploy, verify]
include:
  - component: $CI_SERVER_FQDN/group/refinerctl/refinerctl@{version}
    inputs:
      environment: staging
      deploy: {deploy}
  - component: $CI_SERVER_FQDN/group/refinerctl/refinerctl@{version}
    inputs:
      environment: staging
      stack: rnr
      job_prefix: rnr-
      engine: docker
"""


def second_repository(repository: GitlabRepository, folder: Path, pipeline: str) -> GitlabRepository:
    """A team's repository on the same GitLab, which has the component of `repository`."""
    second = make_repository(folder, folder / "team", pipeline)
    instead = "".join(f"\tinsteadOf = {url}\n" for url in (ORIGIN, ORIGIN.replace(".com/", ".com:443/")))
    (second.folder / "home" / ".gitconfig").write_text(f'[url "{repository.folder}"]\n{instead}')
    return second


def test_component_in_another_repository_runs_the_image_of_its_own_commit(
    repository: GitlabRepository, tmp_path: Path
) -> None:
    repository.git("tag", "--force", "0.1.2")
    jobs = expanded(second_repository(repository, tmp_path, SECOND.format(version="0.1.2", deploy="manual")))

    assert {"plan:staging", "rnr-plan:staging"} < set(jobs)
    image, variables = jobs["plan:staging"]["image"]["name"], jobs["plan:staging"]["variables"]
    released = tomllib.loads((ROOT / "refinerctl.toml").read_text())["images"]["cli"]["source"]
    assert image == f"{released}:$CLI_TAG"
    assert variables["CLI_TAG"] == repository.git("rev-parse", "HEAD")
    assert jobs["rnr-deploy:staging"]["resource_group"] == "staging/rnr"
    assert jobs["rnr-deploy:staging"]["needs"][-1]["job"] == "rnr-plan:staging"
    assert jobs["rnr-plan:staging"]["variables"]["REFINERCTL_STACK"] == "rnr"
    assert '--engine "docker"' in str(jobs["rnr-sync:staging"]["script"])


def test_documented_pipeline_is_valid(root: Path, repository: GitlabRepository, tmp_path: Path) -> None:
    """The examples of docs/gitlab.md in one file, with a version that names no patch."""
    repository.git("tag", "--force", "0.1.2")
    blocks = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "gitlab.md").read_text(), re.DOTALL)
    pipeline = "\n".join(blocks).replace("/example/refinerctl/", "/group/refinerctl/")

    jobs = expanded(second_repository(repository, tmp_path, pipeline))

    assert {"deploy:dev", "deploy:production", "redrive"} < set(jobs)
    assert jobs["deploy:production"]["tags"] == ["aws"]
    assert jobs["sync:production"]["services"]
    assert jobs["redrive"]["variables"]["AWS_ROLE_NAME"] == "operate"
    assert jobs["redrive"]["artifacts"]["paths"] == [".refinerctl/redrives"]
    assert jobs["redrive"]["artifacts"]["when"] == "always"


def test_pipeline_of_a_new_project_is_valid(root: Path, repository: GitlabRepository, tmp_path: Path) -> None:
    """What `refinerctl init` writes."""
    repository.git("tag", "--force", "0.1.2")
    pipeline = (root / "templates" / "project" / ".gitlab-ci.yml").read_text()
    pipeline = pipeline.replace("/example-group/refinerctl/", "/group/refinerctl/").replace("@VERSION", "@0.1.2")

    found = second_repository(repository, tmp_path, pipeline).jobs(CI_COMMIT_TAG="v1.0.0")

    assert sorted(found) == sorted(f"{job}:production" for job in RELEASE)


def test_wrong_input_of_the_component_is_refused(repository: GitlabRepository, tmp_path: Path) -> None:
    version = repository.git("rev-parse", "HEAD")
    second = second_repository(repository, tmp_path, SECOND.format(version=version, deploy="sometimes"))

    refused = second.run("--list")

    assert refused.code == 1
    assert (
        "`deploy` input: `sometimes` cannot be used because it is not in the list of allowed options" in refused.output
    )
