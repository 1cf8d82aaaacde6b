"""One boto3 session for all AWS clients, and the credentials that Terraform gets."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, overload

from refinerctl import __version__
from refinerctl.aws import connections, credentials
from refinerctl.aws.errors import ATTEMPTS, about, repeat_unreadable
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.files import replacing
from refinerctl.network import NETWORK
from refinerctl.parallel import Background

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_mq import MQClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sts import STSClient

# The emulator accepts any credentials. It must never get the user's, and its calls must never reach an account.
EMBEDDED_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

MAX_CONNECTIONS = 32
READ_TIMEOUT_S = 60.0
# The longest run of a function takes 15 minutes.
LONG_READ_TIMEOUT_S = 910.0


def embedded_environment(
    region: str, endpoint_url: str, endpoints: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The variables that point any AWS tool at the emulator, and not at the user's accounts.

    `endpoints` are those of single services, by boto3's name of the service.
    """
    return {
        **EMBEDDED_CREDENTIALS,
        "AWS_SESSION_TOKEN": "",
        "AWS_PROFILE": "",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ENDPOINT_URL": endpoint_url,
        **endpoint_variables(endpoints),
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])),
    }


def endpoint_variables(endpoints: Mapping[str, str]) -> dict[str, str]:
    """The variables with which SDKs and Terraform's provider use these endpoints.

    https://docs.aws.amazon.com/sdkref/latest/guide/ss-endpoints-table.html
    """
    names = {"secretsmanager": "SECRETS_MANAGER"}
    return {f"AWS_ENDPOINT_URL_{names.get(service, service.upper())}": url for service, url in endpoints.items()}


def refuse_inherited_endpoint(environ: Mapping[str, str], env: str) -> None:
    """Raises RefusedError if a variable would send requests elsewhere: answers from there would be wrong, too.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
    """
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return
    for variable in sorted(environ):
        if variable.startswith("AWS_ENDPOINT_URL") and environ[variable]:
            raise RefusedError(
                f"{variable} is set to {environ[variable]}, but environment {env} names no endpoint",
                hint=f"Run `unset {variable}`, or use a shell without the variables of `refinerctl local env`. "
                f"An endpoint of the environment belongs in refinerctl.toml: endpoint_url in [environments.{env}].",
            )


