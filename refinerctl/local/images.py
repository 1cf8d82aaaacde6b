"""Which image of this project a function runs, and its handler."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.config import ImageSettings
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference

_CMD = re.compile(r"^\s*CMD\s+(\[.*\])\s*$", re.MULTILINE)


def image_of(function: FunctionConfiguration, images: Sequence[ImageSettings]) -> ImageSettings:
    """The image of this project that `function` runs. Raises NotFoundError if it runs some other."""
    repository = ImageReference.parse(function.image_uri).repository
    for image in images:
        if image.repository == repository:
            return image
    raise NotFoundError(
        f"function {function.name} runs {function.image_uri}, which is no image of this project",
        hint=f'Add an [images.<name>] with repository = "{repository}" to refinerctl.toml.',
    )


def handler_of(function: FunctionConfiguration, context: Path) -> str:
    """The handler's name: the function's own command, or the last CMD of the image's Dockerfile."""
    if function.command:
        return function.command[0]
    dockerfile = context / "Dockerfile"
    try:
        found = _CMD.findall(dockerfile.read_text(encoding="utf-8"))
        return str(json.loads(found[-1])[0])
    except (OSError, IndexError, ValueError) as error:
        raise RefinerctlError(f'{dockerfile} has no CMD ["<file>.<function>"] to take the handler from') from error
