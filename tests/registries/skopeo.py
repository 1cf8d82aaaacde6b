"""skopeo, the independent reader: what does it find in a registry?"""

from __future__ import annotations

import hashlib
import subprocess

from tests.needs import needs_program


def skopeo_inspect(reference: str, credentials: str | None = None) -> str:
    """The digest of what `reference` points at; `credentials` are "user:password"."""
    needs_program("skopeo", "skopeo")
    known = ["--creds", credentials] if credentials else ["--no-creds"]
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", *known, f"docker://{reference}"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return "sha256:" + hashlib.sha256(done.stdout).hexdigest()
