"""The AWS emulator: ministack as a separate process, on 127.0.0.1 only, behind a check that keeps web pages out."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request

from refinerctl.embedded import MARKER, Instance
from refinerctl.errors import RefinerctlError

START_SECONDS = 30.0
STOP_SECONDS = 5.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


_INHERITED = {"PATH", "HOME", "USER", "LANG", "LC_ALL", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}

# Requests to 127.0.0.1 must not go through the user's proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _open(url: str) -> contextlib.AbstractContextManager[object]:
    answer: contextlib.AbstractContextManager[object] = _DIRECT.open(url, timeout=2)
    return answer


class Emulator:
    """A running emulator. It writes below the instance's folder only."""

    def __init__(self, instance: Instance, port: int, region: str) -> None:
        self.port = port
        self.endpoint_url = f"http://127.0.0.1:{port}"
        with instance.log("emulator").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.web_guard"],
                env=_environment(instance, port, region),
                cwd=instance.temporary,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self, deadline: float, stop: threading.Event) -> None:
        """Return once it answers.

        Raises RefinerctlError if it ends, does not answer by `deadline`, or if `stop` is set.
        """
        while time.monotonic() < deadline and not stop.is_set():
            if self.process.poll() is not None:
                raise RefinerctlError(
                    f"the AWS emulator exited during startup with exit code {self.process.returncode}"
                )
            with contextlib.suppress(OSError), _open(f"{self.endpoint_url}/_ministack/ready"):
                return
            stop.wait(0.05)
        self.stop()
        raise RefinerctlError("timed out waiting for the AWS emulator to start")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def start_emulator(
    instance: Instance,
    port: int | None,
    region: str,
    stop: threading.Event | None = None,
    timeout_s: float = START_SECONDS,
) -> Emulator:
    """Start on `port`, or on a free one (None). Raises RefinerctlError if the port is in use, or `stop` is set."""
    if port is not None and not port_is_free(port):
        raise RefinerctlError(f"port {port} on 127.0.0.1 is in use", hint="Choose another --port, or omit it.")
    deadline = time.monotonic() + timeout_s
    while True:
        emulator = Emulator(instance, port or free_port(), region)
        try:
            emulator.wait_until_ready(deadline, stop or threading.Event())
        except RefinerctlError:
            # Another process may have bound the free port in the meantime.
            lost_race = port is None and emulator.process.poll() == 1 and not port_is_free(emulator.port)
            if not lost_race:
                raise
        else:
            return emulator


def _environment(instance: Instance, port: int, region: str) -> dict[str, str]:
    """Only these variables: the emulator reads many others, which may be set for other tools."""
    inherited = {key: value for key, value in os.environ.items() if key in _INHERITED or key.startswith("PYTHON")}
    temporary = str(instance.temporary)
    return inherited | {
        MARKER: str(instance.directory),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": region,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "TMPDIR": temporary,
        "STATE_DIR": f"{temporary}/state",
        "S3_DATA_DIR": f"{temporary}/s3",
        # They would listen on fixed ports; nothing here uses them.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # At start it removes containers of other emulators: it must not find a Docker engine.
        "DOCKER_HOST": f"unix://{temporary}/no-docker.sock",
    }
