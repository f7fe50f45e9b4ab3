"""
The way of an order without the order: what hops between actors and syncs cost by themselves.

A message goes from its client through `relay` to `engine` and back. The relay makes a record
durable before it passes a message on, in either direction, as `emsd` does with what it takes and
with what it tells.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tractor
import trio
from bench_journal import RECORD

from piker.service.rpc import connect, endpoint, hand_over, send_nowait
from piker.storage.disk import Begun, FolderDisk
from piker.storage.journal import AT_ONCE_S

MODULES = ["piker.service._tractor_shim", "bare_path"]
FILE_BYTES = 300_000
PAUSE_S = 0.002  # between two messages, as between two orders


@endpoint
@tractor.context
async def engine(ctx: tractor.Context) -> None:
    """Send back what comes."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        hand_over(stream, lambda message, more: send_nowait(stream, message))
        async for message in stream:
            await stream.send(message)


@endpoint
@tractor.context
async def relay(ctx: tractor.Context, folder: str, address: list[Any]) -> None:
    """Pass on what comes, to the engine and back, each time behind a sync of its record."""
    disk = FolderDisk(Path(folder))
    file = disk.create("bare", FILE_BYTES)
    file.sync()
    place = 0
    waiting: deque[tuple[Begun[None] | None, tractor.MsgStream, Any]] = deque()
    work = trio.Event()

    def record() -> None:
        nonlocal place
        file.write(place, RECORD)
        file.sync()
        place = (place + len(RECORD)) % (FILE_BYTES - len(RECORD))

    async def pass_on() -> None:
        nonlocal work
        while True:
            await work.wait()
            work = trio.Event()
            while waiting:
                begun, to, message = waiting.popleft()
                if begun is not None:
                    await begun.wait()
                if not send_nowait(to, message):
                    await to.send(message)

    async def read(stream: tractor.MsgStream, to: tractor.MsgStream) -> None:
        def take(message: Any, more: bool) -> bool:
            begun: Begun[None] | None = disk.begin(record)
            if not waiting and begun.is_done_within(AT_ONCE_S):
                begun.take()
                if send_nowait(to, message):
                    return True
                begun = None
            waiting.append((begun, to, message))
            work.set()
            return True

        hand_over(stream, take)
        async for message in stream:
            take(message, False)

    async with _connect(address, engine) as onward:
        await ctx.started()
        async with ctx.open_stream() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(pass_on)
            nursery.start_soon(read, onward, stream)
            await read(stream, onward)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _connect(at: list[Any], target: Any, **kwargs: Any) -> AsyncIterator[tractor.MsgStream]:
    """Yield a stream to a context of another actor, over a connection of its own."""
    async with (
        connect(at) as portal,
        portal.open_context(target, **kwargs) as (ctx, _),
    ):
        async with ctx.open_stream() as stream:
            yield stream
        await ctx.cancel()


async def bare_waits(message: dict[str, Any], count: int) -> list[float]:
    """Return how long each of `count` messages takes there and back; runs in the root of a tree."""
    waits = []
    registry = tractor.current_actor()._registry
    with tempfile.TemporaryDirectory(dir=os.environ.get("PIKER_BENCH_DIR")) as folder:
        async with tractor.open_nursery() as nursery:
            portals = [
                await nursery.start_actor(name, enable_modules=MODULES)
                for name in ("bare_engine", "bare_relay")
            ]
            uids = [portal.channel.uid for portal in portals]
            with trio.fail_after(5):
                while not all(uid in registry for uid in uids):
                    await trio.sleep(0.01)
            far, near = (list(registry[uid]) for uid in uids)
            async with _connect(near, relay, folder=folder, address=far) as stream:
                for _ in range(count):
                    begun = time.perf_counter()
                    if not send_nowait(stream, message):
                        await stream.send(message)
                    await stream.receive()
                    waits.append(time.perf_counter() - begun)
                    await trio.sleep(PAUSE_S)
            await nursery.cancel()
    return waits[count // 5 :]  # what was before warmed up
