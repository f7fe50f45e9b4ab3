"""A daemon that supervises another one, as `emsd` does with `paperboi`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import tractor
import trio
from sleeper_kind import get_pid, sleeperd_init

from piker.service.rpc import endpoint, serve_until_cancelled
from piker.service.supervise import (
    DaemonSpec,
    ensure,
    maybe_spawn_daemon,
    open_own_daemon,
    open_supervisor,
)


@endpoint(only=("nestd",))
@tractor.context
async def _setup_persistent_nestd(ctx: tractor.Context, mood: str) -> None:
    async with trio.open_nursery() as nursery, open_supervisor(nursery):
        await ensure(sleeperd_init("inner", mood))
        await ctx.started()
        await serve_until_cancelled(ctx, lambda: {"state": "ready", "cause": "", "stats": {}})


def nestd_init(mood: str) -> DaemonSpec:
    return DaemonSpec(
        name="nestd",
        kind="nestd",
        modules=["nested_kind"],
        target=_setup_persistent_nestd,
        kwargs={"mood": mood},
        grace_s=2.5,
    )


@endpoint(only=("nestd",))
async def get_inner_pid() -> int:
    """Return the pid of the inner daemon, which is started when it does not run."""
    async with open_own_daemon(sleeperd_init("inner", "calm")) as portal:
        return int(await portal.run(get_pid))


@endpoint(only=("pikerd",))
async def spawn_nestd(mood: str = "calm") -> list[Any]:
    return await ensure(nestd_init(mood))


@asynccontextmanager
async def maybe_spawn_nestd(mood: str = "calm") -> Any:
    async with maybe_spawn_daemon("nestd", spawn_nestd, {"mood": mood}) as portal:
        yield portal
