"""The emulator as a web page in the developer's browser reaches it, and as an SDK does."""

from __future__ import annotations

import http.client

import pytest

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.local.emulator import Emulator

PAGE = {"Origin": "https://page.example"}
# https://www.rfc-editor.org/rfc/rfc6455#section-1.2
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "mqtt",
}


def ask(
    emulator: Emulator, method: str, path: str, headers: dict[str, str]
) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "headers", [PAGE, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Host": "page.example:80"}]
)
def test_a_web_page_changes_nothing(
    emulator: Emulator, session: AwsSession, unique: str, headers: dict[str, str]
) -> None:
    status, given, body = ask(emulator, "PUT", f"/{unique}", headers)

    assert status == 403
    assert body.startswith("Refused: ")
    assert "Access-Control-Allow-Origin" not in given
    assert not any(bucket["Name"] == unique for bucket in session.client("s3").list_buckets()["Buckets"])


def test_a_web_page_gets_no_permission_in_advance(emulator: Emulator) -> None:
    status, given, _ = ask(emulator, "OPTIONS", "/", {**PAGE, "Access-Control-Request-Method": "PUT"})

    assert status == 403
    assert "Access-Control-Allow-Origin" not in given


def test_a_web_page_opens_no_websocket(emulator: Emulator) -> None:
    iot = {**WEBSOCKET, "Host": f"data.iot.us-east-1.localhost:{emulator.port}"}

    assert ask(emulator, "GET", "/mqtt", {**iot, **PAGE})[0] == 403
    assert ask(emulator, "GET", "/mqtt", iot)[0] == 101


def test_a_bucket_is_found_by_its_virtual_host(emulator: Emulator, bucket: S3Bucket, session: AwsSession) -> None:
    session.client("s3").put_object(Bucket=bucket.name, Key="x", Body=b"content")

    status, _, body = ask(emulator, "GET", "/x", {"Host": f"{bucket.name}.s3.localhost:{emulator.port}"})

    assert (status, body) == (200, "content")
