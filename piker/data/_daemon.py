"""
`datad.<broker>`: one process per broker that takes its market data and serves it.

It hosts the backend's data endpoints, the feed bus, history and symbol search, and is the only
writer of its shared memory. It holds no credentials of the order kind and places no order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import tractor
import trio

from piker.brokers import get_brokermod
from piker.data._feed_bus import drop_feed_bus, get_feed_bus
from piker.data.validate import missing_eps
from piker.log import get_logger, setup_actor_logging
from piker.service.rpc import actor_name, endpoint, serve_until_cancelled
from piker.service.supervise import DaemonSpec, ensure, maybe_spawn_daemon

log = get_logger(__name__)

_datad_service_mods = [
    "piker.brokers.core",
    "piker.brokers.data",
    "piker.data",
    "piker.data.feed",
    "piker.data._feed_bus",
    "piker.data._sampling",
    "piker.data._daemon",
]


@endpoint(only=("datad",))
@tractor.context
async def _setup_persistent_datad(
    ctx: tractor.Context, brokername: str, loglevel: str | None = None
) -> None:
    setup_actor_logging(actor_name(), loglevel)
    async with trio.open_nursery() as nursery:
        bus = get_feed_bus(brokername, nursery)
        try:
            await nursery.start(bus.bells.run)
            nursery.start_soon(bus.follow_clock)
            await ctx.started()
            await serve_until_cancelled(ctx, bus.status)
        finally:
            drop_feed_bus()
            nursery.cancel_scope.cancel()


def datad_init(brokername: str, loglevel: str | None = None) -> DaemonSpec:
    """
    Return how `datad.<brokername>` is started: its name, the modules it serves, the runtime's
    options of its backend.

    Raises:
      ModuleNotFoundError: no backend has this name.
    """
    mod = get_brokermod(brokername)
    if missing := missing_eps(mod, "datad"):
        log.warning("%s lacks data endpoints: %s", brokername, ", ".join(missing))
    return DaemonSpec(
        name=f"datad.{brokername}",
        kind="datad",
        modules=list(dict.fromkeys([*_datad_service_mods, mod.__name__, *backend_modules(mod)])),
        target=_setup_persistent_datad,
        kwargs={"brokername": brokername, "loglevel": loglevel},
        spawn_kwargs=dict(getattr(mod, "_spawn_kwargs", {})),
        policy="permanent",
    )


def backend_modules(mod: ModuleType) -> list[str]:
    """Return the full names of the modules that a backend has its datad serve."""
    names = getattr(mod, "_datad_mods", None)
    if names is None:
        names = getattr(mod, "__enable_modules__", [])
    return [f"{mod.__name__}.{name}" for name in names]


@endpoint(only=("pikerd",))
async def spawn_datad(brokername: str, loglevel: str | None = None) -> list[Any]:
    """Start `datad.<brokername>` unless it runs and return its address; runs in `pikerd`."""
    return list(await ensure(datad_init(brokername, loglevel)))


@asynccontextmanager
async def maybe_spawn_datad(
    brokername: str, loglevel: str | None = None
) -> AsyncIterator[tractor.Portal]:
    """
    Yield a portal to the run's `datad.<brokername>`, started when it does not run.

    Raises:
      ServiceUnavailable: it does not start; says why.
    """
    args = {"brokername": brokername, "loglevel": loglevel}
    async with maybe_spawn_daemon(f"datad.{brokername}", spawn_datad, args) as portal:
        yield portal
