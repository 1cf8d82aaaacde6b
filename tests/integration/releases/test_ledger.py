"""The ledger of releases, in S3 and in a server of Terraform states."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.config import GlobalFlags, load_settings
from refinerctl.errors import AccessDeniedError, NotFoundError, RefinerctlError
from refinerctl.ledger.entries import Ledger, Release, ReleaseAction, dump_releases
from refinerctl.ledger.http import HttpLedger
from refinerctl.ledger.s3 import S3Ledger
from refinerctl.local.emulator import Emulator
from refinerctl.terraform.backend import Backend, read_backend
from refinerctl.transport import Limits, Transport
from tests.integration.servers import Answer, error, serving
from tests.needs import needs_terraform
from tests.state_server import StateServer, state_server

WRITERS = 8


def release(number: int) -> Release:
    at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=number)
    images = {"RefinerInput": f"repository@sha256:{number:064x}"}
    return Release(ReleaseAction.DEPLOY, f"v1.{number}.0", images, commit="c0ffee", who="me ✓", at=at)


def _backend(bucket: str) -> Backend:
    return Backend("s3", {"bucket": bucket, "key": "x.tfstate"})


@pytest.fixture
def server() -> Iterator[StateServer]:
    with state_server() as server:
        yield server


@pytest.fixture
def http_backend(server: StateServer, tmp_path: Path) -> Backend:
    """As in a GitLab job of a project."""
    (tmp_path / "refinerctl.toml").write_text('[environments.test]\nbackend = "http"\n', encoding="utf-8")
    (tmp_path / "terraform" / "stacks" / "refiner").mkdir(parents=True)
    settings = load_settings(GlobalFlags(env="test"), {}, tmp_path)
    return read_backend(settings, "refiner", environ=server.environment())


@pytest.fixture
def http_ledger(http_backend: Backend) -> HttpLedger:
    return HttpLedger(http_backend, lock_poll_s=0.01)


@pytest.fixture
def s3_ledger(bucket: S3Bucket, session: AwsSession) -> S3Ledger:
    settings = {"bucket": bucket.name, "key": "refiner/terraform.tfstate", "encrypt": True}
    return S3Ledger(Backend("s3", settings), session)


@pytest.fixture(params=["s3", "http"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    found: Ledger = request.getfixturevalue(f"{request.param}_ledger")
    return found


class TestEither:
    def test_ledger_is_empty_before_the_first_release(self, ledger: Ledger) -> None:
        assert ledger.read() == ()

    def test_entries_are_read_back(self, ledger: Ledger) -> None:
        ledger.append(release(1))
        ledger.append(release(2))

        assert ledger.read() == (release(1), release(2))

    def test_same_entry_is_added_once(self, ledger: Ledger) -> None:
        ledger.append(release(1))
        ledger.append(release(1))

        assert ledger.read() == (release(1),)

    def test_concurrent_writers_lose_nothing(self, ledger: Ledger) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(ledger.append, map(release, range(WRITERS))))

        assert sorted(ledger.read(), key=lambda item: item.at) == [release(number) for number in range(WRITERS)]


class TestS3:
    def test_ledger_is_beside_the_state(self, s3_ledger: S3Ledger, bucket: S3Bucket, session: AwsSession) -> None:
        s3_ledger.append(release(1))

        assert s3_ledger.place == f"s3://{bucket.name}/refiner/terraform.releases.json"
        answer = session.client("s3").get_object(Bucket=bucket.name, Key="refiner/terraform.releases.json")
        assert json.loads(answer["Body"].read())["releases"][0]["tag"] == "v1.1.0"
        assert answer["ServerSideEncryption"] == "AES256"

    def test_other_content_is_an_error(self, s3_ledger: S3Ledger, bucket: S3Bucket, session: AwsSession) -> None:
        session.client("s3").put_object(Bucket=bucket.name, Key="refiner/terraform.releases.json", Body=b"[]")
        for attempt in (s3_ledger.read, lambda: s3_ledger.append(release(1))):
            with pytest.raises(RefinerctlError, match=f"s3://{bucket.name}/refiner/terraform.releases.json"):
                attempt()

    def test_missing_bucket_is_named(self, session: AwsSession, unique: str) -> None:
        with pytest.raises(NotFoundError, match=f"bucket no-{unique} .* does not exist"):
            S3Ledger(_backend(f"no-{unique}"), session).read()

    def test_write_whose_answer_was_lost_is_added_once(self) -> None:
        """The SDK's second attempt meets its own first one."""
        kept: list[bytes] = []

        def answer(request: object) -> Answer:
            method = getattr(request, "method", "")
            if method == "GET":
                return Answer(200, kept[0], {"ETag": '"1"'}) if kept else error(404, "NoSuchKey")
            if not kept:
                kept.append(dump_releases([release(1)]))
                return Answer(500)
            return error(412, "PreconditionFailed")

        with serving(answer) as server:
            S3Ledger(_backend("bucket"), server.session()).append(release(1))
            assert server.count()["PUT"] == 2

    def test_constant_changes_end_in_an_error(self) -> None:
        def answer(request: object) -> Answer:
            found = getattr(request, "method", "") == "GET"
            return error(404, "NoSuchKey") if found else error(412, "PreconditionFailed")

        with (
            serving(answer) as server,
            pytest.raises(RefinerctlError, match=r"s3://b/x\.releases\.json: it changed"),
        ):
            S3Ledger(_backend("b"), server.session(), attempts=3).append(release(1))

    def test_access_denied(self) -> None:
        with (
            serving(lambda _: error(403, "AccessDenied")) as server,
            pytest.raises(AccessDeniedError, match="s3://b/x"),
        ):
            S3Ledger(_backend("b"), server.session()).read()

    def test_ledger_uses_the_backends_region(self, session: AwsSession, s3_ledger: S3Ledger, bucket: S3Bucket) -> None:
        settings = {"bucket": bucket.name, "key": "refiner/terraform.tfstate", "region": "eu-west-1"}
        s3_ledger.append(release(1))

        assert S3Ledger(Backend("s3", settings), session).read() == (release(1),)
        assert session.in_region("eu-west-1").client("s3").meta.region_name == "eu-west-1"

    def test_ledger_uses_the_backends_role_in_another_account(
        self, emulator: Emulator, unique: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = "333333333333"  # the emulator takes a key of twelve digits for its account
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", account)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        theirs = AwsSession("us-east-1", profile=None, endpoint_url=emulator.endpoint_url, embedded=False)
        S3Bucket(theirs, f"state-{unique}").create()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "444444444444")
        ours = AwsSession("us-east-1", profile=None, endpoint_url=emulator.endpoint_url, embedded=False)
        settings: dict[str, Any] = {"bucket": f"state-{unique}", "key": "x"}
        with pytest.raises(RefinerctlError):
            S3Ledger(Backend("s3", settings), ours).append(release(1))
        settings["assume_role"] = {"role_arn": f"arn:aws:iam::{account}:role/state"}
        S3Ledger(Backend("s3", settings), ours).append(release(1))

        assert S3Ledger(_backend(f"state-{unique}"), theirs).read() == (release(1),)


