"""An order daemon that only says how many orders it holds: what private runs look at."""

from __future__ import annotations

from typing import Any

import tractor

from piker.service.rpc import endpoint, serve_until_cancelled
from piker.service.supervise import DaemonSpec, ensure

_stats: dict[str, int] = {}


@endpoint(only=("emsd",))
@tractor.context
async def _setup_persistent_holder(ctx: tractor.Context, held: int) -> None:
    _stats["held"] = held
    await ctx.started()
    await serve_until_cancelled(ctx, lambda: {"state": "ready", "cause": "", "stats": dict(_stats)})


@endpoint(only=("emsd",))
async def hold(held: int) -> None:
    _stats["held"] = held


@endpoint(only=("pikerd",))
async def spawn_holder(held: int) -> list[Any]:
    return await ensure(
        DaemonSpec(
            name="emsd",
            kind="emsd",
            modules=["holder_kind"],
            target=_setup_persistent_holder,
            kwargs={"held": held},
        )
    )
