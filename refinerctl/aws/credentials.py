"""Credentials: an assumed role, the credentials of a terraform process, and when they expire."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refinerctl.aws import credential_process
from refinerctl.aws.errors import error_code, explain
from refinerctl.errors import AccessDeniedError

if TYPE_CHECKING:
    from botocore.session import Session as CoreSession
    from mypy_boto3_sts import STSClient

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Whatever else could decide whose credentials terraform takes. The SDK of Terraform takes an empty one for unset.
_SOURCES = ("AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
# Profile names that need no quotes in AWS's configuration; others are left out.
_NAME = re.compile(r"[\w.@:/+-]+", re.ASCII)
_WEB_IDENTITY = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")

# Names under which login programs store the expiry of credentials in the shared files.
_EXPIRY_KEYS = ("x_security_token_expires", "aws_expiration", "aws_session_expiration", "expiration")
# Sources that renew credentials before they expire, as long as the machine runs.
_SELF_RENEWING = {"iam-role", "container-role"}


# The profile of the run, in the configuration that is written for Terraform.
_RUN = "refinerctl-run"
# What a profile says besides its credentials: these settings have the same meaning in Terraform's SDK.
_SETTINGS = frozenset(
    {
        "ca_bundle",
        "defaults_mode",
        "endpoint_url",
        "ignore_configured_endpoint_urls",
        "max_attempts",
        "region",
        "request_checksum_calculation",
        "response_checksum_validation",
        "retry_mode",
        "services",
        "use_dualstack_endpoint",
        "use_fips_endpoint",
    }
)


def process_variables(config: Path, seed: Mapping[str, Any], session: Mapping[str, Any]) -> dict[str, str]:
    """Variables of a process that must use only the credentials of a session, and asks for new ones before they expire.

    `config`: the file with `process_config`; `seed`: the credentials of now; `session`: its arguments for AwsSession.
    """
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return {
        **dict.fromkeys((*_KEYS, *_SOURCES), ""),
        "AWS_PROFILE": _RUN,
        "AWS_CONFIG_FILE": str(config),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        credential_process.VARIABLE: json.dumps(
            {"seed": seed, "folder": str(Path.cwd()), "environment": environment, "session": session}
        ),
    }


def process_config(core: CoreSession) -> str:
    """AWS's configuration for such a process: all credentials come from `credential_process`, so it holds no secret.

    It has the profiles of `core`, too, because a backend or a provider may name one.
    """
    # Terraform's parser removes quotes at the beginning and end of a value, so `env` comes first.
    program = ("env", sys.executable, "-P", str(Path(credential_process.__file__).resolve()))
    profiles = {name: given for name, given in core.full_config.get("profiles", {}).items() if _NAME.fullmatch(name)}
    lines = ["# Written by refinerctl for terraform."]
    for name, given in {**profiles, _RUN: core.get_scoped_config()}.items():
        lines.append("[default]" if name == "default" else f"[profile {name}]")
        lines.append(f"credential_process = {shlex.join([*program, *([] if name == _RUN else [name])])}")
        lines += _config_lines({key: given[key] for key in _SETTINGS & given.keys()})
    for name, given in core.full_config.get("services", {}).items():
        lines += [f"[services {name}]", *_config_lines(given)]
    return "".join(f"{line}\n" for line in lines)


def _config_lines(given: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in sorted(given.items()):
        if isinstance(value, Mapping):
            yield f"{key} ="
            yield from _config_lines(value, "  ")
        else:
            yield f"{indent}{key} = {value}"


def process_document(key: str, secret: str, token: str | None, expiry: datetime | None) -> dict[str, Any]:
    """Credentials as a `credential_process` prints them."""
    document = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": secret, "SessionToken": token or None}
    expires = f"{expiry.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if expiry else None
    return {name: value for name, value in {**document, "Expiration": expires}.items() if value is not None}


def role_session_name(environ: Mapping[str, str]) -> str:
    """The name of the session in CloudTrail: refinerctl and the CI job or the user, within STS's 64 characters."""
    if job := environ.get("CI_JOB_ID"):
        who = f"job-{job}"
    else:
        with contextlib.suppress(OSError, KeyError):  # a container's user may have no name
            who = getpass.getuser()
    name = re.sub(r"[^\w+=,.@-]", "-", f"refinerctl-{who or 'unknown'}", flags=re.ASCII)
    return name[:64]


