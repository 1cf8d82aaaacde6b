"""What is tested is what is deployed: images have the versions of the development environment."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

LOCKS = sorted(ROOT.glob("images/*/requirements.txt"))


def versions(file: Path) -> dict[str, str]:
    """The pinned packages of a file by their normalized name."""
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", file.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.parent.name for lock in LOCKS])
def test_packages_of_an_image_have_the_versions_of_the_tests(lock: Path) -> None:
    tested, deployed = versions(ROOT / "constraints.txt"), versions(lock)
    assert deployed
    assert {name: version for name, version in deployed.items() if tested.get(name, version) != version} == {}


def test_every_python_image_is_locked() -> None:
    assert [lock.parent.name for lock in LOCKS] == ["autoscaler", "cli", "postprocess", "producer", "worker"]


def test_lock_of_refinerctl_has_what_setup_cfg_needs() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    extras = settings["options.extras_require"]
    text = "\n".join([settings["options"]["install_requires"], extras["docker"], extras["provenance"]])
    wanted = [Requirement(line) for line in text.splitlines() if line]
    locked = versions(ROOT / "images" / "cli" / "requirements.txt")

    assert len(wanted) > 10
    assert [str(item) for item in wanted if locked.get(item.name.lower(), "0") not in item.specifier] == []
