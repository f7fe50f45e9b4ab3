"""
`brokerd.<broker>`: one process per broker for live orders, with the credentials, and only that.

It is started at the first live dialog and serves no module of the data side. Charts, quotes,
history and paper sessions run without it. `adhoc.<broker>.<pid>` is the same for one command.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import tractor
import trio

from piker.brokers import get_brokermod
from piker.data.validate import get_eps, missing_eps
from piker.errors import EndpointMissing
from piker.log import get_logger, setup_actor_logging
from piker.service.rpc import actor_name, endpoint, serve_until_cancelled
from piker.service.supervise import (
    DaemonSpec,
    ensure,
    maybe_spawn_daemon,
    open_own_daemon,
    open_supervisor,
)

log = get_logger(__name__)

_brokerd_service_mods = ["piker.brokers._daemon"]

HANG_S = 10.0  # the order path is given longer than other daemons before it is killed


@endpoint(only=("brokerd", "adhoc"), proven=True)
@tractor.context
async def _setup_persistent_brokerd(
    ctx: tractor.Context, brokername: str, loglevel: str | None = None
) -> None:
    setup_actor_logging(actor_name(), loglevel)
    await ctx.started()
    await serve_until_cancelled(ctx, lambda: {"state": "ready", "cause": "", "stats": {}})


def broker_init(brokername: str, loglevel: str | None = None) -> DaemonSpec:
    """
    Return how `brokerd.<brokername>` is started: its name, the modules it serves, the runtime's
    options of its backend.

    Raises:
      ModuleNotFoundError: no backend has this name.
      EndpointMissing: the backend cannot trade.
    """
    mod = get_brokermod(brokername)
    if "open_trade_dialog" not in get_eps(mod, "brokerd"):
        raise EndpointMissing(f"{brokername} is data-only: use paper mode")
    if missing := missing_eps(mod, "brokerd"):
        log.warning("%s lacks order endpoints: %s", brokername, ", ".join(missing))
    return DaemonSpec(
        name=f"brokerd.{brokername}",
        kind="brokerd",
        modules=list(dict.fromkeys([*_brokerd_service_mods, *backend_modules(mod)])),
        target=_setup_persistent_brokerd,
        kwargs={"brokername": brokername, "loglevel": loglevel},
        spawn_kwargs=dict(getattr(mod, "_spawn_kwargs", {})),
        policy="permanent",
        hang_s=HANG_S,
    )


def backend_modules(mod: ModuleType) -> list[str]:
    """Return the full names of the modules that a backend has its brokerd serve."""
    names = getattr(mod, "_brokerd_mods", None)
    if names is None:
        names = getattr(mod, "__enable_modules__", None)
    if names is None:  # a backend of one file
        return [mod.__name__]
    return [f"{mod.__name__}.{name}" for name in names]


@endpoint(only=("pikerd",))
async def spawn_brokerd(brokername: str, loglevel: str | None = None) -> list[Any]:
    """Start `brokerd.<brokername>` unless it runs and return its address; runs in `pikerd`."""
    return list(await ensure(broker_init(brokername, loglevel)))


@asynccontextmanager
async def maybe_spawn_brokerd(
    brokername: str, loglevel: str | None = None
) -> AsyncIterator[tractor.Portal]:
    """
    Yield a portal to the run's `brokerd.<brokername>`, started when it does not run.

    Raises:
      EndpointMissing: the backend cannot trade.
      ServiceUnavailable: it does not start; says why.
    """
    args = {"brokername": brokername, "loglevel": loglevel}
    async with maybe_spawn_daemon(f"brokerd.{brokername}", spawn_brokerd, args) as portal:
        yield portal


@asynccontextmanager
async def open_adhoc_brokerd(
    brokername: str, loglevel: str | None = None
) -> AsyncIterator[tractor.Portal]:
    """
    Yield a portal to an actor of this command's own that does what a brokerd does.

    It is called `adhoc.<brokername>.<pid>`, is a child of this process and ends with the block.

    Raises:
      EndpointMissing: the backend cannot trade.
      ServiceUnavailable: it does not start; says why.
    """
    found = broker_init(brokername, loglevel)
    spec = DaemonSpec(
        name=f"adhoc.{brokername}.{os.getpid()}",
        kind="adhoc",
        modules=found.modules,
        target=found.target,
        kwargs=found.kwargs,
        spawn_kwargs=found.spawn_kwargs,
        hang_s=HANG_S,
    )
    async with trio.open_nursery() as nursery:
        async with open_supervisor(nursery), open_own_daemon(spec) as portal:
            yield portal
