"""A Docker engine, through the docker SDK: builds images, runs containers."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from refinerctl.errors import RefinerctlError
from refinerctl.images import BuildContext, Platform

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

# Longer than the engine's timeout for stopping a container.
CALL_SECONDS = 60


def _reason(error: BaseException) -> str:
    """The system's own words, if it is the system that failed: the SDK repeats those of each layer below it."""
    cause = error
    while deeper := cause.__cause__ or cause.__context__:
        cause = deeper
    return (cause.strerror if isinstance(cause, OSError) else None) or str(error)


class DockerEngine:
    """The engine that DOCKER_HOST names, or the default socket. `instead` is the option that needs no engine.

    `call_seconds`: how long a call may take without an answer or event.
    """

    def __init__(self, *, instead: str = "--engine process", call_seconds: int = CALL_SECONDS) -> None:
        self._instead = instead
        self._call_seconds = call_seconds
        self._lock = threading.Lock()
        self._cached: DockerClient | None = None

    def client(self) -> DockerClient:
        """The SDK's client, connected. Raises RefinerctlError unless an engine answers."""
        try:
            import docker
            from docker.errors import DockerException
        except ImportError as error:
            raise RefinerctlError(
                "the docker SDK for Python is not installed",
                hint=f"Run `pip install 'refinerctl[docker]'`, or use {self._instead}.",
            ) from error

        with self._lock:
            if self._cached is None:
                try:
                    self._cached = docker.from_env(timeout=self._call_seconds)
                    self._cached.ping()
                except DockerException as error:
                    self._cached = None
                    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
                    raise RefinerctlError(
                        f"cannot connect to the Docker engine at {address}: {_reason(error)}",
                        hint=f"Start the engine, set DOCKER_HOST, or use {self._instead}.",
                    ) from error
            return self._cached

    def build(
        self,
        context: BuildContext,
        tag: str,
        arguments: Mapping[str, str],
        on_line: Callable[[str], None],
        labels: Mapping[str, str] | None = None,
        platform: Platform | None = None,
    ) -> str:
        """Build `context` as `tag`; returns the image's id. `platform` None: the engine's own.

        Raises RefinerctlError with the step that failed. The SDK reports a failed build as an event of the stream, not
        as an exception.
        """
        client = self.client()
        from docker.errors import DockerException
        from requests import RequestException

        last, image_id = "", ""
        try:
            stream = client.api.build(
                path=str(context.folder),
                dockerfile=context.dockerfile,
                tag=tag,
                buildargs=dict(arguments),
                labels=dict(labels or {}),
                platform=str(platform) if platform else None,
                network_mode="host",
                rm=True,
                forcerm=True,
                decode=True,
            )
            for event in stream:
                if "error" in event:
                    raise RefinerctlError(
                        f"building the image of {context.own_folder} failed: {event['error'].strip()}",
                        hint=last or None,
                    )
                image_id = (event.get("aux") or {}).get("ID") or image_id
                text = event.get("stream", "").strip()
                if text:
                    last = text
                    on_line(text)
        # TypeError: the SDK raises it if the context is not a folder.
        except (DockerException, RequestException, TypeError) as error:
            raise RefinerctlError(f"building the image of {context.own_folder} failed: {error}") from error
        return str(image_id)

    def run(
        self,
        image: str,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        memory_mb: int,
        label: tuple[str, str],
        on_line: Callable[[str], None],
    ) -> RunningContainer:
        """Start a container on the host's network; `on_line` gets its output. `command` empty: the image's own.

        Raises RefinerctlError if the image does not exist.
        """
        limit = f"{memory_mb}m"
        return self.start(
            image,
            label,
            on_line,
            command=list(command) or None,
            environment=dict(environment),
            mem_limit=limit,
            memswap_limit=limit,
        )

    def start(
        self, image: str, label: tuple[str, str], on_line: Callable[[str], None], **options: Any
    ) -> RunningContainer:
        """`run` with `options` of the SDK's `containers.run`."""
        client = self.client()
        from docker.errors import DockerException

        try:
            container = client.containers.run(
                image, detach=True, network_mode="host", labels=dict([label]), init=True, **options
            )
        except DockerException as error:
            raise RefinerctlError(f"a container of {image} did not start: {error}") from error
        return RunningContainer(container, on_line)

    def remove_labelled(self, label: tuple[str, str]) -> int:
        """Remove all containers with `label`, running or not; returns their number."""
        found = self.client().containers.list(all=True, filters={"label": "=".join(label)})
        for container in found:
            _remove(container)
        return len(found)


class RunningContainer:
    """A container, followed by two threads: one reads its output, one waits for its end."""

    def __init__(self, container: Container, on_line: Callable[[str], None]) -> None:
        self._container = container
        self._reason: str | None = None
        threading.Thread(target=self._forward, args=(on_line,), name="container-output", daemon=True).start()
        threading.Thread(target=self._wait, name="container-end", daemon=True).start()

    def ended(self) -> str | None:
        """Why it ended; None if it is running."""
        return self._reason

    def pid(self) -> int:
        """The pid of its first process, where the engine runs."""
        self._container.reload()
        return int(self._container.attrs["State"]["Pid"])

    def memory_bytes(self) -> int:
        """0: the engine itself enforces the limit."""
        return 0

    def terminate(self) -> None:
        """Send it SIGTERM, unless it has ended."""
        from docker.errors import APIError

        with contextlib.suppress(APIError):
            self._container.kill(signal="SIGTERM")

    def kill(self) -> None:
        _remove(self._container)

    def _forward(self, on_line: Callable[[str], None]) -> None:
        rest = b""
        for chunk in self._container.logs(stream=True, follow=True):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace").rstrip("\r"))
        if rest:
            on_line(rest.decode(errors="replace"))

    def _wait(self) -> None:
        from docker.errors import APIError

        try:
            status: Any = self._container.wait(timeout=None)
            self._container.reload()
            killed_for_memory = self._container.attrs["State"].get("OOMKilled")
            self._reason = (
                "signal: killed (out of memory)" if killed_for_memory else f"exit status {status['StatusCode']}"
            )
        except (APIError, OSError) as error:  # removed meanwhile, or the engine stopped
            self._reason = f"the container was removed: {error}"


def _remove(container: Container) -> None:
    from docker.errors import APIError, NotFound

    try:
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # it is already being removed
            raise
