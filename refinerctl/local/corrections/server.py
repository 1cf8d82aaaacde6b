"""The server: finds out which operation of which service a request is for, and asks the correction, or the emulator."""

from __future__ import annotations

import http.client
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

from refinerctl.errors import RefinerctlError
from refinerctl.local.runtime_api import HOST, LoopbackServer
from refinerctl.local.web_guard import GuardedHandler

# Credential=<access key>/<date>/<region>/<service>/aws4_request
_SCOPE = re.compile(r"Credential=[^/,\s]+/\d+/([^/]+)/([^/]+)/aws4_request")
_OF_THIS_CONNECTION = ("host", "connection", "keep-alive", "content-length", "accept-encoding", "expect")
# Longer than any correction: the start of a server.
TIMEOUT_SECONDS = 120
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AwsRequest:
    """`service` is the name in the signature's scope. `operation` is `POST /v1/brokers` for a service without names."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    service: str = ""
    operation: str = ""

    @property
    def json(self) -> dict[str, Any]:
        """The body. Raises ValueError if it is not a JSON object."""
        document = json.loads(self.body or b"{}")
        if not isinstance(document, dict):
            raise ValueError("the request is not a JSON object")  # noqa: TRY004 - as for a body that is not JSON
        return document

    @property
    def form(self) -> dict[str, str]:
        """The parameters of a request in the query protocol."""
        return dict(parse_qsl(self.body.decode(errors="replace"), keep_blank_values=True))

    def with_json(self, document: Any, **headers: str) -> AwsRequest:
        """This request with another body, and with other headers."""
        return replace(self, body=json.dumps(document).encode(), headers={**self.headers, **headers})


@dataclass(frozen=True)
class AwsAnswer:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return self.status < 300

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body or b"{}")
        return document

    def with_json(self, document: Any) -> AwsAnswer:
        return replace(self, body=json.dumps(document).encode())


def json_answer(document: Any) -> AwsAnswer:
    return AwsAnswer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def error(code: str, message: str, status: int = 400) -> AwsAnswer:
    """An error as services with JSON answers send it; SDKs do not repeat a request with status 400."""
    body = json.dumps({"__type": code, "message": message}).encode()
    return AwsAnswer(status, body, {"Content-Type": "application/json", "x-amzn-ErrorType": code})


Forward = Callable[[AwsRequest], AwsAnswer]
# Answers a request itself, or forwards it and corrects the answer.
Correction = Callable[[AwsRequest, Forward], AwsAnswer]


class CorrectingServer:
    """Forwards requests to the emulator. `correct` registers what answers certain operations instead."""

    def __init__(self, emulator_url: str) -> None:
        self._emulator = urlsplit(emulator_url).netloc
        self._corrections: dict[tuple[str, str], Correction] = {}
        self._server = LoopbackServer(self, _Handler, "corrections")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def correct(self, service: str, operation: str, correction: Correction) -> None:
        """Let `correction` answer this operation, for instance `ListTasks` of `ecs`.

        Operations of `mq` have no names: they are a method and a path, with `{}` for an id, as `GET /v1/brokers/{}`.
        """
        self._corrections[service, operation] = correction

    def answer(self, request: AwsRequest) -> AwsAnswer:
        correction = self._corrections.get((request.service, request.operation))
        try:
            return self._forward(request) if correction is None else correction(request, self._forward)
        except RefinerctlError as problem:
            log.exception("%s %s failed", request.service, request.operation)
            return _failed(request, "BadRequestException", f"{problem.message}. {problem.hint or ''}".strip())
        except ValueError as problem:
            return _failed(request, "SerializationException", str(problem))
        except OSError as problem:
            text = f"the emulator does not answer: {problem}"
            return _failed(request, "InternalServerErrorException", text, status=500)

    def close(self) -> None:
        self._server.close()

    def _forward(self, request: AwsRequest) -> AwsAnswer:
        connection = http.client.HTTPConnection(self._emulator, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            response = connection.getresponse()
            headers = {name: value for name, value in response.getheaders() if _is_forwarded(name)}
            return AwsAnswer(response.status, response.read(), headers)
        except http.client.HTTPException as problem:
            raise OSError(f"{type(problem).__name__}: {problem}") from problem
        finally:
            connection.close()


def _failed(request: AwsRequest, code: str, message: str, status: int = 400) -> AwsAnswer:
    """An error in the request's protocol: JSON, or XML as the answer to a form."""
    if "form" not in request.headers.get("content-type", ""):
        return error(code, message, status)
    content = f"<Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message>"
    body = f"<ErrorResponse><Error>{content}</Error></ErrorResponse>"
    return AwsAnswer(status, body.encode(), {"Content-Type": "text/xml"})


def _is_forwarded(header: str) -> bool:
    return header.lower() not in (*_OF_THIS_CONNECTION, "transfer-encoding", "date", "server")


def _operation(service: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
    """The operation's name: in a header (JSON), in the path (CBOR), or in the body (query protocol)."""
    if target := headers.get("x-amz-target"):
        return target.rpartition(".")[2]
    if "/operation/" in path:
        return path.rpartition("/operation/")[2]
    if service == "mq":
        resource = re.sub(r"/(brokers|users)/[^/]+", r"/\1/{}", urlsplit(path).path)
        return f"{method} {resource}"
    return dict(parse_qsl(body.decode(errors="replace"))).get("Action", "")


class _Handler(GuardedHandler):
    server: LoopbackServer

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        scope = _SCOPE.search(self.headers.get("Authorization", ""))
        service = scope[2] if scope else ""
        lower = {name.lower(): value for name, value in self.headers.items()}
        operation = _operation(service, self.command, self.path, lower, body)
        headers = {name: value for name, value in lower.items() if name not in _OF_THIS_CONNECTION}
        answer = self.server.owner.answer(AwsRequest(self.command, self.path, headers, body, service, operation))
        self.answer(answer.status, answer.body, answer.headers)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815 - the base class's names
