"""Copies of images side by side, in one run: refinerctl's, skopeo's, docker's pull, tag and push, and a bare loop's.

`make bench`, or `python -m benchmarks.sync [repetitions]`. Registries on 127.0.0.1 that keep their data in memory, if
there is a tmpfs; then the same ways with forwarders in between that add a round trip of RTT_MS. Every copy goes to a
registry that was empty, and is then done again. Prints medians and what they are aimed at; asserts nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import process
from benchmarks.forwarder import forwarder
from benchmarks.process import Run
from tests.e2e.docker_host import docker_engine, why_not
from tests.registries.docker_registry import DockerRegistry, docker_registry

RTT_MS = 30
# To count round trips, each takes far longer than anything else.
SLOW_S = 0.3
REPETITIONS = 5
CASES = {"4 x 50 MB": (4, 50_000_000), "40 x 1 MB": (40, 1_000_000)}
REFINERCTL = str(Path(sys.executable).with_name("refinerctl"))


# What a way takes: the source's reference, the target's, DOCKER_HOST.
Way = Callable[[str, str, str], list[str]]


def with_refinerctl(source: str, target: str, _: str) -> list[str]:
    return [REFINERCTL, "--quiet", "sync", source, target, "--no-gate"]


def with_skopeo(source: str, target: str, _: str) -> list[str]:
    options = ["--quiet", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    return ["skopeo", "copy", *options, f"docker://{source}", f"docker://{target}"]


def with_bare_loop(source: str, target: str, _: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("bare_copy.py")), source, target]


def with_docker(source: str, target: str, host: str) -> list[str]:
    docker = f"docker --host {host}"
    steps = (f"{docker} pull --quiet {source}", f"{docker} tag {source} {target}", f"{docker} push --quiet {target}")
    return ["sh", "-c", " && ".join(steps)]


def ways() -> dict[str, Way]:
    found: dict[str, Way] = {"refinerctl": with_refinerctl, "bare loop": with_bare_loop}
    if shutil.which("skopeo"):
        found["skopeo"] = with_skopeo
    if why_not() is None and shutil.which("docker"):
        found["docker"] = with_docker
    return found


def measure(command: list[str], folder: Path, daemon: Path | None = None) -> Run:
    """Run to the end. `daemon` holds the pid of one whose work counts, too."""
    before = _daemon_cpu(daemon)
    run = process.measure(command, folder)
    return Run(run.wall, run.cpu + _daemon_cpu(daemon) - before, run.memory + _daemon_memory(daemon))


def _daemons(pid: Path | None) -> list[psutil.Process]:
    if pid is None:
        return []
    daemon = psutil.Process(int(pid.read_text()))
    return [daemon, *daemon.children(recursive=True)]


def _daemon_cpu(pid: Path | None) -> float:
    times = [process.cpu_times() for process in _daemons(pid)]
    return sum(item.user + item.system + item.children_user + item.children_system for item in times)


def _daemon_memory(pid: Path | None) -> float:
    """The peak: psutil does not tell it."""
    statuses = [Path(f"/proc/{process.pid}/status").read_text() for process in _daemons(pid)]
    return sum(int(text.split("VmHWM:")[1].split()[0]) for text in statuses) / 1024


@dataclass
class Bench:
    """Folder and source registry. Each copy gets a new folder."""

    folder: Path
    source: DockerRegistry

    def compare(self, label: str, repository: str, repetitions: int, round_trip_s: float) -> dict[str, list[Run]]:
        """Every way in turn, again and again: whatever else the machine does hits them all. Keys: "way cold", …"""
        runs: dict[str, list[Run]] = {}
        for repetition in range(repetitions):
            for name, way in ways().items():
                if sys.stderr.isatty():
                    print(f"\r{label}: {repetition + 1} of {repetitions}, {name}", end="\033[K\r", file=sys.stderr)
                for kind, run in zip(("cold", "again"), self._twice(way, repository, round_trip_s), strict=True):
                    runs.setdefault(f"{name} {kind}", []).append(run)
        return runs

    def again(self, repository: str, round_trip_s: float) -> float:
        """Seconds that refinerctl takes to find that there is nothing to do."""
        return self._twice(with_refinerctl, repository, round_trip_s)[1].wall

    def _twice(self, way: Way, repository: str, round_trip_s: float) -> list[Run]:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            with contextlib.ExitStack() as stack:
                target = stack.enter_context(docker_registry(folder / "target"))
                hosts = [self.source.host, target.host]
                if round_trip_s:
                    hosts = [stack.enter_context(forwarder(host, round_trip_s)) for host in hosts]
                engine, pid = "", None
                if way is with_docker:
                    (folder / "dockerd").mkdir()
                    engine, pid = stack.enter_context(docker_engine(folder / "dockerd")), folder / "dockerd" / "pid"
                command = way(f"{hosts[0]}/{repository}:v1", f"{hosts[1]}/{repository}:v1", engine)
                return [measure(command, folder, pid) for _ in range(2)]
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def make_image(host: str, repository: str, layers: int, size: int) -> None:
    from tests.registries.images import Layer, push_image

    push_image(DockerRegistry(host, Path()), repository, layers=[Layer(size, seed=seed) for seed in range(layers)])


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    memory = Path("/dev/shm")  # noqa: S108
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > 2e9
    folder = Path(tempfile.mkdtemp(prefix="refinerctl-bench-", dir=memory if has_room else None))
    try:
        with docker_registry(folder / "source") as source:
            yield Bench(folder, source)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show(label: str, runs: dict[str, list[Run]]) -> dict[str, float]:
    """Print the medians; returns those of the clock."""
    print(f"\n{label}")
    walls = {name: statistics.median(run.wall for run in found) for name, found in runs.items()}
    for name, found in sorted(runs.items(), key=lambda item: item[0].split()[1], reverse=True):
        cpu = statistics.median(run.cpu for run in found)
        memory = max(run.memory for run in found)
        print(f"  {name:<18} {walls[name]:7.2f} s  {cpu:6.2f} s CPU  {memory:6.0f} MB peak")
    return walls


def aim(what: str, found: float, limit: float) -> None:
    print(f"  {'reached' if found <= limit else 'MISSED':<8} {what}: {found:.2f}, aim {limit}")


def ratios(runs: dict[str, list[Run]], aims: dict[str, float]) -> None:
    """The median of what each repetition says: its runs have seen the same machine."""
    for other, limit in aims.items():
        pairs = zip(runs["refinerctl cold"], runs.get(f"{other} cold", []), strict=False)
        if found := [ours.wall / theirs.wall for ours, theirs in pairs]:
            aim(f"cold, of {other}'s time", statistics.median(found), limit)


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else REPETITIONS
    with bench() as given:
        start = [measure([sys.executable, "-c", "pass"], given.folder).wall for _ in range(repetitions)]
        interpreter = statistics.median(start)
        for case, (count, size) in CASES.items():
            repository = case.replace(" ", "").lower()
            making = multiprocessing.get_context("spawn").Process(
                target=make_image, args=(given.source.host, repository, count, size)
            )
            making.start()  # in a process of its own: a child's peak memory starts at that of its parent
            making.join()
            near = given.compare(case, repository, repetitions, 0)
            walls = show(f"{case}, loopback", near)
            ratios(near, {"skopeo": 0.8, "bare loop": 1.1, "docker": 0.2})
            aim("again, seconds over `python -c pass`", walls["refinerctl again"] - interpreter, 0.2)
            far = given.compare(case, repository, repetitions, RTT_MS / 1000)
            show(f"{case}, {RTT_MS} ms", far)
            ratios(far, {"skopeo": 0.7})
            trips = (given.again(repository, SLOW_S) - walls["refinerctl again"]) / SLOW_S
            aim("again, round trips one after the other, opening connections included", trips, 4)
            peak = max(
                run.memory for found in (near, far) for name in found if "refiner" in name for run in found[name]
            )
            aim("peak memory in MB", peak, 100)


if __name__ == "__main__":
    main()
