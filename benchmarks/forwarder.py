"""A TCP forwarder in a process of its own that makes every round trip longer, and nothing slower."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import multiprocessing
from collections.abc import Iterator
from multiprocessing.connection import Connection

_PIECE = 1 << 20
# Far more than is on its way in one round trip at the speed of loopback.
_ON_THE_WAY = 256 << 20


@contextlib.contextmanager
def forwarder(host: str, round_trip_s: float) -> Iterator[str]:
    """Forward to `host` ("127.0.0.1:port"); yields the address to use instead.

    Half of the round trip is spent in each direction; opening a connection takes one, as on a real network.
    """
    context = multiprocessing.get_context("spawn")  # a fork would carry our memory along
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(host, round_trip_s, writing), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{reading.recv()}"
    finally:
        process.terminate()
        process.join()


def _run(host: str, round_trip_s: float, report: Connection) -> None:
    asyncio.run(_serve(host, round_trip_s, report))


async def _serve(host: str, round_trip_s: float, report: Connection) -> None:
    name, _, port = host.partition(":")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection(name, int(port), limit=_PIECE)
            one_way = round_trip_s / 2
            back = asyncio.create_task(_later(there_reader, writer, one_way))
            await _later(reader, there_writer, one_way, opening_s=round_trip_s)
            there_writer.close()  # a client that has gone waits for nothing more
            await back

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_PIECE)
    report.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


async def _later(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, opening_s: float = 0.0
) -> None:
    """What comes, `delay_s` after it came; nothing before `opening_s` and that have passed."""
    clock = asyncio.get_running_loop().time
    pieces: collections.deque[tuple[float, bytes]] = collections.deque()
    came, went = asyncio.Event(), asyncio.Event()
    opens_at, on_the_way = clock() + opening_s + delay_s, 0

    async def send() -> None:
        nonlocal on_the_way
        while True:
            while not pieces:
                came.clear()
                await came.wait()
            due, piece = pieces.popleft()
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
            on_the_way -= len(piece)
            went.set()
        writer.write_eof()

    sending = asyncio.create_task(send())
    with contextlib.suppress(OSError):
        while True:
            piece = await reader.read(_PIECE)
            pieces.append((max(clock() + delay_s, opens_at), piece))
            on_the_way += len(piece)
            came.set()
            if not piece:
                break
            while on_the_way > _ON_THE_WAY:
                went.clear()
                await went.wait()
    pieces.append((clock(), b""))  # a connection that was reset ends, too
    came.set()
    with contextlib.suppress(OSError):
        await sending