class TestHttp:
    def test_ledger_is_a_state_of_its_own(self, http_ledger: HttpLedger, server: StateServer) -> None:
        http_ledger.append(release(1))
        http_ledger.append(release(2))
        state = server.state("refiner-test-releases")

        assert (state["version"], state["serial"], state["resources"]) == (4, 2, [])
        assert json.loads(state["outputs"]["releases"]["value"])["releases"][1]["tag"] == "v1.2.0"
        assert not server.locks
        assert list(server.states) == ["refiner-test-releases"]

    def test_held_lock_names_its_holder(self, http_backend: Backend, server: StateServer) -> None:
        server.lock("refiner-test-releases", Created="2026-03-01T14:00:00Z")
        with pytest.raises(RefinerctlError, match="locked by somebody@else since 2026-03-01T14:00:00Z"):
            HttpLedger(http_backend, lock_timeout_s=0.0).append(release(1))

        assert server.locks["refiner-test-releases"]["ID"] == "theirs"
        assert not server.states

    def test_lock_of_the_state_does_not_block_the_ledger(self, http_ledger: HttpLedger, server: StateServer) -> None:
        server.lock("refiner-test")
        http_ledger.append(release(1))

        assert http_ledger.read() == (release(1),)

    def test_failed_write_releases_the_lock(self, http_backend: Backend, server: StateServer) -> None:
        server.fail["PUT"] = 400
        other = replace(http_backend, settings={**http_backend.settings, "update_method": "PUT"})
        with pytest.raises(RefinerctlError, match="400"):
            HttpLedger(other).append(release(2))

        assert not server.locks

    @pytest.mark.parametrize(
        ("login", "status"),
        [({}, 401), ({"TF_HTTP_USERNAME": "gitlab-ci-token", "TF_HTTP_PASSWORD": "wrong-secret"}, 403)],
    )
    def test_access_denied(self, http_backend: Backend, login: dict[str, str], status: int) -> None:
        with pytest.raises(AccessDeniedError, match=f"refiner-test-releases .{status}") as said:
            HttpLedger(replace(http_backend, environment=login)).read()
        assert "wrong-secret" not in said.value.message

    def test_hidden_project_is_not_an_empty_ledger(self) -> None:
        hidden = Answer(404, b'{"message":"404 Project Not Found"}', {"Content-Type": "application/json"})
        with serving(lambda _: hidden) as gitlab, pytest.raises(AccessDeniedError, match="access denied: GET"):
            HttpLedger(Backend("http", {"address": f"{gitlab.url}/api/v4/projects/1/terraform/state/x"})).read()

    @pytest.mark.parametrize("content", [b"no JSON", b"[]", b'{"version": 4, "serial": 1, "outputs": {}}'])
    def test_other_content_is_an_error(self, http_ledger: HttpLedger, server: StateServer, content: bytes) -> None:
        server.states["refiner-test-releases"] = content
        with pytest.raises(RefinerctlError, match=f"^{server.address('refiner-test-releases')}"):
            http_ledger.append(release(1))

        assert server.states["refiner-test-releases"] == content
        assert not server.locks

    def test_unreachable_server_is_named(self) -> None:
        hasty = Transport(Limits(attempts=2, first_pause_s=0.0), lambda _: None)
        with pytest.raises(RefinerctlError, match=r"^http://127\.0\.0\.1:9/x-releases: the connection to"):
            HttpLedger(Backend("http", {"address": "http://127.0.0.1:9/x"}), transport=hasty).read()

    def test_lock_at_the_states_own_address_is_moved_with_it(self) -> None:
        """As in Terraform's documentation: the state's address with other methods. One lock for all states stays."""
        seen: list[tuple[str, str]] = []

        def answer(request: Any) -> Answer:
            seen.append((request.method, request.path))
            return Answer(204 if request.method == "GET" else 200)

        with serving(answer) as store:
            address = f"{store.url}/states/one?x=1"
            settings = {"address": address, "lock_address": address, "unlock_address": f"{store.url}/locks"}
            settings |= {"lock_method": "PUT", "unlock_method": "DELETE"}
            ledger = HttpLedger(Backend("http", settings))
            ledger.append(release(1))

        (first, *_, last), place = seen, "/states/one-releases"
        assert (first, last) == (("PUT", place), ("DELETE", "/locks"))
        assert ("GET", place) in seen
        assert ledger.place == f"{store.url}{place}?x=1"

    def test_terraform_reads_the_ledger_as_a_state(
        self, http_ledger: HttpLedger, http_backend: Backend, server: StateServer, tmp_path: Path
    ) -> None:
        needs_terraform()
        http_ledger.append(release(1))
        server.states["refiner-test"] = server.states["refiner-test-releases"]
        (tmp_path / "main.tf").write_text('terraform {\n  backend "http" {}\n}\n')
        environment = {**os.environ, **http_backend.environment}
        run = partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, check=True, timeout=60)
        run(["terraform", "init", "-input=false"])

        document = json.loads(run(["terraform", "output", "-json"]).stdout)["releases"]["value"]
        assert json.loads(document)["releases"][0]["tag"] == "v1.1.0"
