"""Roles, profiles and tokens: what boto3 works with, what terraform gets, and for how long it lasts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from moto import mock_aws

from refinerctl.aws.credentials import role_session_name
from refinerctl.aws.session import AwsSession
from refinerctl.errors import AccessDeniedError, RefinerctlError
from refinerctl.local.emulator import Emulator
from tests.integration.servers import Answer, Request, error, serving
from tests.needs import needs_terraform

ROLE = "arn:aws:iam::000000000000:role/deployer"
# The emulator takes a key of twelve digits for the account that it belongs to.
ACCOUNT = "111111111111"
NOT_FOR_US = {
    "AWS_PROFILE": "no-such-profile",
    "AWS_ACCESS_KEY_ID": "222222222222",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
}
in_process = mock_aws(config={"core": {"mock_credentials": False}})


def account_session(endpoint_url: str | None = None, **given: str) -> AwsSession:
    return AwsSession(
        "us-east-1",
        profile=given.get("profile"),
        endpoint_url=endpoint_url,
        embedded=False,
        assume_role=given.get("role"),
        external_id=given.get("external_id"),
    )


def keys(monkeypatch: pytest.MonkeyPatch, key: str = ACCOUNT, **more: str) -> None:
    given = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "secret-of-the-caller", **more}
    for name, value in given.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the shared credentials file."""

    def write(content: str) -> None:
        path = tmp_path / "credentials"
        path.write_text(content, encoding="utf-8")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    return write


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration that is written for Terraform."""
    return tmp_path / "work" / "aws.conf"


def printed(variables: Mapping[str, str], profile: str | None = None) -> dict[str, Any]:
    """What the program of a profile prints, run as AWS's SDK for Go runs it."""
    config = Path(variables["AWS_CONFIG_FILE"]).read_text()
    section = config.partition(f"[profile {profile or variables['AWS_PROFILE']}]\n")[2]
    found = re.match("credential_process = (.*)", section)
    assert found is not None
    done = subprocess.run(
        ["sh", "-c", found[1]], env={**os.environ, **variables}, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def sts(life_s: float, given: list[datetime]) -> Callable[[object], Answer]:
    """An STS whose credentials expire that soon; `given` says when it has given some."""

    def answer(_: object) -> Answer:
        given.append(datetime.now(UTC))
        expiry = given[-1] + timedelta(seconds=life_s)
        result = (
            f"<Credentials><AccessKeyId>ASIA{len(given)}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>t</SessionToken><Expiration>{expiry:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
            "<Arn>x</Arn>"
        )
        body = f"<AssumeRoleResponse><AssumeRoleResult>{result}</AssumeRoleResult></AssumeRoleResponse>"
        return Answer(200, body.encode())

    return answer


class TestRole:
    def test_everything_is_done_as_the_role(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch, CI_JOB_ID="77")
        session = account_session(emulator.endpoint_url, role=ROLE)

        assert session.caller().endswith(":assumed-role/deployer/refinerctl-job-77")
        assert session.in_region("eu-west-1").caller() == session.caller()

    def test_a_role_on_top_of_a_role(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch)
        session = account_session(emulator.endpoint_url, role=ROLE).in_region(
            None, f"arn:aws:iam::{ACCOUNT}:role/state"
        )

        assert f"::{ACCOUNT}:assumed-role/state/" in session.caller()

    def test_a_role_on_top_of_a_profile(self, emulator: Emulator, shared: Callable[[str], None]) -> None:
        shared(f"[base]\naws_access_key_id = {ACCOUNT}\naws_secret_access_key = y\n")
        session = account_session(emulator.endpoint_url, profile="base", role=ROLE)

        assert ":assumed-role/deployer/" in session.caller()

    def test_credentials_are_renewed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What STS gave is about to run out: the next call asks again."""
        keys(monkeypatch)
        given: list[datetime] = []
        with serving(sts(30, given)) as server:
            session = account_session(server.url, role=ROLE)
            client = session.client("sts")
            assert len(given) == 1
            session.credentials().get_frozen_credentials()
            assert len(given) == 2
            assert client.meta.region_name == "us-east-1"

    def test_role_and_caller_are_named_if_it_may_not_be_assumed(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys(monkeypatch)
        denied = error(403, "AccessDenied")
        body = (
            b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/me</Arn>"
            b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
        )
        answers = iter([Answer(403, b"<ErrorResponse>" + denied.body + b"</ErrorResponse>"), Answer(200, body)])
        with serving(lambda _: next(answers)) as server, pytest.raises(AccessDeniedError) as said:
            account_session(server.url, role=ROLE).terraform_environment(config)
        assert said.value.message == f"arn:aws:iam::1:user/me may not assume the role {ROLE}"
        assert "trust policy" in str(said.value.hint)

    def test_the_external_id_is_passed_each_time(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch)
        seen: list[str | None] = []
        role = sts(30, [])

        def answer(request: Request) -> Answer:
            seen.append(parse_qs(request.body.decode()).get("ExternalId", [None])[0])
            return role(request)

        with serving(answer) as server:
            session = account_session(server.url, role=ROLE, external_id="ours/1")
            printed(session.terraform_environment(config))
            state = session.in_region("eu-west-1", f"{ROLE}-state", "ours/2")
            state.credentials()
        assert set(seen[:-1]) == {"ours/1"}
        assert len(seen) > 3, "also by the program"
        assert seen[-1] == "ours/2"

    def test_no_role_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch)
        with in_process, pytest.raises(RefinerctlError, match="deployer"):
            account_session(role="deployer").client("s3")

    @pytest.mark.parametrize(
        ("environ", "name"),
        [
            ({"CI_JOB_ID": "12"}, "refinerctl-job-12"),
            ({"CI_JOB_ID": "ü 1" + "x" * 80}, "refinerctl-job---1" + "x" * 46),
        ],
    )
    def test_session_names(self, environ: dict[str, str], name: str) -> None:
        assert role_session_name(environ) == name

    def test_a_session_is_named_after_the_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOGNAME", "a b/c")
        assert role_session_name({}) == "refinerctl-a-b-c"


class TestTerraformEnvironment:
    def test_its_profile_prints_the_keys_of_the_callers_variables(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys(monkeypatch, AWS_SESSION_TOKEN="a-token")
        variables = account_session().terraform_environment(config)

        assert (variables["AWS_REGION"], variables["AWS_DEFAULT_REGION"]) == ("us-east-1", "us-east-1")
        assert (variables["AWS_ACCESS_KEY_ID"], variables["AWS_DEFAULT_PROFILE"]) == ("", "")
        assert printed(variables) == {
            "Version": 1,
            "AccessKeyId": ACCOUNT,
            "SecretAccessKey": "secret-of-the-caller",
            "SessionToken": "a-token",
        }

    def test_paths_with_spaces_are_quoted_for_terraforms_parser(
        self, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It takes quotes off if a value begins and ends with them."""
        keys(monkeypatch)
        python = tmp_path / "a b" / "python"
        python.parent.mkdir()
        python.symlink_to(sys.executable)
        monkeypatch.setattr(sys, "executable", str(python))
        variables = account_session().terraform_environment(config)

        assert printed(variables)["AccessKeyId"] == ACCOUNT
        (value,) = re.findall("credential_process = (.*)", config.read_text())
        assert value.startswith(f"env '{python}' -P ")

    def test_relative_paths_in_variables_are_those_of_the_caller(
        self, tmp_path: Path, config: Path, shared: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared("[state]\naws_access_key_id = of-state\naws_secret_access_key = s\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "credentials")
        variables = account_session(profile="state").terraform_environment(config)

        assert printed(variables, "state")["AccessKeyId"] == "of-state"

    def test_no_secret_is_in_the_file(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch, AWS_SESSION_TOKEN="a-token")
        account_session().terraform_environment(config)

        assert config.stat().st_mode & 0o777 == 0o600
        assert not {ACCOUNT, "secret-of-the-caller", "a-token"} & set(re.split(r"\s+", config.read_text()))

    def test_without_credentials_nothing_is_passed_on_but_the_region(self, config: Path) -> None:
        """A state over HTTP may need none."""
        assert account_session().terraform_environment(config) == {
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def test_of_two_variables_for_a_profile_boto3s_choice_counts(
        self, config: Path, shared: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared("".join(f"[{name}]\naws_access_key_id = {name}\naws_secret_access_key = s\n" for name in ("a", "b")))
        monkeypatch.setenv("AWS_PROFILE", "a")
        monkeypatch.setenv("AWS_DEFAULT_PROFILE", "b")
        session = account_session()

        assert printed(session.terraform_environment(config))["AccessKeyId"] == "b"
        assert session.credentials().get_frozen_credentials().access_key == "b"

    def test_settings_and_other_profiles_of_the_caller_remain(
        self, tmp_path: Path, config: Path, shared: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A backend or a provider may name a profile."""
        shared("[state]\naws_access_key_id = of-state\naws_secret_access_key = s\n")
        callers = tmp_path / "config"
        callers.write_text(
            "[profile base]\nregion = eu-north-1\nuse_fips_endpoint = true\nservices = near\naws_access_key_id = k\n"
            "aws_secret_access_key = hush\n[services near]\nsqs =\n  endpoint_url = https://sqs.example\n",
            encoding="utf-8",
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(callers))
        session = AwsSession(None, profile="base", endpoint_url=None, embedded=False)
        variables = session.terraform_environment(config)

        assert variables["AWS_REGION"] == "eu-north-1"
        assert printed(variables, "state")["AccessKeyId"] == "of-state"
        text = config.read_text()
        assert "hush" not in text
        assert "use_fips_endpoint = true\n" in text
        assert "services = near\n" in text
        assert "[services near]\nsqs =\n  endpoint_url = https://sqs.example\n" in text

    def test_embedded(self, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch)
        session = AwsSession("us-east-1", profile=None, endpoint_url="http://127.0.0.1:4566", embedded=True)
        given = session.terraform_environment(config)

        assert given["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
        assert given["AWS_ACCESS_KEY_ID"] == "test"
        assert given["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
        assert session.credential_lifetime() == (None, True)
        assert not config.exists()

    def test_a_role_is_assumed_again_when_its_credentials_expire(
        self, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys(monkeypatch)
        for life_s, count in ((3600, 1), (30, 2)):
            with serving(sts(life_s, [])) as server:
                variables = account_session(server.url, role=ROLE).terraform_environment(config)
                seen = [printed(variables) for _ in range(2)]
            assert len({document["AccessKeyId"] for document in seen}) == count
            expiry = datetime.fromisoformat(seen[0]["Expiration"])
            assert expiry < datetime.now(UTC) + timedelta(minutes=55), "Terraform would ask too late"

    def test_a_role_lasts_as_long_as_the_callers_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch)
        with serving(sts(30, [])) as server:
            assert account_session(server.url, role=ROLE).credential_lifetime() == (None, True)

    def test_a_role_lasts_for_an_hour_at_least(self, monkeypatch: pytest.MonkeyPatch) -> None:
        soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=20)
        keys(monkeypatch, AWS_SESSION_TOKEN="t", AWS_CREDENTIAL_EXPIRATION=soon.isoformat())
        given: list[datetime] = []
        with serving(sts(3600, given)) as server:
            expiry, is_known = account_session(server.url, role=ROLE).credential_lifetime()
        assert is_known
        assert expiry is not None
        assert expiry - given[-1] > timedelta(minutes=59)


class TestTerraformTakesThem:
    """A state in a bucket that only the right account has, with somebody else's variables around."""

    @pytest.fixture
    def state_bucket(self, emulator: Emulator, unique: str) -> str:
        needs_terraform()
        client = boto3.client(
            "s3",
            endpoint_url=emulator.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=ACCOUNT,
            aws_secret_access_key="x",
        )
        client.create_bucket(Bucket=f"state-{unique}")
        return f"state-{unique}"

    def _init(self, bucket: str, variables: dict[str, str], module: Path) -> subprocess.CompletedProcess[str]:
        (module / "main.tf").write_text(
            f'terraform {{\n  backend "s3" {{\n    bucket = "{bucket}"\n    key = "x"\n    use_path_style = true\n'
            "    skip_credentials_validation = true\n    skip_requesting_account_id = true\n  }\n}\n",
            encoding="utf-8",
        )
        return subprocess.run(
            ["terraform", f"-chdir={module}", "init", "-input=false", "-no-color"],
            env={**os.environ, **NOT_FOR_US, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_a_role(
        self, emulator: Emulator, state_bucket: str, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys(monkeypatch)
        role = f"arn:aws:iam::{ACCOUNT}:role/deployer"
        variables = account_session(emulator.endpoint_url, role=role).terraform_environment(config)
        wrong = {name: value for name, value in variables.items() if "ENDPOINT" in name or name == "AWS_REGION"}

        assert self._init(state_bucket, wrong, tmp_path).returncode != 0
        done = self._init(state_bucket, variables, tmp_path)
        assert done.returncode == 0, done.stderr

    def test_a_profile(
        self, emulator: Emulator, state_bucket: str, tmp_path: Path, config: Path, shared: Callable[[str], None]
    ) -> None:
        shared(f"[base]\naws_access_key_id = {ACCOUNT}\naws_secret_access_key = y\n")
        variables = account_session(emulator.endpoint_url, profile="base").terraform_environment(config)

        done = self._init(state_bucket, variables, tmp_path)
        assert done.returncode == 0, done.stderr

    def test_one_run_of_terraform_outlasts_its_credentials(
        self, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They expire while S3 answers: the next request is signed with new ones."""
        needs_terraform()
        keys(monkeypatch)
        role = sts(2, [])
        waits = [2.1]

        def answer(request: Request) -> Answer:
            if request.method == "POST":
                return role(request)
            if "list-type" not in request.query:
                return error(404, "NoSuchKey")
            time.sleep(waits.pop() if waits else 0)
            return Answer(200, b"<ListBucketResult></ListBucketResult>")

        with serving(answer) as server:
            variables = account_session(server.url, role=ROLE).terraform_environment(config)
            assert self._init("b", variables, tmp_path).returncode == 0
        signed = [request.authorization.partition("Credential=")[2].partition("/")[0] for request in server.requests]
        assert len(set(signed) - {ACCOUNT}) > 1


class TestExpiry:
    def _seen(self, **given: str) -> tuple[datetime | None, bool]:
        return account_session(**given).credential_lifetime()

    def test_static_keys_never_run_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch)
        assert self._seen() == (None, True)

    def test_a_session_token_without_a_word(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch, AWS_SESSION_TOKEN="t")
        assert self._seen() == (None, False)

    @pytest.mark.parametrize("minutes", [-5, 5, 50])
    def test_a_variable_says_when(self, monkeypatch: pytest.MonkeyPatch, minutes: int) -> None:
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minutes)
        keys(monkeypatch, AWS_SESSION_TOKEN="t", AWS_CREDENTIAL_EXPIRATION=f"{at:%Y-%m-%dT%H:%M:%SZ}")
        assert self._seen() == (at, True)

    def test_expired_ones_are_said_to_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch, AWS_SESSION_TOKEN="t", AWS_CREDENTIAL_EXPIRATION="2026-03-01T14:00:00Z")
        with pytest.raises(AccessDeniedError, match="credentials have expired"):
            account_session("http://127.0.0.1:9").caller()

    @pytest.mark.parametrize(
        ("line", "known"),
        [
            ("x_security_token_expires = 2026-03-01T15:00:00+01:00", True),
            ("aws_expiration = 2026-03-01T14:00:00.000Z", True),
            ("expiration = 2026-03-01 14:00:00", True),
            ("x_security_token_expires = soon", False),
        ],
    )
    def test_the_shared_file_says_when(self, shared: Callable[[str], None], line: str, known: bool) -> None:
        shared(f"[saml]\naws_access_key_id = a\naws_secret_access_key = b\naws_session_token = c\n{line}\n")
        at = datetime(2026, 3, 1, 14, tzinfo=UTC)
        assert self._seen(profile="saml") == ((at, True) if known else (None, False))

    def test_a_profiles_role(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = tmp_path / "config"
        config.write_text(
            "[profile source]\naws_access_key_id = a\naws_secret_access_key = b\n"
            f"[profile role]\nrole_arn = {ROLE}\nsource_profile = source\n",
            encoding="utf-8",
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
        with in_process:
            at, is_known = self._seen(profile="role")
        assert at is not None
        assert is_known
        assert timedelta(minutes=55) < at - datetime.now(UTC) <= timedelta(minutes=60)

    def test_no_credentials(self) -> None:
        assert self._seen() == (None, True)


class TestWebIdentity:
    """OIDC, as GitLab jobs have it."""

    @pytest.fixture
    def token(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        token = tmp_path / "token"
        token.write_text("header.payload.signature", encoding="utf-8")
        monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))

    @pytest.mark.usefixtures("token")
    def test_boto3_knows_it_itself(self) -> None:
        with in_process:
            session = account_session()
            assert ":assumed-role/deployer/" in session.caller()
            at, _ = session.credential_lifetime()
        assert at is not None
        assert at > datetime.now(UTC) + timedelta(minutes=50)

    @pytest.mark.usefixtures("token")
    def test_terraform_gets_the_session_and_not_the_token(self, config: Path) -> None:
        with in_process:
            given = account_session().terraform_environment(config)
        assert (given["AWS_ROLE_ARN"], given["AWS_WEB_IDENTITY_TOKEN_FILE"]) == ("", "")
        assert printed(given)["SessionToken"]

    @pytest.mark.usefixtures("token")
    def test_a_role_on_top(self, config: Path) -> None:
        with in_process:
            given = account_session(role=f"{ROLE}-2").terraform_environment(config)
        assert (given["AWS_ROLE_ARN"], given["AWS_WEB_IDENTITY_TOKEN_FILE"]) == ("", "")
        assert printed(given)["SessionToken"]

    def test_no_token_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
        with pytest.raises(
            AccessDeniedError, match="file /nowhere/token of AWS_WEB_IDENTITY_TOKEN_FILE does not exist"
        ) as said:
            account_session().client("s3")
        assert "id_tokens" in str(said.value.hint)

    def test_keys_go_before_a_token_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keys(monkeypatch, AWS_ROLE_ARN=ROLE, AWS_WEB_IDENTITY_TOKEN_FILE="/nowhere/token")
        with in_process:
            assert ":assumed-role/" not in account_session().caller()
