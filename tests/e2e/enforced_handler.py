"""Runs the image's own code, in Node.js, with a role, on moto's S3 in this process, which enforces its policies."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.core import set_initial_no_auth_action_count
from moto.core.models import botocore_stubber

from tests.e2e.enforced import BUCKET, REGION, role_session
from tests.e2e.project import ROOT

INPUT, MISSING = "RefinerInput/a", "RefinerInput/never"
FORBIDDEN = 403
# Of a request what its signature and its way are made of.
OWN_HEADERS = {"host", "authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "connection"}
INVOKE = """
import { handler } from "./index.mjs";
const event = JSON.parse(process.env.EVENT);
const context = { awsRequestId: "r", getRemainingTimeInMillis: () => 30_000 };
process.stdout.write(JSON.stringify(await handler(event, context)));
process.exit(0);
"""


@dataclass
class Handled:
    """The result of a batch of INPUT and MISSING. Calls are written as `PUT RefinerOutput/`."""

    failed: list[str] = field(default_factory=list)
    calls: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)


def handle(statements: list[dict[str, Any]]) -> Handled:
    """Run the handler once as a role with these statements."""
    with role_session(statements) as given:
        handled: Handled = _handle(given)
        return handled


@set_initial_no_auth_action_count(0)
def _handle(credentials: Any) -> Handled:
    seen = Handled()
    with _s3(credentials, seen) as port:
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
            "AWS_SESSION_TOKEN": credentials["SessionToken"],
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED": "true",
            "REFINER_INPUT_PREFIX": "RefinerInput/",
            "REFINER_OUTPUT_PREFIX": "RefinerOutput/",
            "REFINER_COMPLETE_PREFIX": "RefinerComplete/",
            "EVENT": json.dumps({"Records": [_record(key) for key in (INPUT, MISSING)]}),
        }
        done = subprocess.run(
            ["node", "--input-type=module", "--eval", INVOKE],
            cwd=ROOT / "images" / "refiner",
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    seen.failed = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
    return seen


def _record(key: str) -> dict[str, Any]:
    detail = {"bucket": {"name": BUCKET}, "object": {"key": key, "size": 1, "etag": "e"}}
    body = {"source": "aws.s3", "detail-type": "Object Created", "time": "2026-03-01T14:00:00Z", "detail": detail}
    return {"messageId": key, "body": json.dumps(body), "attributes": {}}


@contextmanager
def _s3(credentials: Any, seen: Handled) -> Iterator[int]:
    """Passes each request to moto, signed again for its host with the same credentials."""
    signer = Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])

    class Bridge(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            assert credentials["AccessKeyId"] in self.headers["Authorization"]
            headers = {name: value for name, value in self.headers.items() if name.lower() not in OWN_HEADERS}
            request = AWSRequest(self.command, f"https://s3.{REGION}.amazonaws.com{self.path}", headers, body)
            S3SigV4Auth(signer, "s3", REGION).add_auth(request)
            answer = botocore_stubber.process_request(request.prepare())
            assert answer is not None
            status, given, content = answer
            call = f"{self.command} {self.path.removeprefix(f'/{BUCKET}/').partition('/')[0]}/"
            (seen.denied if status == FORBIDDEN else seen.calls).add(call)
            raw = content.encode() if isinstance(content, str) else content
            self.send_response(status)
            for name, value in given.items():
                if name.lower() not in ("content-length", "date", "server", "transfer-encoding"):
                    self.send_header(name, str(value))
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bridge)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
