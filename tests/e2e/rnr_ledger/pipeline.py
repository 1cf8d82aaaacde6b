"""The pipeline of one test: its queue, bucket, workers and functions, and what they leave behind."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
import urllib3

from refinerctl.local.rabbitmq import RabbitMQServer
from refinerctl.local.redis import RedisServer
from rnr_common.message import WorkMessage
from tests.e2e.rnr_ledger.processes import Function, Line, Log
from worker.tests.environment import IMAGES, LIMIT_S, Environment, WorkerProcess, wait_for

ROOT = Path(__file__).parents[3]
INPUT, OUTPUT, COMPLETE, MERGED = "rnr/input/", "rnr/output/", "rnr/complete/", "rnr/merged/"
_DONE = ("record done", "record ignored")


class Pipeline:
    """Servers are the caller's. Images use `aws_url`, which may be a proxy; the test itself uses the emulator."""

    def __init__(
        self, environment: Environment, cache: RedisServer, aws_url: str, variables: Mapping[str, str]
    ) -> None:
        self.environment, self.cache, self.bucket = environment, cache, environment.name
        self.user, self.password = f"{environment.name}-user", "the first password"
        self._http = urllib3.PoolManager(maxsize=8, retries=False)
        self.set_password(self.password)
        token = json.dumps({"token": cache.password})
        cache_secret = environment.secrets.create_secret(Name=f"{self.bucket}-cache", SecretString=token)["ARN"]
        environment.variables.update(
            {
                "PYTHONPATH": f"{IMAGES}{os.pathsep}{ROOT}",
                "AWS_ENDPOINT_URL": aws_url,
                "RNR_CACHE_URL": cache.endpoint,
                "RNR_CACHE_SECRET": cache_secret,
                "RNR_INPUT_PREFIX": INPUT,
                "RNR_OUTPUT_PREFIX": OUTPUT,
                "RNR_COMPLETE_PREFIX": COMPLETE,
                "RNR_MERGED_PREFIX": MERGED,
                **variables,
            }
        )
        self._functions: list[Function] = []
        self._logs: dict[Path, Log] = {}
        self.inputs: dict[str, WorkMessage] = {}
        self.claimed_by_killed: set[str] = set()

    @property
    def broker(self) -> RabbitMQServer:
        return self.environment.broker

    def set_password(self, password: str) -> None:
        """Change the password of the images' user: at the broker first, then the secret, as an operator does."""
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.api("PUT", f"users/{self.user}", {"password": password, "tags": ""})
        self.api("PUT", f"permissions/%2F/{self.user}", everything)
        secret = json.dumps({"username": self.user, "password": password})
        self.environment.secrets.put_secret_value(SecretId=self.environment.secret_arn, SecretString=secret)
        self.password = password

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer of RabbitMQ's management API."""
        headers = urllib3.make_headers(basic_auth=f"{self.broker.username}:{self.broker.password}")
        answer = self._http.request(method, f"{self.broker.api_url}/api/{path}", headers=headers, json=body)
        assert answer.status < 300 or (method, answer.status) == ("DELETE", 404), answer.data
        return answer.json() if answer.data else None

    @property
    def claims(self) -> redis.Redis:
        return redis.Redis.from_url(self.cache.url, decode_responses=True)

    # S3, without a signature (the emulator checks none): ten times as fast as boto3

    def put(self, inputs: Mapping[str, bytes]) -> None:
        """Put inputs by their names."""
        with ThreadPoolExecutor(4) as pool:
            for message in pool.map(self._put, inputs.items()):
                self.inputs[message.key.removeprefix(INPUT)] = message

    def _put(self, item: tuple[str, bytes]) -> WorkMessage:
        name, body = item
        answer = self._http.request("PUT", self._url(INPUT + name), body=body)
        assert answer.status == 200, answer.data
        return WorkMessage(self.bucket, INPUT + name, None, answer.headers["ETag"].strip('"'), len(body))

    def put_by_producer(self) -> None:
        """Take products that the producer has put for inputs, too."""
        for item in self._list(INPUT):
            name = item["Key"].removeprefix(INPUT)
            found = WorkMessage(self.bucket, item["Key"], None, item["ETag"].strip('"'), item["Size"])
            self.inputs.setdefault(name, found)

    def get(self, key: str) -> bytes:
        answer = self._http.request("GET", self._url(key))
        assert answer.status == 200, f"{key}: {answer.data[:300]!r}"
        return answer.data

    def keys(self, prefix: str) -> list[str]:
        """Return the rest of the keys below a prefix."""
        return [item["Key"].removeprefix(prefix) for item in self._list(prefix)]

    def stored(self, prefix: str) -> dict[str, bytes]:
        """Return the objects below a prefix, by the rest of their keys."""
        keys = self.keys(prefix)
        with ThreadPoolExecutor(4) as pool:
            return dict(zip(keys, pool.map(lambda key: self.get(prefix + key), keys), strict=True))

    def _list(self, prefix: str) -> Iterator[Any]:
        pages = self.environment.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return (item for page in pages for item in page.get("Contents", []))

    def _url(self, key: str) -> str:
        return f"{self.environment.aws_url}/{self.bucket}/{quote(key)}"

    def merged_rows(self) -> list[tuple[str, ...]]:
        """Return the rows of all merged files that a manifest names; the first column is the source."""
        found = self.stored(MERGED)
        manifests = [json.loads(body) for key, body in found.items() if key.endswith(".json")]
        files = [key.removeprefix(MERGED) for manifest in manifests for key in manifest["files"]]
        texts = [found[key].decode() for key in files if key.endswith(".csv")]
        return [tuple(row) for text in texts for row in list(csv.reader(io.StringIO(text)))[1:]]

    # processes

    def function(self, module: str) -> Function:
        number = len(self._functions)
        log = self.environment.folder / f"function-{number}-{module}.log"
        self._functions.append(Function(module, self.function_environ, log))
        return self._functions[-1]

    @property
    def function_environ(self) -> dict[str, str]:
        names = self.environment
        return {
            "PATH": os.environ["PATH"],
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "RNR_NAME": names.name,
            "RNR_QUEUE": names.queue,
            "RNR_BROKER_URL": self.broker.endpoint,
            "RNR_BROKER_SECRET": names.secret_arn,
            "RNR_INPUT_BUCKET": names.name,
            "RNR_OUTPUT_BUCKET": names.name,
            **names.variables,
        }

    def start_workers(self, number: int) -> None:
        """Start workers until so many run."""
        running = [worker for worker in self.environment.workers if worker.process.poll() is None]
        for _ in range(number - len(running)):
            self.environment.worker()

    def busy_worker(self) -> WorkerProcess:
        """Return a worker that is in the middle of a job."""
        running = [worker for worker in self.environment.workers if worker.process.poll() is None]
        return wait_for("a busy worker", lambda: next(filter(self._is_busy, running), None))  # type: ignore[no-any-return]

    def _is_busy(self, worker: WorkerProcess) -> bool:
        lines = self._log(worker.log).lines()
        return bool(lines) and lines[-1]["message"] == "record received"

    def _log(self, path: Path) -> Log:
        return self._logs.setdefault(path, Log(path))

    def lines(self, *messages: str) -> Iterator[Line]:
        """Yield the log lines of all processes with these messages."""
        logs = [self._log(worker.log) for worker in self.environment.workers]
        for log in [*logs, *(function.log for function in self._functions)]:
            yield from (line for line in log.lines() if line["message"] in messages)

    def wait_until_done_with(self, names: Iterable[str]) -> None:
        left = {INPUT + name for name in names}

        def some_done() -> set[str]:
            return left & {line.get("key") for line in self.lines(*_DONE)}

        while left:
            left -= wait_for("another result", some_done)

    def dead_letters(self) -> Counter[str]:
        """Return the ids of the messages in the DLQ."""
        return Counter(properties.message_id for properties, _ in self.environment.dead_letters())

    def wait_until_empty(self) -> None:
        """Return when no message is in the queue, or in a worker's hands."""
        path = f"queues/%2F/{self.environment.queue}?columns=messages"
        wait_for("an empty queue", lambda: self.api("GET", path).get("messages") == 0)

    def cut_connections(self) -> int:
        """Make the broker close the connections of the images' user; return how many."""
        names = [found["name"] for found in self.api("GET", "connections") if found.get("user") == self.user]
        for name in names:
            self.api("DELETE", f"connections/{quote(name, safe='')}")
        return len(names)

    def stop_workers(self) -> None:
        """SIGTERM; each must end in order."""
        running = [worker for worker in self.environment.workers if worker.process.poll() is None]
        for worker in running:
            worker.process.terminate()
        assert [worker.process.wait(LIMIT_S) for worker in running] == [0] * len(running)

    def close(self) -> None:
        for function in self._functions:
            function.close()
        self.environment.close()