def assume_role(sts: STSClient, arn: str, external_id: str | None = None) -> dict[str, str]:
    """An hour as a role, as botocore has it: access_key, secret_key, token, and expiry_time in ISO format and UTC.

    Raises AccessDeniedError that names the role and who asked for it.
    """
    more: Any = {"ExternalId": external_id} if external_id else {}
    try:
        given = sts.assume_role(RoleArn=arn, RoleSessionName=role_session_name(os.environ), **more)["Credentials"]
    except Exception as error:
        if error_code(error) in ("AccessDenied", "AccessDeniedException"):
            raise AccessDeniedError(
                f"{_caller(sts)} may not assume the role {arn}",
                hint="The caller needs sts:AssumeRole for it, and the role's trust policy has to name the caller. "
                "If it asks for an external ID, pass --assume-role-external-id.",
            ) from error
        if (said := explain(error)) is not None:
            raise type(said)(f"cannot assume the role {arn}: {said.message}", hint=said.hint) from error
        raise
    return {
        "access_key": given["AccessKeyId"],
        "secret_key": given["SecretAccessKey"],
        "token": given["SessionToken"],
        "expiry_time": given["Expiration"].astimezone(UTC).isoformat(),
    }


def _caller(sts: STSClient) -> str:
    try:
        return sts.get_caller_identity()["Arn"]
    except Exception:  # report the first error
        return "the identity in use"


def use_role(core: Any, sts: STSClient, arn: str, external_id: str | None = None) -> None:
    """Let all clients of botocore's session work as a role, renewed as often as needed.

    Assumes it at once, so that its errors come here.
    """
    from botocore.credentials import RefreshableCredentials

    fetch = partial(assume_role, sts, arn, external_id)
    core._credentials = RefreshableCredentials.create_from_metadata(fetch(), fetch, "sts-assume-role")


def check_token_file(environ: Mapping[str, str]) -> None:
    """The SDK's own error does not name the variable."""
    path, role = (environ.get(name) for name in _WEB_IDENTITY)
    if path and role and not environ.get("AWS_ACCESS_KEY_ID") and not Path(path).is_file():
        raise AccessDeniedError(
            f"cannot assume {role}: file {path} of AWS_WEB_IDENTITY_TOKEN_FILE does not exist",
            hint="In a GitLab job, write the job's ID token (id_tokens:) to that file first.",
        )


def lifetime(core: CoreSession) -> tuple[datetime | None, bool]:
    """When the credentials that `core` finds run out, in UTC, and whether that is known; renewed if they can be.

    None if they never do, or if their source renews them.
    """
    credentials = core.get_credentials()
    if credentials is None or credentials.method in _SELF_RENEWING:
        return None, True
    if credentials.method == "env":  # cannot be renewed, and cannot be used after their expiry
        token = os.environ.get("AWS_SESSION_TOKEN") or os.environ.get("AWS_SECURITY_TOKEN")
        expires_at = _time(os.environ.get("AWS_CREDENTIAL_EXPIRATION"))
    else:
        token = credentials.get_frozen_credentials().token  # fetches or renews what can be
        expires_at = getattr(credentials, "_expiry_time", None) or _written_down(core)
    if not token:
        return None, True
    return expires_at and expires_at.astimezone(UTC), expires_at is not None


def _written_down(core: CoreSession) -> datetime | None:
    profiles: dict[str, dict[str, Any]] = core.full_config.get("profiles", {})
    profile = profiles.get(core.profile or "default", {})
    return next(filter(None, (_time(profile.get(key)) for key in _EXPIRY_KEYS)), None)


def _time(text: str | None) -> datetime | None:
    """Those without a zone are in UTC."""
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
