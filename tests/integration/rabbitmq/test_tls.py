"""TLS to a broker: verified against the broker's own name, also through a forwarded port."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from refinerctl.errors import RefinerctlError
from refinerctl.rabbitmq.amqp import AmqpConnection
from refinerctl.rabbitmq.endpoint import BrokerEndpoint, endpoint_of
from refinerctl.rabbitmq.management import Management
from tests.certificates import self_signed

HOST = "b-1.mq.eu-west-1.amazonaws.com"


class Handler(BaseHTTPRequestHandler):
    timeout = 0.5  # whoever does not speak HTTP

    def do_GET(self) -> None:
        body = b'{"rabbitmq_version": "3.13.7"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of an HTTPS server with a certificate for HOST, which is trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed(key, HOST).public_bytes(pem))
    private = tmp_path / "key.pem"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def endpoint(port: int, host: str) -> BrokerEndpoint:
    given = f"amqps://127.0.0.1:{port},https://127.0.0.1:{port}"
    return endpoint_of("b", f"amqps://{host}:5671", f"https://{host}", given, ("me", "word"), "b-secret")


def test_certificate_of_the_broker_is_accepted_at_a_forwarded_port(server: int) -> None:
    found = endpoint(server, HOST)
    assert Management(found).version() == "3.13.7"
    with pytest.raises(RefinerctlError, match="it does not speak AMQP"):
        AmqpConnection(found).ready("q")


def test_certificate_of_another_host_is_refused(server: int) -> None:
    found = endpoint(server, "b-2.mq.eu-west-1.amazonaws.com")
    with pytest.raises(RefinerctlError, match="certificate of the management API of broker b is not trusted"):
        Management(found).version()
    with pytest.raises(RefinerctlError, match="certificate of broker b is not trusted"):
        AmqpConnection(found).ready("q")


def test_unknown_authority_is_refused(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(RefinerctlError, match="is not trusted"):
        Management(endpoint(server, HOST)).version()
