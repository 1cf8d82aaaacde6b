"""Responses as tests give them."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

from urllib3 import HTTPResponse

from refinerctl.transport import Limits, Response
from refinerctl.waits import Waits


def response(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
    raw = HTTPResponse(BytesIO(body), headers, status, preload_content=False)
    return Response("server", raw, Limits(read_timeout_s=600), Waits())  # a busy machine may pause
