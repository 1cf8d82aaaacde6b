"""RabbitMQ and Redis as processes: who may connect, what a crash leaves, what `stop` leaves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pika
import psutil
import pytest
import redis as client
import urllib3

from refinerctl.embedded import MARKER, Instance
from refinerctl.errors import RefinerctlError
from refinerctl.local.rabbitmq import RabbitMQServer, start_rabbitmq
from refinerctl.local.redis import RedisServer, start_redis
from tests.brokers import SETTLED_SECONDS, needs_redis


def listening(pid: int) -> set[str]:
    """Addresses that a process and its children listen on."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = [connection for process in processes for connection in process.net_connections()]
    return {connection.laddr.ip for connection in found if connection.status == psutil.CONN_LISTEN}


def commands(process: psutil.Process) -> list[str]:
    """The command line and the folder of a process; nothing of one that has ended, or of another user."""
    try:
        return [*process.cmdline(), process.cwd()]
    except psutil.Error:
        return []


def port_mappers(server: RabbitMQServer) -> list[psutil.Process]:
    """The processes of Erlang's port mapper for this server."""
    port = str(server.ports["epmd"])
    found = [process for process in psutil.process_iter() if "epmd" in " ".join(commands(process)[:1])]
    return [process for process in found if port in commands(process)]


@pytest.mark.nightly
def test_confirmed_message_survives_crash_of_rabbitmq(rabbitmq: RabbitMQServer) -> None:
    channel = pika.BlockingConnection(pika.URLParameters(rabbitmq.amqp_url)).channel()
    channel.confirm_delivery()
    channel.queue_declare("survives", durable=True, arguments={"x-queue-type": "quorum"})
    time.sleep(SETTLED_SECONDS)
    channel.basic_publish("", "survives", b"x", pika.BasicProperties(delivery_mode=2), mandatory=True)
    for process in port_mappers(rabbitmq):  # a node that finds none starts one that outlives it
        process.kill()
    rabbitmq.kill()
    assert rabbitmq.pid is None
    rabbitmq.start()
    assert [process.ppid() for process in port_mappers(rabbitmq)] == [os.getpid()]
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.amqp_url)) as connection:
        assert connection.channel().basic_get("survives", auto_ack=True)[2] == b"x"


def test_rabbitmq_has_one_user_and_listens_on_loopback_only(rabbitmq: RabbitMQServer) -> None:
    users = urllib3.request(
        "GET", f"{rabbitmq.api_url}/api/users", headers=urllib3.make_headers(basic_auth=f"admin:{rabbitmq.password}")
    ).json()
    assert [user["name"] for user in users] == ["admin"]
    guest = rabbitmq.amqp_url.replace(f"admin:{rabbitmq.password}", "guest:guest")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(pika.URLParameters(guest))
    assert rabbitmq.pid is not None
    assert listening(rabbitmq.pid) == {"127.0.0.1"}
    texts = [file.read_text(errors="replace") for file in rabbitmq.folder.iterdir() if file.is_file()]
    assert not any(rabbitmq.password in text for text in texts)


def test_rabbitmq_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RefinerctlError, match="no_such_setting"):
        start_rabbitmq(tmp_path / "node", settings={"no_such_setting": "1"})
    assert not [process for process in psutil.process_iter() if str(tmp_path) in str(commands(process))]


def test_redis_needs_its_password(redis: RedisServer) -> None:
    assert client.Redis.from_url(redis.url).ping()
    with pytest.raises(client.AuthenticationError):
        client.Redis.from_url(redis.endpoint).ping()
    assert redis.pid is not None
    assert listening(redis.pid) == {"127.0.0.1"}


def test_redis_of_a_killed_supervisor_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_redis()
    monkeypatch.setenv(MARKER, str(tmp_path))
    server = start_redis(tmp_path / "redis")
    try:
        assert Instance(tmp_path).kill_orphans() == 1
        assert server.pid is None
    finally:
        server.stop()


def test_redis_restarts_empty_on_the_same_port(tmp_path: Path) -> None:
    needs_redis()
    server = start_redis(tmp_path / "redis")
    try:
        client.Redis.from_url(server.url).set("a", "b")
        server.kill()
        server.start()
        assert client.Redis.from_url(server.url).get("a") is None
    finally:
        server.stop()
