"""A minimal daemon kind, complete: what a new one needs, and what the service tests supervise."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from typing import Any

import tractor
import trio

from piker.service.rpc import endpoint, serve_until_cancelled
from piker.service.supervise import DaemonSpec, ensure, maybe_spawn_daemon


@endpoint(only=("sleeperd",))
@tractor.context
async def _setup_persistent_sleeperd(ctx: tractor.Context, mood: str) -> None:
    if mood == "broken":
        raise ValueError("this one never starts")
    if mood == "never ready":
        await trio.sleep_forever()
    await ctx.started({"mood": mood})
    await serve_until_cancelled(
        ctx, lambda: {"state": "ready", "cause": mood, "stats": {"pid": os.getpid()}}
    )


def sleeperd_init(name: str, mood: str) -> DaemonSpec:
    return DaemonSpec(
        name=f"sleeperd.{name}",
        kind="sleeperd",
        modules=["sleeper_kind", "shim_targets"],
        target=_setup_persistent_sleeperd,
        kwargs={"mood": mood},
    )


@endpoint(only=("pikerd",))
async def spawn_sleeperd(name: str, mood: str = "calm") -> list[Any]:
    return await ensure(sleeperd_init(name, mood))


@asynccontextmanager
async def maybe_spawn_sleeperd(name: str, mood: str = "calm") -> Any:
    async with maybe_spawn_daemon(
        f"sleeperd.{name}", spawn_sleeperd, {"name": name, "mood": mood}
    ) as portal:
        yield portal


# ---- what the tests ask of it ----


async def helper() -> str:
    """Not an endpoint: must not be callable."""
    return "secret"


@endpoint(only=("sleeperd",))
async def get_pid() -> int:
    return os.getpid()


@endpoint(only=("sleeperd",))
async def sleep(seconds: float) -> None:
    await trio.sleep(seconds)


@endpoint(only=("sleeperd",))
async def stop_yourself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@endpoint(only=("sleeperd",), proven=True)
async def guarded_call(value: int) -> int:
    return value


@endpoint(only=("sleeperd",), proven=True)
@tractor.context
async def guarded_dialog(ctx: tractor.Context, value: int) -> None:
    await ctx.started(value)
    await trio.sleep_forever()
