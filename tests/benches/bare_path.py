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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import tractor
import trio
from bench_journal import RECORD

from piker.service.rpc import connect, endpoint
from piker.storage.disk import FolderDisk

MODULES = ["piker.service._tractor_shim", "bare_path"]
FILE_BYTES = 300_000
PAUSE_S = 0.002  # between two messages, as between two orders


@endpoint
@tractor.context
async def engine(ctx: tractor.Context) -> None:
    """Send back what comes."""
    await ctx.started()
    async with ctx.open_stream() as stream:
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

    def record() -> None:
        nonlocal place
        file.write(place, RECORD)
        file.sync()
        place = (place + len(RECORD)) % (FILE_BYTES - len(RECORD))

    async with _connect(address, engine) as onward:
        await ctx.started()
        async with ctx.open_stream() as stream:
            async for message in stream:
                await disk.in_worker(record)
                await onward.send(message)
                answer = await onward.receive()
                await disk.in_worker(record)
                await stream.send(answer)


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
                    await stream.send(message)
                    await stream.receive()
                    waits.append(time.perf_counter() - begun)
                    await trio.sleep(PAUSE_S)
            await nursery.cancel()
    return waits[count // 5 :]  # what was before warmed up
