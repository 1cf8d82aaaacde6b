"""TLS and proxies, against a server with a certificate of its own."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from refinerctl.errors import RefinerctlError
from refinerctl.transport import SMALL_BODY_BYTES, Transport, TransportError
from tests.certificates import self_signed
from tests.integration.registry.copying import QUICK

# .test is never a real domain (RFC 2606): only a proxy can resolve it.
NAME = "registry.test"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = bytes(SMALL_BODY_BYTES + 1) if self.path == "/large" else b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


class _ProxyHandler(BaseHTTPRequestHandler):
    """Accepts only CONNECT, and always connects to the same server."""

    upstream: int
    seen: list[tuple[str, str]]

    def do_CONNECT(self) -> None:
        self.seen.append((self.path, self.headers.get("Proxy-Authorization", "")))
        with socket.create_connection(("127.0.0.1", self.upstream)) as other:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: other, other: self.connection}
            while True:
                for ready in select.select(list(ends), [], [])[0]:
                    if not (content := ready.recv(65536)):
                        return
                    ends[ready].sendall(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that do not trust the certificate hang up."""


@dataclass
class Secure:
    port: int
    certificate: Path
    proxy_port: int
    connects: list[tuple[str, str]]


@contextlib.contextmanager
def _serving(server: _Server) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    key, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + self_signed(key, NAME, NAME, "localhost").public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    seen: list[tuple[str, str]] = []
    handler = type("Handler", (_ProxyHandler,), {"upstream": server.server_port, "seen": seen})
    with _serving(server) as port, _serving(_Server(("127.0.0.1", 0), handler)) as proxy_port:
        yield Secure(port, path, proxy_port, seen)


def fetch(url: str, told: list[str] | None = None) -> bytes:
    return Transport(QUICK, (told if told is not None else []).append).fetch("GET", url, {}).body


def test_untrusted_certificate_is_refused_without_retry(secure: Secure) -> None:
    told: list[str] = []

    with pytest.raises(RefinerctlError, match="not trusted: self-signed certificate") as refused:
        fetch(f"https://localhost:{secure.port}/", told)

    assert not isinstance(refused.value, TransportError)
    assert told == []


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_certificate_trusted_by_a_variable(secure: Secure, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(variable, str(secure.certificate))

    assert fetch(f"https://localhost:{secure.port}/") == b"hello"


def test_certificate_of_another_name_is_refused(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))

    with pytest.raises(RefinerctlError, match="not trusted"):
        fetch(f"https://127.0.0.1:{secure.port}/")


def test_proxy_and_no_proxy(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{secure.proxy_port}")

    assert fetch(f"https://{NAME}/v2/") == b"hello"
    assert secure.connects.pop() == (f"{NAME}:443", "Basic bWU6cEBzcw==")

    assert fetch(f"https://localhost:{secure.port}/") == b"hello"
    assert secure.connects == []  # no proxy for this machine

    monkeypatch.setenv("NO_PROXY", ".test")
    with pytest.raises(RefinerctlError, match=f"host {NAME} does not exist"):
        fetch(f"https://{NAME}/v2/")
    assert secure.connects == []


def test_unsupported_proxy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://me:secret@127.0.0.1:1")

    with pytest.raises(RefinerctlError, match="not an http:// URL") as refused:
        fetch(f"https://{NAME}/v2/")

    assert "secret" not in str(refused.value)


def test_missing_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.invalid:3128")

    with pytest.raises(RefinerctlError, match=rf"HTTPS_PROXY .* to {NAME}: .*proxy\.invalid") as refused:
        fetch(f"https://{NAME}/v2/")

    assert "secret" not in str(refused.value)


def test_plain_http_to_another_machine_is_refused() -> None:
    with pytest.raises(RefinerctlError, match=f"refusing plain HTTP to {NAME}"):
        fetch(f"http://{NAME}/v2/")


def test_closed_connection_is_not_reused(secure: Secure) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[int] = []

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                accepted.append(1)
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        told: list[str] = []
        transport = Transport(QUICK, told.append)
        for _ in range(2):
            assert transport.fetch("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/", {}).body == b"ok"
            threading.Event().wait(0.05)
        thread.join(5)

    assert len(accepted) == 2
    assert told == []


def test_large_response_is_refused(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.certificate))

    with pytest.raises(RefinerctlError, match="more than 8 MiB"):
        fetch(f"https://localhost:{secure.port}/large")


@pytest.mark.parametrize("reads", [0, 2000], ids=["deaf", "slow"])
def test_patience_is_for_the_response_not_for_sending(reads: int) -> None:
    """A registry that reads nothing, or hardly anything, is given up sooner than one that stores what it has read."""
    ended = threading.Event()

    def read(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            while not ended.wait(0.05):
                connection.recv(reads)

    with socket.create_server(("127.0.0.1", 0)) as server:
        if reads:
            threading.Thread(target=read, args=(server,), daemon=True).start()
        began = time.monotonic()
        pieces = (bytes(1024**2) for _ in range(100))
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(TransportError, match="timed out waiting for"):
            Transport(QUICK).send("PUT", url, {"Content-Length": str(100 * 1024**2)}, pieces, 20)
        ended.set()

    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("http://127.0.0.1:{closed}/", TransportError, "failed: Connection refused"),
        ("https://h.invalid/?X-Amz-Signature=secret", RefinerctlError, "host h.invalid does not exist"),
    ],
)
def test_lost_connection_is_explained_without_the_url(url: str, kind: type[RefinerctlError], words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]

    with pytest.raises(kind, match=words) as lost:
        Transport(QUICK).send("GET", url.format(closed=closed), {})

    assert isinstance(lost.value, TransportError) == (kind is TransportError)
    assert "secret" not in str(lost.value)
