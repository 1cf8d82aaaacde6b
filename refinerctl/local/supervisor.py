"""The process behind a local environment: it starts the emulator and all other servers, and stops them.

`python -m refinerctl.local.supervisor DIRECTORY --engine NAME --region NAME …`
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refinerctl.aws.lambda_ import Functions
from refinerctl.aws.logs import LogGroups
from refinerctl.aws.session import EMBEDDED_CREDENTIALS, AwsSession, endpoint_variables
from refinerctl.embedded import MARKER, Instance
from refinerctl.errors import RefinerctlError
from refinerctl.images import BuildContext
from refinerctl.local.corrections.cloudwatch import correct_alarms
from refinerctl.local.corrections.ecs import ServiceCorrections
from refinerctl.local.corrections.elasticache import CacheCorrections
from refinerctl.local.corrections.mq import BrokerCorrections
from refinerctl.local.corrections.secretsmanager import correct_stages
from refinerctl.local.corrections.server import CorrectingServer
from refinerctl.local.ecs_agent import EcsAgent
from refinerctl.local.emulator import Emulator, start_emulator
from refinerctl.local.engines import ContainerEngine, ProcessEngine
from refinerctl.local.function_host import FunctionHost
from refinerctl.local.function_logs import FunctionLogs
from refinerctl.local.server_programs import remove_containers
from refinerctl.local.servers import LocalServers

ALREADY_RUNNING = 75
"""The exit code of a supervisor that finds another one running."""
# Services whose endpoint is the correcting server.
CORRECTED = ("mq", "elasticache", "ecs", "cloudwatch", "secretsmanager")
log = logging.getLogger("refinerctl.local.supervisor")


def main() -> int:
    options = _parser().parse_args()
    instance = Instance(Path(options.directory))
    os.environ[MARKER] = str(instance.directory)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if options.lifeline is not None:
        threading.Thread(target=_watch_lifeline, args=(options.lifeline, stop), daemon=True).start()
    with instance.supervised() as ours:
        if not ours:
            return ALREADY_RUNNING
        return _supervise(instance, options, stop)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="refinerctl.local.supervisor")
    parser.add_argument("directory")
    parser.add_argument("--region", required=True)
    parser.add_argument("--contexts", required=True, type=_contexts)
    parser.add_argument("--venvs", required=True, type=Path)
    parser.add_argument("--engine", choices=("process", "docker"), required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--lifeline", type=int)
    return parser


def _contexts(text: str) -> dict[str, BuildContext]:
    contexts = json.loads(text).items()
    return {repository: BuildContext(Path(folder), dockerfile) for repository, (folder, dockerfile) in contexts}


def _watch_lifeline(descriptor: int, stop: threading.Event) -> None:
    """The command that started this process holds the other end, which closes when that command ends for any reason."""
    while os.read(descriptor, 1):
        pass
    log.info("the command that started this environment has ended")
    stop.set()


class _State:
    """The state file; written by several threads."""

    def __init__(self, instance: Instance, engine: str) -> None:
        self._instance = instance
        self._lock = threading.Lock()
        self._started = {"engine": engine, "started_at": datetime.now(UTC).isoformat()}
        self._fields: dict[str, Any] = {}
        self.update(phase="starting")

    def update(self, **fields: Any) -> None:
        """Set these fields; others remain."""
        with self._lock:
            self._fields |= fields
            self._instance.write_state(**self._started, **self._fields)

    def fail(self, detail: str) -> None:
        with self._lock:
            self._fields = {"phase": "failed", "detail": detail}
        self.update()


def _supervise(instance: Instance, options: argparse.Namespace, stop: threading.Event) -> int:
    instance.clear()
    remove_containers(instance)
    instance.kill_orphans()
    instance.prepare()
    state = _State(instance, options.engine)
    detail = None
    try:
        with ExitStack() as stack:
            emulator = start_emulator(instance, options.port, options.region, stop)
            stack.callback(emulator.stop)
            corrections = _start_corrections(instance, emulator, state, stack)
            host = _start_host(instance, options, emulator, corrections, stack)
            state.update(
                phase="running",
                endpoint_url=emulator.endpoint_url,
                emulator_pid=emulator.process.pid,
                functions_url=host.url,
                endpoints=_endpoints(corrections),
            )
            log.info("running: %s", emulator.endpoint_url)
            detail = _wait(emulator, stop)
    except RefinerctlError as error:
        # An interrupted start is not a failure.
        detail = None if stop.is_set() else f"{error.message}. {error.hint or ''}".strip()
    except Exception as error:
        log.exception("unexpected error")
        detail = f"{type(error).__name__}: {error}"
    remove_containers(instance)
    instance.kill_orphans()
    instance.clear()
    if detail is not None:
        log.error("%s", detail)
        state.fail(detail)
        return 1
    log.info("stopped")
    return 0


def _start_corrections(instance: Instance, emulator: Emulator, state: _State, stack: ExitStack) -> CorrectingServer:
    servers = LocalServers(instance, lambda running: state.update(servers=[vars(server) for server in running]))
    stack.callback(servers.close)
    corrections = CorrectingServer(emulator.endpoint_url)
    stack.callback(corrections.close)
    BrokerCorrections(corrections, servers)
    CacheCorrections(corrections, servers)
    correct_alarms(corrections)
    correct_stages(corrections)
    return corrections


def _endpoints(corrections: CorrectingServer) -> dict[str, str]:
    return dict.fromkeys(CORRECTED, corrections.url)


def _start_host(
    instance: Instance,
    options: argparse.Namespace,
    emulator: Emulator,
    corrections: CorrectingServer,
    stack: ExitStack,
) -> FunctionHost:
    session = AwsSession(options.region, profile=None, endpoint_url=emulator.endpoint_url, embedded=True)
    environment = {
        **EMBEDDED_CREDENTIALS,
        MARKER: str(instance.directory),
        "AWS_REGION": options.region,
        "AWS_DEFAULT_REGION": options.region,
        "AWS_ENDPOINT_URL": emulator.endpoint_url,
        **endpoint_variables(_endpoints(corrections)),
        "TMPDIR": str(instance.temporary),
        "LANG": "C.UTF-8",
    }
    logs = FunctionLogs(instance.log("functions"), LogGroups(session))
    stack.callback(logs.close)
    engine = _engine(options, instance)
    agent = EcsAgent(session.client("ecs"), engine, logs, environment)
    stack.callback(agent.close)
    ServiceCorrections(corrections, agent)
    host = FunctionHost(Functions(session), engine, logs, environment)
    stack.callback(host.close)
    return host


def _engine(options: argparse.Namespace, instance: Instance) -> ProcessEngine | ContainerEngine:
    if options.engine == "docker":
        instance.containers.touch()
        return ContainerEngine(options.contexts, label=(MARKER, str(instance.directory)))
    return ProcessEngine(options.contexts, options.venvs)


def _wait(emulator: Emulator, stop: threading.Event) -> str | None:
    """Wait for a signal (returns None) or for the end of the emulator (returns the reason)."""
    while not stop.wait(0.2):
        if emulator.process.poll() is not None:
            return f"the AWS emulator exited unexpectedly with exit code {emulator.process.returncode}"
    return None


if __name__ == "__main__":
    sys.exit(main())
