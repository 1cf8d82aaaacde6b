"""Lambda: one run of a function, waited for."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refinerctl.aws.errors import about, error_code
from refinerctl.aws.session import AwsSession
from refinerctl.errors import RefinerctlError, TransientError

MAX_ERROR = 1000


@dataclass(frozen=True)
class FunctionRun:
    """A run of a function that has ended. `result` is what it returned; `error` None: it succeeded.

    `log` is the end of its log, up to 4 KB.
    """

    result: Mapping[str, Any]
    error: str | None = None
    log: str = ""


def invoke(session: AwsSession, name: str) -> FunctionRun:
    """Run a function once and wait for its end; the request is never repeated.

    Raises NotFoundError without the function, TransientError if Lambda does not start a run now: the function's
    concurrency is in use.
    """
    client = session.patient_client("lambda")
    with about(f"function {name}", "Check --env and --region, or deploy the stack first."):
        try:
            answer = client.invoke(FunctionName=name, InvocationType="RequestResponse", LogType="Tail", Payload=b"{}")
            payload: bytes = answer["Payload"].read()
        except Exception as error:
            if error_code(error) != "TooManyRequestsException":
                raise
            raise TransientError(
                f"function {name} was not started: a run is in progress, or the account's concurrency is in use",
                hint="Wait until that run has ended, and run the command again.",
            ) from error
    log = base64.b64decode(answer.get("LogResult") or "").decode(errors="replace")
    try:
        found = json.loads(payload or b"null")
    except ValueError:
        found = payload.decode(errors="replace")
    if answer.get("FunctionError"):
        return FunctionRun({}, _error(found), log)
    if found is not None and not isinstance(found, dict):
        raise RefinerctlError(f"function {name} returned no JSON object: {str(found)[:MAX_ERROR]!r}")
    return FunctionRun(found or {}, log=log)


def _error(found: Any) -> str:
    if not isinstance(found, dict):
        return str(found)[:MAX_ERROR] or "no reason given"
    parts = (found.get("errorType"), found.get("errorMessage"))
    return ": ".join(str(part) for part in parts if part)[:MAX_ERROR] or "no reason given"
