"""Which tags `sync` copies, and the variables that it writes for CI jobs."""

from __future__ import annotations

import pytest

from refinerctl.errors import RefinerctlError, UsageError
from refinerctl.registry.copies import ImageCopy
from refinerctl.releases.sync import dotenv
from refinerctl.releases.sync_requests import tags_from

DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_tags_from_a_release_on() -> None:
    assert tags_from(["v1.0.0", "latest", "v1.10.0", "v1.9.0", "v1.9.0-rc1"], "v1.9.0") == ["v1.9.0", "v1.10.0"]
    with pytest.raises(UsageError):
        tags_from(["v1.0.0"], "latest")


def copied(name: str, digest: str = DIGEST, target: str | None = DIGEST) -> ImageCopy:
    return ImageCopy(name, "s/a:v1", "t.example/a:v1", digest, target, None, "copied")


def test_dotenv() -> None:
    other = DIGEST.replace("0", "f")

    assert dotenv([copied("refiner"), copied("post-process.2", other, None)]) == (
        f"IMAGE_REFINER=t.example/a@{DIGEST}\nIMAGE_POST_PROCESS_2=t.example/a@{other}\n"
    )
    with pytest.raises(RefinerctlError, match="IMAGE_A_B would name two images"):
        dotenv([copied("a-b"), copied("a_b", other, other)])