class AwsSession:
    """Makes clients of one account and region, each once; safe to share between threads.

    `assume_role` is the ARN of a role that everything is done as, on top of the credentials that boto3 finds;
    `external_id` is what its trust policy may ask for. `endpoints` are those of single services. Each call is tried
    `attempts` times. `ends_run`: the command ends if it cannot reach any server.
    """

    def __init__(
        self,
        region: str | None,
        *,
        profile: str | None,
        endpoint_url: str | None,
        embedded: bool,
        assume_role: str | None = None,
        external_id: str | None = None,
        endpoints: Mapping[str, str] = MappingProxyType({}),
        attempts: int = ATTEMPTS,
        ends_run: bool = False,
    ) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self._endpoints = endpoints
        self._attempts = attempts
        self._ends_run = ends_run
        self._profile = profile
        self._role = assume_role
        self._external_id = external_id
        self._for_terraform: dict[str, str] | None = None
        self._embedded = embedded
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session: Any = None
        self._identity = Background(self._ask_identity)
        self._check: Callable[[AwsSession], None] | None = None
        self._checking = threading.Lock()

    @overload
    def client(self, service: Literal["s3"]) -> S3Client: ...
    @overload
    def client(self, service: Literal["sqs"]) -> SQSClient: ...
    @overload
    def client(self, service: Literal["lambda"]) -> LambdaClient: ...
    @overload
    def client(self, service: Literal["logs"]) -> CloudWatchLogsClient: ...
    @overload
    def client(self, service: Literal["cloudwatch"]) -> CloudWatchClient: ...
    @overload
    def client(self, service: Literal["ecr"]) -> ECRClient: ...
    @overload
    def client(self, service: Literal["ecs"]) -> ECSClient: ...
    @overload
    def client(self, service: Literal["events"]) -> EventBridgeClient: ...
    @overload
    def client(self, service: Literal["iam"]) -> IAMClient: ...
    @overload
    def client(self, service: Literal["kms"]) -> KMSClient: ...
    @overload
    def client(self, service: Literal["mq"]) -> MQClient: ...
    @overload
    def client(self, service: Literal["secretsmanager"]) -> SecretsManagerClient: ...
    @overload
    def client(self, service: Literal["scheduler", "sns", "elasticache", "ec2"]) -> Any: ...
    @overload
    def client(self, service: Literal["sts"]) -> STSClient: ...
    def client(self, service: str) -> Any:
        """The boto3 client of `service`. Raises RefinerctlError for an unknown profile."""
        client = self._client(service)  # made while STS answers
        self.admit()
        return client

    def patient_client(self, service: str) -> Any:
        """A client that waits more than 15 minutes for a response and repeats no request, for work that takes long."""
        with self._lock:
            client = self._new_client(self._boto_session(), service, attempts=1, read_timeout_s=LONG_READ_TIMEOUT_S)
            client.meta.events.unregister("before-call", connections.begin_wait)
        self.admit()
        return client

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                client = self._clients[service] = self._new_client(self._boto_session(), service)
                if self._ends_run:
                    client.meta.events.register("after-call-error", connections.end_run)
            return self._clients[service]

    def credentials(self) -> Any:
        """botocore's credentials, which renew themselves. Raises AccessDeniedError if there are none."""
        from botocore.exceptions import NoCredentialsError

        self.admit()
        with self._lock:
            found = self._boto_session().get_credentials()
        if found is None:
            with about():
                raise NoCredentialsError
        return found

    def ca_bundle(self) -> str | None:
        """The file of certificate authorities that AWS_CA_BUNDLE or the profile names."""
        with self._lock:
            found: str | None = self._boto_session()._session.get_config_variable("ca_bundle")
        return found

    def guard(self, check: Callable[[AwsSession], None]) -> None:
        """Let `check` pass or raise before these credentials are used. STS is asked at once, in the background."""
        self._check = check
        self._identity.start()

    def admit(self) -> None:
        """Raises what the check of `guard` raises."""
        with self._checking:
            if self._check is not None:
                self._check(self)
                self._check = None

    def check_network(self) -> None:
        """Raises FatalError if no server can be reached: called before Terraform, which would retry for a minute."""
        if NETWORK.is_silent:
            with contextlib.suppress(Exception):  # Terraform reports any other error itself
                self.client("sts").get_caller_identity()

    def caller(self) -> str:
        """The ARN of the identity in use. STS is asked once."""
        return self._identity.result()

    def _ask_identity(self) -> str:
        with self._lock:
            client = self._new_client(
                self._boto_session(), "sts", attempts=min(3, self._attempts)
            )  # STS may be out of reach in a VPC
        with about():
            return str(client.get_caller_identity()["Arn"])

    def region_name(self) -> str | None:
        """The region in use, which may be the profile's."""
        if self.region:
            return self.region
        with self._lock:
            found: str | None = self._boto_session().region_name
        return found

    def in_region(self, region: str | None, role: str | None = None, external_id: str | None = None) -> AwsSession:
        """These credentials in another region, and as `role` if there is one. None changes nothing."""
        if region in (None, self.region) and role is None:
            return self
        if role is not None:
            self.admit()
        other = AwsSession(
            region or self.region,
            profile=self._profile,
            endpoint_url=self.endpoint_url,
            embedded=self._embedded,
            endpoints=self._endpoints,
            attempts=self._attempts,
            ends_run=self._ends_run,
        )
        with self._lock:
            base = self._boto_session()
        if role and not self._embedded:
            other._session = other._role_session(base, role, external_id)
        else:
            other._session, other._identity, other._check = base, self._identity, lambda _: self.admit()
        return other

    def terraform_environment(self, config: Path) -> dict[str, str]:
        """Variables for a process that is to work with these credentials, this region and this endpoint.

        It asks for new credentials before they expire, by the profile that is written to the file `config`. An empty
        variable stands for one that the process must not see. Raises AccessDeniedError if a role cannot be assumed.
        """
        if self._embedded:
            return embedded_environment(self.region or "", self.endpoint_url or "", self._endpoints)
        self.admit()
        region = self.region_name()
        given = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region} if region else {}
        if self.endpoint_url:  # also if the caller's variables or profile tell SDKs to ignore such variables
            given |= {"AWS_ENDPOINT_URL": self.endpoint_url, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false"}
        if (seed := self.process_credentials()) is None:
            return given  # there are none: a state over HTTP needs none
        with self._lock:
            content = credentials.process_config(self._boto_session()._session)
        config.parent.mkdir(0o700, parents=True, exist_ok=True)
        with replacing(config, private=True) as temporary:
            temporary.write_text(content, encoding="utf-8")
        arguments = {"region": region, "profile": self._profile, "endpoint_url": self.endpoint_url}
        return given | credentials.process_variables(
            config, seed, {**arguments, "assume_role": self._role, "external_id": self._external_id}
        )

    def process_credentials(self) -> dict[str, Any] | None:
        """These credentials as a `credential_process` prints them; None without any.

        A role is assumed anew, so that they last for as long as they can.
        """
        with about():
            if self._role:
                self._for_terraform = given = self._assume(self._role)
                until = datetime.fromisoformat(given["expiry_time"])
                return credentials.process_document(given["access_key"], given["secret_key"], given["token"], until)
            with self._lock:
                found = self._boto_session().get_credentials()
            if found is None:
                return None
            frozen = found.get_frozen_credentials()
            expiry = getattr(found, "_expiry_time", None)
            return credentials.process_document(frozen.access_key, frozen.secret_key, frozen.token, expiry)

    def credential_lifetime(self) -> tuple[datetime | None, bool]:
        """When the credentials that terraform_environment() leads to run out, in UTC, and whether that is known.

        None if they never do, if they are renewed by themselves, or if it is unknown.
        """
        if self._embedded:
            return None, True
        with about():
            expiry, is_known = credentials.lifetime(self._account_session()._session)  # new: cached ones are older
        if self._role and (expiry or not is_known):  # the role can be assumed again only until then
            given = self._for_terraform = self._for_terraform or self._assume(self._role)
            return max(filter(None, [expiry, datetime.fromisoformat(given["expiry_time"])])), True
        return expiry, is_known

    def _assume(self, role: str) -> dict[str, str]:
        return credentials.assume_role(self._new_client(self._account_session(), "sts"), role, self._external_id)

    def _new_client(
        self, session: Any, service: str, attempts: int | None = None, read_timeout_s: float = READ_TIMEOUT_S
    ) -> Any:
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts or self._attempts},
            connect_timeout=5,
            read_timeout=read_timeout_s,
            tcp_keepalive=read_timeout_s > READ_TIMEOUT_S,  # gateways drop connections that are idle for some minutes
            max_pool_connections=MAX_CONNECTIONS,
            proxies={} if self._embedded else None,
            user_agent_extra=f"refinerctl/{__version__}",
        )
        endpoint_url = self._endpoints.get(service, self.endpoint_url)
        try:
            client = session.client(service, region_name=self.region, endpoint_url=endpoint_url, config=config)
            client.meta.events.register("needs-retry", repeat_unreadable)
            return client  # noqa: TRY300
        except ValueError as error:  # botocore's error for an invalid endpoint URL
            raise UsageError(str(error)) from error

    def _boto_session(self) -> Any:
        if self._session is None:
            self._session = self._embedded_session() if self._embedded else self._account_session()
            if self._role and not self._embedded:
                self._session = self._role_session(self._session, self._role, self._external_id)
        return self._session

    def _role_session(self, base: Any, role: str, external_id: str | None) -> Any:
        sts = self._new_client(base, "sts")
        session = self._account_session()
        credentials.use_role(session._session, sts, role, external_id)
        return session

    def _account_session(self) -> Any:
        import boto3
        from botocore.exceptions import ProfileNotFound

        if self._profile is None:
            credentials.check_token_file(os.environ)
        try:
            session = boto3.Session(profile_name=self._profile, region_name=self.region)
        except ProfileNotFound as error:
            raise RefinerctlError(str(error), hint="See `aws configure list-profiles`, or omit --profile.") from error
        connections.prepare(session)
        return session

    def _embedded_session(self) -> Any:
        import boto3
        from botocore.session import Session

        # (config key, environment variable, default, conversion): no profile and no shared files.
        nothing = dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
        core = Session(session_vars={"profile": (None, None, None, None), **nothing})
        session = boto3.Session(
            botocore_session=core,
            region_name=self.region,
            aws_access_key_id=EMBEDDED_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=EMBEDDED_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        connections.prepare(session)
        return session
