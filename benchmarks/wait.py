"""`upload --wait` of many inputs beside the pipeline's own rate, in the local environment.

`make bench`, or `python -m benchmarks.wait [inputs]`. Starts the local environment in a copy of the project. The
pipeline's own rate is that of `upload` without --wait, until the last completion exists. Everything runs on this
machine, so CPU that refinerctl takes is taken from the pipeline. Prints seconds; asserts nothing.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.process import Run, measure
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from tests.e2e.project import COMMAND, Project, make_project

INPUTS = 2_000
# Rarely enough to take nothing from the pipeline, and often enough to be exact.
LOOK_S = 2.0


def upload(project: Project, count: int, *options: str) -> tuple[Run, str, float]:
    """What the command took, the prefix of its completions, and when it began."""
    name = f"r{os.urandom(4).hex()}"
    folder = project.temporary / name
    folder.mkdir()
    for number in range(count):
        (folder / f"{name}-{number:05}.txt").write_text(f"report {number}\n")
    began = time.monotonic()
    arguments = ["--env", "local", "upload", "--recursive", "--quiet", "--output", "json", str(folder), *options]
    return measure([str(COMMAND), *arguments], project.folder, {"HOME": str(project.home)}), name, began


def wait_for(project: Project, name: str, count: int) -> None:
    endpoint = project.run("local", "status", "--output", "json").json()["endpoint_url"]
    session = AwsSession("us-east-1", profile=None, endpoint_url=endpoint, embedded=True)
    bucket = S3Bucket(session, "data-repository")
    while sum(1 for _ in bucket.objects(f"RefinerComplete/{name}-")) < count:
        time.sleep(LOOK_S)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else INPUTS
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        try:
            if (up := project.run("local", "up", "--detach")).code:
                raise SystemExit(up.err)
            start = upload(project, 1, "--wait")[0]  # and the first execution environment is warm
            _, name, began = upload(project, count)
            wait_for(project, name, count)
            own = time.monotonic() - began
            waited = upload(project, count, "--wait", "--timeout", "30m")[0]
        finally:
            project.run("local", "down")
    cpu_ms = (waited.cpu - start.cpu) / count * 1000
    print(f"\nupload --wait of {count:,} inputs: {waited.wall:.1f} s, {waited.memory:.0f} MB peak")
    print(f"  {cpu_ms:.2f} ms of CPU per input, aim 3 (and {start.cpu:.2f} s for one input)")
    print(f"  {own / waited.wall:.2f} of the pipeline's own rate ({own:.1f} s without --wait), aim 0.9")


if __name__ == "__main__":
    main()
