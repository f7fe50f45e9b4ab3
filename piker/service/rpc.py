"""
What other packages need of the runtime: mark an endpoint, call a daemon, keep one alive.

A daemon's lifetime context ends in `serve_until_cancelled`; a client calls through
`maybe_spawn_daemon` or `connect`, inside `translate_errors`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tractor
import trio

from piker import config
from piker.service._attach import service_table
from piker.service._errors import translate_errors
from piker.service._proof import proof
from piker.service._registry import Address, connect, maybe_spawn_daemon, probe, registry_addr
from piker.service._tractor_shim import EXPOSED, endpoint, hand_over, send_nowait

__all__ = [
    "EXPOSED",
    "Address",
    "actor_name",
    "connect",
    "endpoint",
    "hand_over",
    "maybe_spawn_daemon",
    "probe",
    "proof",
    "registry_addr",
    "run_id",
    "send_nowait",
    "serve_until_cancelled",
    "service_rows",
    "translate_errors",
]

HEARTBEAT_S = 1.0


def run_id() -> str:
    """Return the short hex name of this run; part of every segment's and socket's name."""
    return str(config.run_vars().get("run_id") or "0" * 8)


def actor_name() -> str:
    """Return this process's actor name (`datad.binance`, `chart`, …)."""
    return str(tractor.current_actor().name)


async def serve_until_cancelled(ctx: Any, status: Callable[[], dict[str, Any]]) -> None:
    """
    Send the daemon's heartbeat once a second, and whenever its supervisor asks, until that ends it.

    `status` returns `{'state': 'ready' | 'degraded', 'cause': str, 'stats': {name: number}}`;
    it must be quick. Call it last in a lifetime context, after `ctx.started()`.
    """
    async with ctx.open_stream() as stream, trio.open_nursery() as nursery:

        async def beat() -> None:
            while True:
                await stream.send(status())
                await trio.sleep(HEARTBEAT_S)

        nursery.start_soon(beat)
        async for asked in stream:  # ends when the supervisor leaves
            await stream.send(status() | {"asked": asked})
        nursery.cancel_scope.cancel()


async def service_rows() -> list[dict[str, Any]]:
    """
    Return the run's service table, one row per process, as `piker services` prints it.

    Fields: name, kind, address, pid, uptime_s, restarts, state, cause, venue (URL and name of the
    broker's venue when it is not the official one), stats (what the daemon counts).

    Raises:
      ConnectionLost: no `pikerd` answers.
    """
    with translate_errors("pikerd"):
        async with connect(registry_addr()) as pikerd:
            rows: list[dict[str, Any]] = await pikerd.run(service_table)
            return rows
