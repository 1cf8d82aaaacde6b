"""`python -m worker`: runs until SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping

import urllib3

from rnr_common.broker import Broker
from rnr_common.log import Logger, describe_error
from worker.consumer import Consumer
from worker.job import Job
from worker.protection import TaskProtection
from worker.settings import Settings, SettingsError
from worker.storage import Storage, s3_client


def main() -> int:
    """Return the exit code: 0 after SIGTERM or SIGINT, 1 if the worker cannot start."""
    log = Logger(taskId=_task_id(os.environ))
    try:
        consumer = _consumer(log)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: consumer.stop())
        consumer.run()
    except (SettingsError, KeyError, ValueError) as error:
        named = f"{error.args[0]} is not set" if isinstance(error, KeyError) else str(error)
        log.error("worker cannot start", error={**describe_error(error), "message": named})
        return 1
    log.info("stopped")
    return 0


def _consumer(log: Logger) -> Consumer:
    settings = Settings.read(os.environ)
    storage = Storage(s3_client(), settings, log)
    return Consumer(Broker(os.environ), settings, Job(settings, storage, log), TaskProtection(os.environ, log), log)


def _task_id(environ: Mapping[str, str]) -> str:
    """Return the ECS task's id, or the host's name."""
    uri = environ.get("ECS_CONTAINER_METADATA_URI_V4")
    if uri:
        try:
            task = urllib3.request("GET", f"{uri}/task", timeout=2, retries=2).json()
            return str(task["TaskARN"]).rpartition("/")[2]
        except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError):
            pass  # only logs need it
    return socket.gethostname()


if __name__ == "__main__":
    sys.exit(main())
