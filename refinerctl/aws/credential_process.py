"""A program that prints credentials for Terraform, which asks again before they expire.

A `credential_process` of AWS's configuration (https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html).
It runs as a file of its own: most calls end before anything else would have been imported.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

# What the program works with, as JSON: `seed`, credentials that it prints as long as they last; `environment`, the
# AWS_* variables of refinerctl itself, and `folder`, where it was run, as these may name files by relative paths; and
# the arguments of the session that gives new ones.
VARIABLE = "REFINERCTL_CREDENTIAL_PROCESS"
_RENEW_BEFORE = timedelta(minutes=10)
# AWS's SDK for Go asks again only at the end, when a request may be too late.
_EARLIER = timedelta(minutes=5)


def main() -> None:
    """Print credentials: with an argument those of that profile, else those of the run."""
    given = json.loads(os.environ[VARIABLE])
    profile = sys.argv[1] if len(sys.argv) > 1 else None
    printed = given["seed"]
    if profile is not None or not _lasts(printed):
        printed = _renewed(given, profile)
    if "Expiration" in printed and _lasts(printed):
        expiry = datetime.fromisoformat(printed["Expiration"]) - _EARLIER
        printed = {**printed, "Expiration": f"{expiry:%Y-%m-%dT%H:%M:%SZ}"}
    sys.stdout.write(json.dumps(printed))


def _lasts(document: dict[str, Any]) -> bool:
    expiry = document.get("Expiration")
    return expiry is None or datetime.fromisoformat(expiry) - _RENEW_BEFORE > datetime.now(UTC)


def _renewed(given: dict[str, Any], profile: str | None) -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from refinerctl.aws.errors import explain
    from refinerctl.aws.session import AwsSession
    from refinerctl.errors import RefinerctlError

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # those that lead to this program
    os.environ |= given["environment"]
    arguments = given["session"] | ({"profile": profile, "assume_role": None} if profile else {})
    try:
        os.chdir(given["folder"])  # terraform runs it in the module's
        document = AwsSession(**arguments, embedded=False).process_credentials()
    except Exception as error:
        known = error if isinstance(error, RefinerctlError) else explain(error)
        sys.exit(f"refinerctl: error: {known.message if known else error}")
    if document is None:
        sys.exit("refinerctl: error: no AWS credentials found")
    return document


if __name__ == "__main__":
    main()
