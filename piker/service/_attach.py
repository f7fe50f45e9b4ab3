"""
The `attach` dialog: how a client shows up in `piker services` and keeps a private `pikerd` alive.

It lasts as long as the client; a killed client's row goes when its connection closes, and a
stopped one keeps its row. The first answer tells the client which run it has joined. A daemon
that supervises others holds one such dialog for each of them, and sends their rows over it; those
are no clients.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import tractor
import trio

from piker import clock, config
from piker.log import get_logger
from piker.service._mngr import Attached, get_services
from piker.service._procfs import actor_start
from piker.service._registry import connect, registry_addr
from piker.service._rows import DaemonRow
from piker.service._tractor_shim import endpoint

ATTACH_S = 5.0
ORPHAN_S = 2.5

log = get_logger(__name__)


def run_facts() -> dict[str, Any]:
    """Return what a client must know of this run: its id, URL set, clock, armed faults."""
    found = config.run_vars()
    return {
        "run_id": found.get("run_id"),
        "venues": dict(found.get("venues") or {}),
        "clock": found.get("clock"),
        "backends": dict(found.get("backends") or {}),
        "faults": dict(found.get("faults") or {}),
    }


@endpoint(only=("pikerd",))
async def describe_run() -> dict[str, Any]:
    """Return what a client must know of this run."""
    return run_facts()


@endpoint(only=("pikerd",))
async def describe_use() -> dict[str, Any]:
    """Return how many clients are attached, and how many orders are held (None: not known now)."""
    services = get_services()
    held = services.held_orders
    if held == 0:
        held = await services.hear_orders()
    return {"clients": services.clients, "held": held}


@endpoint(only=("pikerd",))
async def service_table() -> list[dict[str, Any]]:
    """Return the rows that `piker services` shows."""
    return get_services().table()


@endpoint(only=("pikerd",))
@tractor.context
async def attach(
    ctx: tractor.Context,
    name: str,
    kind: str,
    pid: int,
    started_ns: int,
    is_supervised: bool = False,
) -> None:
    """
    Hold a row of the service table until the caller leaves or dies.

    With `is_supervised` it is the row of a daemon of the caller's, which sends it when it changes.
    """
    services = get_services()
    uid = (str(ctx.chan.uid[0]), str(ctx.chan.uid[1]))
    row = Attached(str(name)[:64], str(kind)[:32], int(pid), int(started_ns), uid)
    row.is_supervised = bool(is_supervised)
    key = services.attach(row)
    try:
        await ctx.started(run_facts())
        async with ctx.open_stream() as stream:
            async for said in stream:
                if row.is_supervised:
                    row.said = msgspec.convert(said, DaemonRow)
    finally:
        services.detach(key)
        if not ctx.chan.connected():  # killed: nobody else takes its entry out
            tractor.current_actor()._registry.pop(uid, None)
            if row.said is not None and (started := actor_start(row.said.pid, row.name)):
                services.nursery.start_soon(_end_orphan, row.name, row.said.pid, started)


async def _end_orphan(name: str, pid: int, started: int) -> None:
    """
    End a daemon whose supervisor was killed, if it has not ended by itself.

    Its lifeline does that within 2 s, but not in a process that is stopped (SIGSTOP).
    """
    try:
        await trio.sleep(ORPHAN_S)
    finally:
        if actor_start(pid, name) == started:
            log.warning("%s pid=%d has outlived its supervisor: killed", name, pid)
            os.kill(pid, signal.SIGKILL)


@asynccontextmanager
async def open_attachment(name: str, kind: str) -> AsyncIterator[dict[str, Any]]:
    """
    Be listed in the run's service table for the length of the block; yields the run's facts.

    Raises tractor's and the transport's errors when `pikerd` is or goes away.
    """
    async with _open_row(name=name, kind=kind, pid=os.getpid()) as (facts, _):
        yield facts


@asynccontextmanager
async def open_supervised_row(
    name: str, kind: str
) -> AsyncIterator[Callable[[DaemonRow], Awaitable[None]]]:
    """
    List a daemon of this supervisor in the run's service table; yields how to say its state.

    Raises tractor's and the transport's errors when `pikerd` is or goes away.
    """
    async with _open_row(name=name, kind=kind, pid=0, is_supervised=True) as (_, stream):

        async def say(row: DaemonRow) -> None:
            await stream.send(msgspec.to_builtins(row))

        yield say


@asynccontextmanager
async def _open_row(**row: Any) -> AsyncIterator[tuple[dict[str, Any], Any]]:
    row["started_ns"] = clock.monotonic_ns()
    async with connect(registry_addr()) as pikerd:
        with trio.fail_after(ATTACH_S) as opening:
            async with pikerd.open_context(attach, **row) as (ctx, facts):
                opening.deadline = float("inf")
                async with ctx.open_stream() as stream, trio.open_nursery() as nursery:

                    async def drain() -> None:
                        async for _ in stream:
                            pass

                    nursery.start_soon(drain)
                    yield facts, stream
                    nursery.cancel_scope.cancel()
                await ctx.cancel()
