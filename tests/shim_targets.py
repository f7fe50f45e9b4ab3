"""Endpoints that the containment tests call in a child; imported there by name."""

from __future__ import annotations

import os
import signal
from typing import Any

import tractor
import trio

from piker.service import _tractor_shim
from piker.service._tractor_shim import endpoint

MODULES = ["piker.service._tractor_shim", "piker.service._lifeline", "shim_targets"]


async def helper() -> str:
    return "not an endpoint"


def sync_helper() -> str:
    return "not even async"


run_process = trio.run_process  # as `from trio import run_process` would leave it


@endpoint
async def echo(value: Any = None) -> Any:
    return value


@endpoint
async def pid() -> int:
    return os.getpid()


@endpoint(only=("elsewhere",))
async def served_elsewhere() -> None: ...


@endpoint
async def sleep(seconds: float) -> None:
    await trio.sleep(seconds)


@endpoint
async def fail(text: str) -> None:
    raise ValueError(text)


@endpoint
async def fail_with_surrogate() -> None:
    raise ValueError("lone \ud800 surrogate")


@endpoint
async def return_unencodable() -> Any:
    return object()


@endpoint
async def kill_yourself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@endpoint
async def end_the_runtime() -> None:
    """Ends the actor before the caller gets its answer."""
    tractor.current_actor().cancel_soon()
    await trio.sleep_forever()


@endpoint
async def counts() -> dict[str, int]:
    actor = tractor.current_actor()
    return {"contexts": len(actor._contexts), "tasks": len(actor._rpc_tasks)}


@endpoint
@tractor.context
async def idle(ctx: tractor.Context) -> None:
    await ctx.started(os.getpid())
    await trio.sleep_forever()


@endpoint
@tractor.context
async def returns(ctx: tractor.Context) -> int:
    await ctx.started()
    return 7


@endpoint
@tractor.context
async def never_started(ctx: tractor.Context) -> None:
    await trio.sleep_forever()


@endpoint
@tractor.context
async def slow_to_clean_up(ctx: tractor.Context, seconds: float) -> None:
    await ctx.started()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


@endpoint
@tractor.context
async def pump(ctx: tractor.Context, size: int, count: int = 1 << 30) -> None:
    """Stream `count` messages of `size` bytes until the caller leaves."""
    await ctx.started()
    async with ctx.open_stream() as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            for _ in range(count):
                await stream.send(b"x" * size)

        nursery.start_soon(send)
        async for _ in stream:
            pass
        nursery.cancel_scope.cancel()


@endpoint
@tractor.context
async def swallow(ctx: tractor.Context) -> int:
    """Read and count until the caller leaves its stream."""
    await ctx.started()
    count = 0
    async with ctx.open_stream() as stream:
        async for _ in stream:
            count += 1
    return count


@endpoint
@tractor.context
async def mirror(ctx: tractor.Context) -> None:
    """Send back what comes."""
    await ctx.started()
    async with ctx.open_stream() as stream:
        async for message in stream:
            await stream.send(message)


@endpoint
async def call_then_die(addr: list[Any]) -> None:
    """Hold a call, a context and a stream to the actor at `addr`, then be killed."""
    from piker.service._registry import connect

    async with connect(addr) as portal, trio.open_nursery() as nursery:

        async def hold_call() -> None:
            await portal.run(sleep, seconds=1000)

        async def hold_context() -> None:
            async with portal.open_context(idle):
                await trio.sleep_forever()

        async def hold_stream() -> None:
            async with portal.open_context(swallow) as (ctx, _), ctx.open_stream():
                await trio.sleep_forever()

        nursery.start_soon(hold_call)
        nursery.start_soon(hold_context)
        nursery.start_soon(hold_stream)
        await trio.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)


@endpoint
async def max_frame() -> int:
    return int(_tractor_shim.MAX_FRAME)
