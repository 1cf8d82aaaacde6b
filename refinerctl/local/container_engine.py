"""Runs a function as its built image, in a container on the host's network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.config import ImageSettings
from refinerctl.docker_engine import DockerEngine, RunningContainer, RunSpec
from refinerctl.errors import RefinerctlError
from refinerctl.local.execution import OnLine
from refinerctl.local.images import image_of


def local_tag(image: ImageSettings) -> str:
    """The tag under which an image of this project is built for the embedded environment."""
    return f"refinerctl.local/{image.repository}:latest"


def build_images(
    docker: DockerEngine,
    images: Sequence[ImageSettings],
    arguments: Mapping[str, str],
    on_line: Callable[[str], None],
) -> None:
    """Build every image of the project for the embedded environment."""
    for image in images:
        docker.build(image.context, local_tag(image), arguments, on_line)


class ContainerEngine:
    """Containers that carry the instance's label, so that those of a killed supervisor are found again."""

    def __init__(self, images: Sequence[ImageSettings], label: tuple[str, str]) -> None:
        self._images = images
        self._label = label
        self._docker = DockerEngine()
        self.remove_all()

    def start(self, function: FunctionConfiguration, environment: dict[str, str], on_line: OnLine) -> RunningContainer:
        image = image_of(function, self._images)
        # The image has its own places for what these point to on this machine.
        inside = {key: value for key, value in environment.items() if key not in ("PATH", "TMPDIR")}
        spec = RunSpec(local_tag(image), function.command, inside, function.memory_mb, self._label)
        return self._docker.run(spec, on_line)

    def remove_all(self) -> None:
        with contextlib.suppress(RefinerctlError):  # no engine, no containers
            self._docker.remove_labelled(self._label)
