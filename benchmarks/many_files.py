"""A folder of many small files: refinerctl, s5cmd and `aws s3 cp --recursive` side by side, in one run.

`make bench`, or `python -m benchmarks.many_files [files] [repetitions]`. The AWS emulator on 127.0.0.1, which takes a
core by itself: without a network in between, its own work bounds what any client reaches. s5cmd is the one of the
development extra; aws is the first one on PATH, and is left out without one. Prints medians; asserts nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.process import Run, measure, median
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession, embedded_environment
from refinerctl.embedded import Instance
from refinerctl.local.emulator import start_emulator

FILES, REPETITIONS, BYTES = 20_000, 3, 1000
REGION, BUCKET = "us-east-1", "data-repository"
SETTINGS = f'environment = "bench"\n[environments.bench]\nregion = "{REGION}"\n'
AIM = 1.5


def ways(folder: Path) -> dict[str, list[str]]:
    """The commands. {} stands for a prefix that no other run has."""
    scripts = Path(sys.executable).parent
    uploads = ["upload", "--recursive", "--quiet", str(folder), "--prefix", "{}"]
    found = {"refinerctl": [str(scripts / "refinerctl"), *uploads]}
    if (scripts / "s5cmd").exists():
        found["s5cmd"] = [str(scripts / "s5cmd"), "--log", "error", "cp", f"{folder}/", f"s3://{BUCKET}/{{}}"]
    if aws := shutil.which("aws"):
        found["aws s3 cp"] = [aws, "s3", "cp", "--recursive", "--quiet", str(folder), f"s3://{BUCKET}/{{}}"]
    return found


def make_files(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"report-{number:05}.txt").write_bytes(os.urandom(BYTES))


def run(name: str, project: Path, files: Path, count: int, endpoint: str) -> Run:
    """Upload all files to a new prefix. SystemExit unless all are there then."""
    prefix = f"{name.replace(' ', '-')}/{os.urandom(4).hex()}/"
    given = {**embedded_environment(REGION, endpoint), "S3_ENDPOINT_URL": endpoint}  # s5cmd's own
    environ = {key: value for key, value in given.items() if value}  # aws looks for a profile without a name
    if name == "refinerctl":
        environ = {"REFINERCTL_ENDPOINT_URL": endpoint, **{key: "test" for key in environ if "KEY" in key}}
    found = measure([part.replace("{}", prefix) for part in ways(files)[name]], project, environ)
    session = AwsSession(REGION, profile=None, endpoint_url=endpoint, embedded=True)
    if (there := sum(1 for _ in S3Bucket(session, BUCKET).objects(prefix))) != count:
        raise SystemExit(f"{name} uploaded {there} of {count} files")
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else REPETITIONS
    with tempfile.TemporaryDirectory() as name:
        project = Path(name) / "project"
        project.mkdir()
        (project / "refinerctl.toml").write_text(SETTINGS)
        for folder, size in (("all", count), ("tenth", count // 10)):
            make_files(Path(name) / folder, size)
        instance = Instance(Path(name) / "instance")
        instance.prepare()
        emulator = start_emulator(instance, None, REGION)
        try:
            S3Bucket(
                AwsSession(REGION, profile=None, endpoint_url=emulator.endpoint_url, embedded=True), BUCKET
            ).create()
            runs: dict[str, list[Run]] = {way: [] for way in ways(project)}
            for _ in range(repetitions):  # in turn: other load of the machine affects them all
                for way, found in runs.items():
                    found.append(run(way, project, Path(name) / "all", count, emulator.endpoint_url))
            tenth = run("refinerctl", project, Path(name) / "tenth", count // 10, emulator.endpoint_url)
        finally:
            emulator.stop()
    show(count, runs, tenth)


def show(count: int, runs: dict[str, list[Run]], tenth: Run) -> None:
    print(f"\n{count:,} files of {BYTES:,} bytes, loopback, medians of {len(runs['refinerctl'])}")
    for way, found in runs.items():
        middle = median(found)
        ratio = median([Run(one.wall / other.wall, 0, 0) for one, other in zip(found, runs["refinerctl"], strict=True)])
        cpu = f"{middle.cpu:6.1f} s CPU ({middle.cpu / count * 1000:.2f} ms per file)"
        print(f"  {way:<12} {middle.wall:6.1f} s  {cpu}  {middle.memory:5.0f} MB peak  {ratio.wall:5.2f} x refinerctl")
    if "s5cmd" in runs:
        pairs = zip(runs["refinerctl"], runs["s5cmd"], strict=True)
        found = median([Run(ours.wall / theirs.wall, 0, 0) for ours, theirs in pairs]).wall
        print(f"  {'reached' if found <= AIM else 'MISSED'} of s5cmd's time: {found:.2f}, aim {AIM}")
    print(f"  refinerctl with {count // 10:,} files: {tenth.memory:.0f} MB peak")


if __name__ == "__main__":
    main()
