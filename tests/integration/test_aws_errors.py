"""What an SDK error becomes: one sentence with the resource and what to do next."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import boto3
import pytest
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count

from refinerctl.aws.errors import error_code, explain
from refinerctl.aws.lambda_ import Functions
from refinerctl.aws.logs import LogGroups
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.aws.sqs import Queues
from refinerctl.errors import AccessDeniedError, RefinerctlError
from tests.integration.servers import Answer, error, serving

Ask = Callable[[AwsSession], object]

S3_REQUESTS: list[Ask] = [
    lambda session: S3Bucket(session, "data").check(),
    lambda session: S3Bucket(session, "data").head("k"),
    lambda session: S3Bucket(session, "data").read("k"),
    lambda session: list(S3Bucket(session, "data").objects("p/")),
    lambda session: S3Bucket(session, "data").put("k", io.BytesIO(b"x"), 1),
]
OTHER_REQUESTS: list[Ask] = [
    lambda session: Queues(session).state("q"),
    lambda session: Queues(session).peek("q"),
    lambda session: Functions(session).get("f"),
    lambda session: list(LogGroups(session).events("g", datetime(2026, 1, 1, tzinfo=UTC))),
]


def failure(ask: Ask, session: AwsSession) -> RefinerctlError:
    with pytest.raises(RefinerctlError) as caught:
        ask(session)
    return caught.value


@contextmanager
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSession]:
    """moto's account, as a user who may do nothing."""
    with mock_aws():
        iam = boto3.client("iam", region_name="us-east-1")
        iam.create_user(UserName="nobody")
        key = iam.create_access_key(UserName="nobody")["AccessKey"]
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="data")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
        yield AwsSession("us-east-1", profile=None, endpoint_url=None, embedded=False)


class TestDenied:
    @pytest.mark.parametrize("ask", [*S3_REQUESTS, *OTHER_REQUESTS])
    def test_a_user_without_rights_hears_which_call_is_denied(self, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
        @set_initial_no_auth_action_count(3)
        def as_nobody() -> RefinerctlError:
            with account(monkeypatch) as session:
                return failure(ask, session)

        said = as_nobody()
        assert isinstance(said, AccessDeniedError)
        assert said.message.startswith("access denied: ")
        assert "get-caller-identity" in str(said.hint)

    def test_the_resource_is_named(self) -> None:
        with serving(lambda _: error(403, "AccessDenied")) as server:
            said = failure(S3_REQUESTS[4], server.session())
        assert said.message == "access denied: PutObject on s3://data/k"


class TestCredentials:
    @pytest.mark.parametrize("ask", S3_REQUESTS[2:])
    @pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "InvalidToken"])
    def test_expired_or_unknown_ones_say_log_in_again(self, ask: Ask, code: str) -> None:
        with serving(lambda _: error(403 if code == "InvalidAccessKeyId" else 400, code)) as server:
            said = failure(ask, server.session())
        assert isinstance(said, AccessDeniedError)
        assert "expired or are not valid" in said.message
        assert "Log in again" in str(said.hint)

    @pytest.mark.parametrize("ask", S3_REQUESTS[:2])
    def test_expired_ones_at_a_head_request_have_no_code_but_400(self, ask: Ask) -> None:
        """S3 answers HEAD without a body; `check` is the first request of upload and poll."""
        with serving(lambda _: Answer(400)) as server:
            said = failure(ask, server.session())
        assert "credentials" in f"{said.message} {said.hint}"

    @pytest.mark.parametrize("ask", [*S3_REQUESTS, *OTHER_REQUESTS])
    def test_without_any_it_says_where_to_put_them(self, ask: Ask) -> None:
        session = AwsSession("us-east-1", profile=None, endpoint_url="http://127.0.0.1:9", embedded=False)
        said = failure(ask, session)
        assert isinstance(said, AccessDeniedError)
        assert said.message == "no AWS credentials found"
        assert "AWS_PROFILE" in str(said.hint)

    def test_an_unknown_profile_is_named(self) -> None:
        session = AwsSession("us-east-1", profile="no-such", endpoint_url=None, embedded=False)
        assert "no-such" in failure(S3_REQUESTS[0], session).message


class TestEmbedded:
    """The local environment never uses an account's credentials, and an account never gets its calls."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("AWS_PROFILE", "no-such-profile"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9"),
            ("AWS_ACCESS_KEY_ID", "a-persons-own"),
            ("AWS_SESSION_TOKEN", "a-persons-own"),
            ("AWS_CA_BUNDLE", "/no/such/file"),
            ("AWS_USE_FIPS_ENDPOINT", "true"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "true"),
            ("HTTP_PROXY", "http://127.0.0.1:9"),
            ("ALL_PROXY", "http://127.0.0.1:9"),
        ],
    )
    def test_a_persons_variables_do_not_matter(
        self,
        bucket: S3Bucket,
        session: AwsSession,
        monkeypatch: pytest.MonkeyPatch,
        no_backoff: list[float],
        name: str,
        value: str,
    ) -> None:
        monkeypatch.setenv(name, value)
        fresh = AwsSession("us-east-1", profile=None, endpoint_url=session.endpoint_url, embedded=True)
        S3Bucket(fresh, bucket.name).put("k", io.BytesIO(b"x"), 1)
        assert bucket.head("k") is not None

    def test_its_credentials_are_not_a_persons(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAPERSONSOWN")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        session = AwsSession("us-east-1", profile=None, endpoint_url="http://127.0.0.1:9", embedded=True)
        url = session.client("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
        assert "AKIAPERSONSOWN" not in url


class TestThrottled:
    @pytest.mark.parametrize("ask", S3_REQUESTS[2:])
    def test_now_and_then_is_tried_again(self, no_backoff: list[float], ask: Ask) -> None:
        bad = [error(503, "SlowDown")] * 3
        good = Answer(
            200,
            b"<ListBucketResult></ListBucketResult>",
            {"Last-Modified": "Sun, 01 Mar 2026 14:00:00 GMT", "ETag": "e"},
        )
        with serving(lambda _: bad.pop() if bad else good) as server:
            ask(server.session())
        assert len(server.requests) == 4
        assert len(no_backoff) == 3

    @pytest.mark.parametrize("ask", S3_REQUESTS[2:])
    def test_always_is_an_error_in_the_end(self, no_backoff: list[float], ask: Ask) -> None:
        with serving(lambda _: error(503, "SlowDown", "Reduce your rate")) as server:
            said = failure(ask, server.session())
        assert "SlowDown" in said.message
        assert "Reduce your rate" in said.message
        assert 4 <= len(server.requests) <= 8


class TestUnreachable:
    @pytest.mark.parametrize("ask", [*S3_REQUESTS, *OTHER_REQUESTS])
    def test_a_dead_endpoint_is_named(self, no_backoff: list[float], ask: Ask) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            said = failure(ask, AwsSession("us-east-1", profile=None, endpoint_url=url, embedded=True))
        assert said.message.startswith("no response from AWS: ")
        assert url in said.message
        assert "--endpoint-url" in str(said.hint)

    def test_an_endpoint_that_hangs_up_is_no_surprise(self, no_backoff: list[float]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            listening.close()
            said = failure(S3_REQUESTS[2], AwsSession("us-east-1", profile=None, endpoint_url=url, embedded=True))
        assert "no response from AWS" in said.message


class TestExplain:
    def test_errors_that_are_not_from_the_sdk_are_not_explained(self) -> None:
        assert explain(ValueError("x")) is None
        assert error_code(ValueError("x")) == ""
