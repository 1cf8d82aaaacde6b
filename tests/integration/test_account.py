"""An environment is bound to an account: another one gets no request but the question which account it is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import click
import pexpect
import pytest
from moto import mock_aws

from refinerctl.aws.session import AwsSession
from refinerctl.cli import cli
from tests.command import Command
from tests.integration.servers import Answer, Request, Server, serving
from tests.needs import needs_terraform

OURS, OTHERS = "111111111111", "222222222222"
QUEUE = "https://sqs.us-east-1.amazonaws.com/111111111111/q-dlq"
CREATE = ("--create-state-bucket", "--region", "us-east-1", "--yes")
CHANGING: tuple[tuple[str, ...], ...] = (
    ("upload", "x.txt"),
    ("upload", "x.txt", "--wait"),
    ("replay", "RefinerInput/x.txt", "--yes"),
    ("dlq", "redrive", QUEUE, "--yes"),
    ("replay", "RefinerInput/x.txt", "--dry-run"),
    ("dlq", "redrive", QUEUE, "--dry-run"),
    ("dlq", "purge", QUEUE, "--dry-run"),
    ("images", "prune", "--dry-run"),
    ("dlq", "purge", QUEUE, "--yes"),
    ("dlq", "purge", QUEUE.replace("us-east-1", "eu-west-1"), "--yes"),
    ("sync", "127.0.0.1:9/app:v1", "app:v1"),
    ("images", "prune", "--yes"),
    ("add-prefix", "Lab/", "--completion", "--deploy", "--yes"),
    ("remove-prefix", "RefinerInput", "--deploy", "--yes"),
    ("verify", "--canary"),
    ("plan",),
    ("drift",),
    ("deploy", "--yes"),
    ("apply", "--yes"),
    ("rollback", "--yes"),
    ("destroy", "--confirm", "far"),
    ("unlock", "--yes"),
    ("rnr", "produce", "--yes"),
    ("rnr", "postprocess", "--yes"),
    ("rnr", "postprocess", "--dry-run"),
    ("rnr", "rotate", "--yes"),
    ("rnr", "workers", "--drain", "--yes"),
    ("rnr", "bucket-policy", "--apply", "--yes"),
    ("env", "new", "new", "--account", OURS, *("--bucket", "b-1", "--state-bucket", "s-1"), *CREATE),
)


def of_account(account: str, more: Callable[[Request], Answer] = lambda _: Answer(404)) -> Callable[[Request], Answer]:
    """STS of an account; `more` answers everything that is not STS's."""
    result = f"<GetCallerIdentityResult><Arn>arn:aws:iam::{account}:user/me</Arn></GetCallerIdentityResult>"
    body = f"<GetCallerIdentityResponse>{result}</GetCallerIdentityResponse>".encode()
    return lambda request: Answer(200, body) if is_sts(request) else more(request)


