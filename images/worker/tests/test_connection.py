"""Workers whose connection to the broker breaks, is refused, or is not the broker's."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import self_signed
from worker.consumer import STABLE_S
from worker.tests.environment import Environment
from worker.tests.proxy import Proxy
from worker.tests.test_worker import COPY, begin, finish

MakeProxy = Callable[..., Proxy]


@pytest.fixture
def proxy(environment: Environment) -> Iterator[MakeProxy]:
    """Makes a proxy before the broker."""
    proxies: list[Proxy] = []

    def make(context: ssl.SSLContext | None = None) -> Proxy:
        proxies.append(Proxy(environment.broker.ports["amqp"], context))
        return proxies[-1]

    yield make
    for each in proxies:
        each.close()


def test_a_job_goes_on_while_the_connection_is_cut(environment: Environment, proxy: MakeProxy) -> None:
    cut = proxy()
    _, program = begin(environment, "cut.csv", RNR_BROKER_URL=f"amqp://127.0.0.1:{cut.port}")
    worker = environment.workers[0]
    cut.cut()
    assert worker.wait_for_line("broker connection lost")["inHand"] == 1
    worker.wait_for_line("broker connected", 2)
    finish(program)
    worker.wait_for_line("record done")
    # The broker has taken the message back; its second delivery finds the result.
    assert worker.wait_for_line("record ignored")["reason"] == "already completed"
    assert worker.terminate() == 0
    assert environment.ready() == 0


def test_a_worker_connects_again_when_the_broker_is_back(environment: Environment, proxy: MakeProxy) -> None:
    broker = proxy()
    environment.publish(environment.put("before.csv"))
    worker = environment.worker(COPY, RNR_BROKER_URL=f"amqp://127.0.0.1:{broker.port}")
    worker.wait_for_line("record done")
    broker.refuse = True
    broker.cut()
    worker.wait_for_line("broker connection lost", 3)
    environment.publish(environment.put("after.csv"))
    broker.refuse = False
    worker.wait_for_line("record done", 2)


def test_after_a_connection_that_lasted_the_pauses_are_short_again(environment: Environment, proxy: MakeProxy) -> None:
    cut = proxy()
    worker = environment.worker(RNR_BROKER_URL=f"amqp://127.0.0.1:{cut.port}")
    for number in (1, 2, 3):
        worker.wait_for_line("broker connected", number)
        time.sleep(STABLE_S if number == 3 else 0)
        cut.cut()
        worker.wait_for_line("broker connection lost", number)
    pauses = [line["pauseMs"] for line in worker.lines("broker connection lost")]
    assert pauses[2] <= 1000 <= pauses[1]


def test_a_worker_stops_while_the_broker_is_away(environment: Environment) -> None:
    worker = environment.worker(RNR_BROKER_URL="amqp://127.0.0.1:9")
    worker.wait_for_line("broker connection lost")
    assert worker.terminate() == 0


def test_a_rotated_password_is_read_again(environment: Environment, proxy: MakeProxy) -> None:
    user = f"{environment.name}-user"
    change_password(environment, user, "first")
    environment.secrets.put_secret_value(SecretId=environment.secret_arn, SecretString=secret(user, "first"))
    cut = proxy()
    environment.publish(environment.put("first.csv"))
    worker = environment.worker(RNR_BROKER_URL=f"amqp://127.0.0.1:{cut.port}")
    worker.wait_for_line("record done")

    change_password(environment, user, "second")
    cut.cut()
    refused = worker.wait_for_line("broker connection lost", 2)
    assert refused["error"]["name"] == "ProbableAuthenticationError"
    environment.secrets.put_secret_value(SecretId=environment.secret_arn, SecretString=secret(user, "second"))
    environment.publish(environment.put("second.csv"))
    worker.wait_for_line("record done", 2)
    assert "first" not in "".join(str(line["error"]) for line in worker.lines("broker connection lost"))


def test_tls_is_verified_against_the_given_authority(environment: Environment, proxy: MakeProxy) -> None:
    context, authority = certificate(environment.folder, "localhost")
    secure = proxy(context)
    environment.publish(environment.put("secure.csv"))
    worker = environment.worker(RNR_BROKER_URL=f"amqps://localhost:{secure.port}", RNR_BROKER_CA_FILE=str(authority))
    worker.wait_for_line("record done")


@pytest.mark.parametrize("wrong", ["another authority", "another host"])
def test_a_wrong_certificate_is_refused(environment: Environment, proxy: MakeProxy, wrong: str) -> None:
    _, trusted = certificate(environment.folder, "localhost")
    context, authority = certificate(
        environment.folder, "localhost" if wrong == "another authority" else "other.example"
    )
    secure = proxy(context)
    environment.publish(environment.put("secure.csv"))
    ca_file = str(trusted if wrong == "another authority" else authority)
    worker = environment.worker(RNR_BROKER_URL=f"amqps://localhost:{secure.port}", RNR_BROKER_CA_FILE=ca_file)
    assert "CERTIFICATE_VERIFY_FAILED" in worker.wait_for_line("broker connection lost")["error"]["message"]
    assert environment.ready() == 1


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, Path]:
    """Return a server's context, and the file of the authority that signed its certificate (itself)."""
    key = ec.generate_private_key(ec.SECP256R1())
    number = len(list(folder.glob("*.pem")))
    file = folder / f"{number}.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(self_signed(key, host).public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    (folder / f"{number}.key").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, folder / f"{number}.key")
    return context, file


def secret(user: str, password: str) -> str:
    return json.dumps({"username": user, "password": password})


def change_password(environment: Environment, user: str, password: str) -> None:
    """Create a user with all permissions, or change its password."""
    broker = environment.broker
    headers = urllib3.make_headers(basic_auth=f"{broker.username}:{broker.password}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    for path, body in ((f"users/{user}", {"password": password, "tags": ""}), (f"permissions/%2F/{user}", everything)):
        answer = urllib3.request("PUT", f"{broker.api_url}/api/{path}", headers=headers, json=body)
        assert answer.status in (201, 204), answer.data
