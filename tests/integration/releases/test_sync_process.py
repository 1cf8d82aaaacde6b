"""`refinerctl sync` as a process of its own: killed, interrupted, measured, watched on a terminal."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.integration.registry.copying import Copier
from tests.needs import nightly
from tests.registries.docker_registry import DockerRegistry
from tests.registries.faulty_proxy import Fault, FaultyProxy, Kind
from tests.registries.fixtures import Site
from tests.registries.images import Layer, MadeImage, digest_at, problems, push_image, whole


def command(source: str, target: str) -> list[str]:
    return [sys.executable, "-m", "refinerctl", "sync", source, target]


def start(source: str, target: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(source, target), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class Watcher:
    """Looks all the time what the tag points at, and what of that is missing."""

    def __init__(self, registry: DockerRegistry, repositories: list[str]) -> None:
        self._registry = registry
        self._repositories = repositories
        self._ended = threading.Event()
        self.looks = 0
        self.incomplete: list[str] = []

    def _watch(self) -> None:
        while not self._ended.is_set():
            repository = self._repositories[-1]
            if digest_at(self._registry, repository) is not None:
                self.incomplete += problems(self._registry, repository)
            self.looks += 1
            self._ended.wait(0.01)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()


@pytest.mark.parametrize("kills", [6, nightly(20)])
def test_kill_at_any_moment_leaves_no_incomplete_image(site: Site, tmp_path: Path, kills: int) -> None:
    """After a kill the tag has a whole image or does not exist, and the next run copies only the rest."""
    image = site.push(layers=[Layer(500_000, seed=seed) for seed in range(6)])
    target = site.faulty(site.target, delay=0.015)  # so that there is something between beginning and end
    repositories = [f"{site.repository}/whole"]
    assert start(image.reference, f"{target.host}/{site.repository}/whole", tmp_path).wait() == 0
    requests = len(target.requests)
    moments = random.Random(site.repository)  # noqa: S311 - to be repeated
    rests = []
    watcher = Watcher(site.target, repositories)
    with watcher.watching():
        for number in range(kills):
            repositories.append(f"{site.repository}/{number}")
            last = len(target.requests) + requests * (number + 1) // (kills + 1)
            process = start(image.reference, f"{target.host}/{site.repository}/{number}", tmp_path)
            while len(target.requests) < last and process.poll() is None:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.03))
            process.kill()
            process.communicate()
            done = Copier()(image.reference, f"{site.target.host}/{site.repository}/{number}")
            rests.append(done.blobs_copied)
            assert digest_at(site.target, f"{site.repository}/{number}") == image.digest
    assert watcher.looks > kills
    assert watcher.incomplete == []
    assert [problems(site.target, repository) for repository in repositories] == [[]] * (kills + 1)
    assert whole(site.target, f"{site.repository}/{kills - 1}") == image.digest
    assert min(rests) < 7  # some were killed late enough to have brought something


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("stalled", ["GET .*/blobs/", "GET .*/manifests/"])
def test_signal_ends_a_stalled_copy(
    site: Site, tmp_path: Path, number: signal.Signals, code: int, word: str, stalled: str
) -> None:
    image = site.push(layers=[Layer(200_000, seed=seed) for seed in range(6)])
    stall = Fault(Kind.STALL, match=stalled, times=None)
    source, target = site.faulty(site.source, stall), site.faulty(site.target, Fault(**vars(stall)))
    process = start(f"{source.host}/{site.repository}:v1", f"{target.host}/{site.repository}", tmp_path)
    _wait_for_stall(source, target)

    process.send_signal(number)
    _, said = process.communicate(timeout=20)

    assert process.returncode == code
    assert said.rstrip().endswith(f"refinerctl: {word}")
    assert "Traceback" not in said
    assert site.digest() is None
    assert image.digest


def _wait_for_stall(*proxies: FaultyProxy) -> None:
    deadline = time.monotonic() + 10
    while not any(proxy.struck() for proxy in proxies):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# The kernel's own count of the process itself: a child's ru_maxrss begins with its parent's.
MEASURED = """
import atexit, re, pathlib, sys
from refinerctl.cli import main
atexit.register(lambda: print(*re.findall(r"VmHWM:.*", pathlib.Path("/proc/self/status").read_text()), file=sys.stderr))
main()
"""


@pytest.fixture(scope="module")
def large(source_registry: DockerRegistry) -> MadeImage:
    return push_image(source_registry, "large", layers=[Layer(50_000_000, seed=seed) for seed in range(3)])


def test_memory_stays_flat(site: Site, large: MadeImage, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command(large.reference, site.there)[3:]],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stderr)
    assert int(kilobytes) < 60_000
    assert site.digest() == large.digest


def test_bars_on_a_terminal(site: Site, tmp_path: Path) -> None:
    image = site.push(layers=[Layer(2_000_000, seed=1), Layer(1_000_000, seed=2)])
    layer = image.layers[0].digest
    source = site.faulty(site.source, Fault(Kind.STALL, match=f"GET .*{layer}", at=1_000_000, seconds=1))
    arguments = command(f"{source.host}/{site.repository}:v1", site.there)
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    terminal = pexpect.spawn(
        arguments[0], arguments[1:], cwd=str(tmp_path), encoding="utf-8", timeout=20, dimensions=(40, 120), env=environ
    )
    try:
        terminal.expect(layer[:19])
        terminal.expect(r"0\.9/2\.0 MB")
        terminal.expect("copied ")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close()

    assert terminal.exitstatus == 0
    assert site.digest() == image.digest


def test_lines_without_a_terminal(site: Site, tmp_path: Path) -> None:
    image = site.push()
    source = site.faulty(site.source, Fault(Kind.STATUS, match="manifests", status=503))

    process = start(f"{source.host}/{site.repository}:v1", site.there, tmp_path)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 0
    assert out.splitlines()[1].split() == [image.digest, "linux/amd64"]
    assert "\x1b" not in err
    assert all(re.match(r"\d\d:\d\d:\d\dZ ", line) for line in err.splitlines())
    assert "returned 503" in err.splitlines()[0]
    assert "trying again" in err.splitlines()[0]