def commands(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command, by the words that lead to it."""
    with group.make_context("refinerctl", [], resilient_parsing=True) as ctx:
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            if isinstance(command, click.Group):
                yield from commands(command, *before, name)
            elif command is not None:
                yield (*before, name), command


def is_sts(request: Request) -> bool:
    return (request.method, request.path) == ("POST", "/")


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    with serving(of_account(OTHERS)) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this repository's stacks, with environment `far` in account OURS."""
    for folder in ("stacks", "modules"):
        ignored = shutil.ignore_patterns(".terraform")
        shutil.copytree(root / "terraform" / folder, tmp_path / "terraform" / folder, ignore=ignored)
    shutil.copytree(root / "terraform" / "environments" / "production", tmp_path / "terraform" / "environments" / "far")
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "refinerctl.toml").write_text(
        f'environment = "far"\n[environments.far]\nregion = "us-east-1"\naccount = "{OURS}"\n'
        '[images.refiner]\nrepository = "app"\ncontext = "images"\n'
        '[environments.unbound]\nregion = "us-east-1"\n'
        "[environments.local]\nembedded = true\n"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestOtherAccount:
    @pytest.mark.parametrize("words", CHANGING, ids=" ".join)
    def test_every_change_is_refused(
        self, refinerctl: Command, project: Path, elsewhere: Server, words: tuple[str, ...]
    ) -> None:
        needs_terraform()
        files = {path: path.read_bytes() for path in project.rglob("*.tf*") if path.is_file()}
        done = refinerctl(*words, "--endpoint-url", elsewhere.url)

        assert done.code == 4, done.err
        assert f"is in account {OURS}, but the credentials belong to {OTHERS}" in done.err
        assert [is_sts(request) for request in elsewhere.requests] == [True]
        assert {path: path.read_bytes() for path in files} == files

    def test_every_command_that_changes_something_is_among_them(self) -> None:
        """Each has one of these options; `image build` changes nothing in an account."""
        asking = {"--dry-run", "--yes", "--confirm", "--canary", "--detailed-exitcode"}
        found = {
            words
            for words, command in commands(cli)
            if asking & {word for item in command.params for word in item.opts}
        }
        assert len(found) > 10
        assert found - {("image", "build")} <= {words[:length] for words in CHANGING for length in (1, 2)}

    @pytest.mark.parametrize("words", [("poll", "--once"), ("upload", "x.txt", "--dry-run")], ids=" ".join)
    def test_a_reading_command_does_not_ask_sts(
        self, refinerctl: Command, project: Path, elsewhere: Server, words: tuple[str, ...]
    ) -> None:
        refinerctl(*words, "--endpoint-url", elsewhere.url)
        assert not any(is_sts(request) for request in elsewhere.requests)

    def test_an_image_between_two_other_registries_needs_no_account(
        self, refinerctl: Command, project: Path, elsewhere: Server
    ) -> None:
        with serving(lambda _: Answer(404)) as registry:
            host = registry.url.removeprefix("http://")
            words = ("sync", f"{host}/app:v1", f"{host}/copy:v1")
            done = refinerctl(*words, "--endpoint-url", elsewhere.url)
        assert f"repository {host}/app does not exist" in done.err
        assert registry.requests
        assert elsewhere.requests == []

    def test_an_account_that_cannot_be_asked_is_not_changed(self, refinerctl: Command, project: Path) -> None:
        denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        with serving(lambda _: Answer(403, denied)) as server:
            done = refinerctl("upload", "x.txt", "--endpoint-url", server.url)
        assert done.code == 1
        assert "cannot check the account of environment far" in done.err
        assert all(is_sts(request) for request in server.requests)


class TestOwnAccount:
    def test_the_account_is_printed_and_sts_is_asked_once(self, refinerctl: Command, project: Path) -> None:
        with serving(of_account(OURS, lambda _: Answer(200, b"", {"ETag": '"e"', "x-amz-version-id": "v"}))) as server:
            done = refinerctl("upload", "x.txt", "-v", "--endpoint-url", server.url)
        assert done.code == 0, done.err
        assert f"account {OURS}, region us-east-1, environment far" in done.err
        assert sum(is_sts(request) for request in server.requests) == 1

    def test_a_reading_command_prints_the_account_with_v(self, refinerctl: Command, project: Path) -> None:
        with serving(of_account(OTHERS)) as server:
            done = refinerctl("poll", "--once", "-v", "--endpoint-url", server.url)
        assert f"account {OTHERS}, region us-east-1, environment far, stack refiner" in done.err

    def test_a_prompt_names_account_and_region(self, project: Path) -> None:
        ledger = Answer(200, b"[]", {"ETag": '"e"'})
        with serving(of_account(OURS, lambda _: ledger)) as server:
            words = ["-m", "refinerctl", "dlq", "purge", QUEUE, "--endpoint-url", server.url]
            child = pexpect.spawn(sys.executable, words, timeout=30, encoding="utf-8")
            child.expect(f"account {OURS}, region us-east-1, environment far")
            child.close(force=True)


def test_the_regions_of_a_session_are_checked_once(project: Path) -> None:
    """The state, or the topic of an alarm, may be in another region than what is changed, which the check names."""
    checked: list[str | None] = []
    with serving(of_account(OURS)) as server:
        session = AwsSession("us-east-1", profile=None, endpoint_url=server.url, embedded=False)
        session.guard(lambda given: checked.append(given.region))
        session.in_region("eu-west-1").client("s3")
        session.client("s3")
        session.caller()
    assert checked == ["us-east-1"]


class TestUnboundEnvironment:
    def test_a_change_warns_and_says_how_to_bind_it(self, refinerctl: Command, project: Path) -> None:
        with mock_aws(config={"core": {"mock_credentials": False}}):
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="data-repository")
            done = refinerctl("upload", "x.txt", "--env", "unbound")
        assert done.code == 0, done.err
        assert done.err.count('set account = "123456789012" in [environments.unbound] of refinerctl.toml') == 1

    def test_a_reading_command_does_not_warn(self, refinerctl: Command, project: Path) -> None:
        with mock_aws(config={"core": {"mock_credentials": False}}):
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="data-repository")
            done = refinerctl("poll", "--once", "--env", "unbound")
        assert done.code == 0, done.err
        assert "account" not in done.err


class TestInheritedEndpoint:
    @pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"])
    @pytest.mark.parametrize("words", [("upload", "x.txt"), ("poll", "--once"), ("plan",)], ids=" ".join)
    def test_no_command_uses_it_in_an_environment_without_endpoint(
        self,
        refinerctl: Command,
        project: Path,
        elsewhere: Server,
        monkeypatch: pytest.MonkeyPatch,
        words: tuple[str, ...],
        variable: str,
    ) -> None:
        monkeypatch.setenv(variable, elsewhere.url)
        done = refinerctl(*words, "--env", "far")
        assert done.code == 4, done.err
        assert f"{variable} is set to {elsewhere.url}, but environment far names no endpoint" in done.err
        assert f"unset {variable}" in done.err
        assert elsewhere.requests == []

    def test_a_check_of_an_image_gives_the_same_advice(
        self, refinerctl: Command, project: Path, elsewhere: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", elsewhere.url)
        done = refinerctl("add-prefix", "Lab/", "--image-uri", "app:v1", "--dry-run")
        assert done.code == 4, done.err
        assert "Run `unset AWS_ENDPOINT_URL`" in done.err

    def test_a_variable_that_the_sdk_ignores_is_ignored(
        self, refinerctl: Command, project: Path, elsewhere: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", elsewhere.url)
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
        with mock_aws(config={"core": {"mock_credentials": False}}):
            done = refinerctl("poll", "--once", "--env", "far")
        assert "data-repository" in done.err
        assert elsewhere.requests == []
