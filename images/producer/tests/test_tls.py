"""TLS to the broker and to Redis is verified."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from producer.publisher import BrokerError
from producer.tests.environment import Environment
from refinerctl.local.emulator import free_port
from refinerctl.local.redis import find_redis
from refinerctl.local.server_programs import InstalledProgram
from tests.certificates import self_signed
from tests.needs import absent
from worker.tests.proxy import Proxy


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for `localhost`, of an authority of its own; its key is in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file = tmp_path / "server.pem"
    file.write_bytes(
        self_signed(key, "localhost").public_bytes(pem) + key.private_bytes(pem, form, serialization.NoEncryption())
    )
    return file


@pytest.fixture
def tls_port(certificate: Path, environment: Environment) -> Iterator[int]:
    """A Redis server that speaks only TLS."""
    program = find_redis()
    if not isinstance(program, InstalledProgram):
        absent("neither Redis nor Valkey is installed")
    port = free_port()
    command = [program.path, "--port", "0", "--bind", "127.0.0.1", "--tls-port", str(port), "--save", ""]
    command += ["--tls-cert-file", str(certificate), "--tls-key-file", str(certificate), "--tls-auth-clients", "no"]
    command += ["--tls-ca-cert-file", str(certificate), "--requirepass", environment.redis_server.password]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        while "Ready to accept connections" not in (line := server.stdout.readline()):
            assert line, "Redis ended"
        yield port
        server.terminate()


def test_certificate_of_redis_is_verified(
    environment: Environment, certificate: Path, tls_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.put("a")
    unknown = environment.run(RNR_CACHE_URL=f"rediss://localhost:{tls_port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    other_host = environment.run(RNR_CACHE_URL=f"rediss://127.0.0.1:{tls_port}")
    trusted = environment.run(RNR_CACHE_URL=f"rediss://localhost:{tls_port}")

    assert [run["deduplicated"] for run in (unknown, other_host, trusted)] == [False, False, True]
    reasons = [line["error"]["message"] for line in environment.lines("cache unavailable")]
    assert len(reasons) == 2
    assert "certificate verify failed" in reasons[0]
    assert "IP address mismatch" in reasons[1]


def test_certificate_of_the_broker_is_verified(environment: Environment, certificate: Path) -> None:
    environment.put("a")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with contextlib.closing(Proxy(environment.rabbitmq.ports["amqp"], context)) as proxy:
        with pytest.raises(BrokerError, match="CERTIFICATE_VERIFY_FAILED"):
            environment.run(RNR_BROKER_URL=f"amqps://localhost:{proxy.port}")
        environment.variables["RNR_BROKER_CA_FILE"] = str(certificate)
        with pytest.raises(BrokerError, match="IP address mismatch"):
            environment.run(RNR_BROKER_URL=f"amqps://127.0.0.1:{proxy.port}")
        assert environment.run(RNR_BROKER_URL=f"amqps://localhost:{proxy.port}")["published"] == 1
