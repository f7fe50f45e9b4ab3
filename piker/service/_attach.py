"""
The `attach` dialog: how a client shows up in `piker services` and keeps a private `pikerd` alive.

It lasts as long as the client; a killed client's row goes when its connection closes, and a
stopped one keeps its row. The first answer tells the client which run it has joined.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import tractor
import trio

from piker import clock, config
from piker.service._mngr import Attached, get_services
from piker.service._registry import connect, registry_addr
from piker.service._tractor_shim import endpoint

ATTACH_S = 5.0


def run_facts() -> dict[str, Any]:
    """Return what a client must know of this run: its id, URL set, clock, armed faults."""
    found = config.run_vars()
    return {
        "run_id": found.get("run_id"),
        "venues": dict(found.get("venues") or {}),
        "clock": found.get("clock"),
        "faults": dict(found.get("faults") or {}),
    }


@endpoint(only=("pikerd",))
async def describe_run() -> dict[str, Any]:
    """Return what a client must know of this run."""
    return run_facts()


@endpoint(only=("pikerd",))
async def service_table() -> list[dict[str, Any]]:
    """Return the rows that `piker services` shows."""
    return get_services().table()


@endpoint(only=("pikerd",))
@tractor.context
async def attach(ctx: tractor.Context, name: str, kind: str, pid: int, started_ns: int) -> None:
    """Hold a row of the service table until the caller leaves or dies."""
    services = get_services()
    uid = (str(ctx.chan.uid[0]), str(ctx.chan.uid[1]))
    key = services.attach(Attached(str(name)[:64], str(kind)[:32], int(pid), int(started_ns), uid))
    try:
        await ctx.started(run_facts())
        async with ctx.open_stream() as stream:
            async for _ in stream:
                pass
    finally:
        services.detach(key)
        if not ctx.chan.connected():  # killed: nobody else takes its entry out
            tractor.current_actor()._registry.pop(uid, None)


@asynccontextmanager
async def open_attachment(name: str, kind: str) -> AsyncIterator[dict[str, Any]]:
    """
    Be listed in the run's service table for the length of the block; yields the run's facts.

    Raises tractor's and the transport's errors when `pikerd` is or goes away.
    """
    started_ns = clock.monotonic_ns()
    async with connect(registry_addr()) as pikerd:
        with trio.fail_after(ATTACH_S) as opening:
            async with pikerd.open_context(
                attach, name=name, kind=kind, pid=os.getpid(), started_ns=started_ns
            ) as (ctx, facts):
                opening.deadline = float("inf")
                async with ctx.open_stream() as stream, trio.open_nursery() as nursery:

                    async def drain() -> None:
                        async for _ in stream:
                            pass

                    nursery.start_soon(drain)
                    yield facts
                    nursery.cancel_scope.cancel()
                await ctx.cancel()
