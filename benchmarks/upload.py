"""Uploads side by side, in one run: refinerctl's, a plain boto3 loop, and boto3's transfer manager.

`make bench`. Servers on 127.0.0.1 only; every request through a proxy that adds a round trip of RTT_MS, because that,
not the loopback, is what an operator waits for. Prints seconds, peak memory and ratios; asserts nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3

from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.console import Progress
from refinerctl.embedded import Instance
from refinerctl.inputs.upload import collect, send
from refinerctl.local.emulator import start_emulator

RTT_MS = 20
REGION = "us-east-1"
CASES = {"200 x 10 kB": (200, 10_000), "1 x 200 MB": (1, 200_000_000)}


@contextlib.contextmanager
def delaying_proxy(port: int) -> Iterator[str]:
    """Forward to `port` on 127.0.0.1; what comes back comes RTT_MS later."""
    loop = asyncio.new_event_loop()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 18):
                await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, upstream_writer, 0), pipe(upstream_reader, writer, RTT_MS / 1000))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20))
    threading.Thread(target=loop.run_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)


def with_refinerctl(endpoint: str, files: list[Path]) -> None:
    session = AwsSession(REGION, profile=None, endpoint_url=endpoint, embedded=True)
    sources = collect([str(file) for file in files], "refinerctl/", recursive=False, name=None)
    send(S3Bucket(session, "bench"), sources, Progress())


def with_plain_loop(endpoint: str, files: list[Path]) -> None:
    client = _client(endpoint)
    for file in files:
        client.put_object(Bucket="bench", Key=f"loop/{file.name}", Body=file.read_bytes())


def with_transfer_manager(endpoint: str, files: list[Path]) -> None:
    client = _client(endpoint)
    for file in files:
        client.upload_file(str(file), "bench", f"manager/{file.name}")


def _client(endpoint: str):  # type: ignore[no-untyped-def]
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client("s3", endpoint_url=endpoint)


Way = Callable[[str, list[Path]], None]
WAYS: dict[str, Way] = {
    "refinerctl": with_refinerctl,
    "boto3 put_object loop": with_plain_loop,
    "boto3 upload_file loop": with_transfer_manager,
}


def measure(way: Way, endpoint: str, files: list[Path]) -> tuple[float, float]:
    """Seconds and peak memory in MB, in a process of its own so that memory is this way's alone."""
    reading, writing = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(way, endpoint, files, writing))
    process.start()
    result: tuple[float, float] = reading.recv()
    process.join()
    return result


def _run(way: Way, endpoint: str, files: list[Path], report) -> None:  # type: ignore[no-untyped-def]
    _client(endpoint).list_objects_v2(Bucket="bench", MaxKeys=1)  # imports and connections are not what is compared
    start = time.perf_counter()
    way(endpoint, files)
    report.send((time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        instance = Instance(Path(folder) / "instance")
        instance.prepare()
        emulator = start_emulator(instance, None, REGION)
        try:
            _client(emulator.endpoint_url).create_bucket(Bucket="bench")
            with delaying_proxy(emulator.port) as endpoint:
                for name, (count, size) in CASES.items():
                    compare(name, endpoint, make_files(Path(folder) / name, count, size))
        finally:
            emulator.stop()


def make_files(folder: Path, count: int, size: int) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number:04}.bin" for number in range(count)]
    for file in files:
        with file.open("wb") as target:  # in pieces: a child's peak memory starts at that of this process
            for start in range(0, size, 1_000_000):
                target.write(b"\xa5" * min(1_000_000, size - start))
    return files


def compare(name: str, endpoint: str, files: list[Path]) -> None:
    print(f"\n{name}, {RTT_MS} ms round trip")
    base = None
    for label, way in WAYS.items():
        seconds, memory = measure(way, endpoint, files)
        base = base or seconds
        print(f"  {label:<24} {seconds:7.2f} s  {memory:6.0f} MB  {seconds / base:5.2f} x refinerctl")


if __name__ == "__main__":
    main()
