"""What waits to leave leaves in order, several at a time while the channel takes them."""

from __future__ import annotations

from collections import deque
from typing import Any

import shim_targets as targets
import trio
from shim_tree import open_bare_tree, start_child

from piker.clearing._stream_channel import StreamChannel
from piker.clearing._world import TOGETHER_MAX, send_some


class Wire:
    """A channel that takes messages in its caller's turn while it is free."""

    def __init__(self) -> None:
        self.is_free = True
        self.sent: list[list[Any]] = []

    async def send(self, message: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append([message])

    def send_nowait(self, *messages: Any) -> bool:
        if self.is_free:
            self.sent.append(list(messages))
        return self.is_free


async def test_what_waits_leaves_in_as_few_turns_as_it_can() -> None:
    wire, waiting = Wire(), deque(range(TOGETHER_MAX + 2))
    await send_some(wire, waiting)
    wire.is_free = False
    await send_some(wire, waiting)
    wire.is_free = True
    await send_some(wire, waiting)
    assert wire.sent == [list(range(TOGETHER_MAX)), [TOGETHER_MAX], [TOGETHER_MAX + 1]]
    assert not waiting


async def test_what_could_not_leave_still_waits() -> None:
    wire, waiting = Wire(), deque([1, 2])
    wire.is_free = False
    with trio.CancelScope() as scope:
        scope.cancel()
        await send_some(wire, waiting)
    assert list(waiting) == [1, 2]
    assert not wire.sent


async def test_more_is_told_than_is_read_in_a_turn(tmp_conf: Any) -> None:
    """A reader that falls behind for a while is told everything, in order."""
    count, padding, refused = 2_000, "x" * 2_000, 0
    async with open_bare_tree() as nursery:
        portal = await start_child(nursery)
        async with portal.open_context(targets.mirror) as (ctx, _), ctx.open_stream() as stream:
            channel = StreamChannel(stream)
            back: list[int] = []

            def take(message: list[Any], more: bool) -> bool:
                back.append(message[0])
                return True

            async def read() -> None:
                channel.on_message(take)
                async for message in channel:
                    back.append(message[0])
                    if len(back) == count:
                        break

            waiting: deque[list[Any]] = deque()
            with trio.fail_after(10):
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(read)
                    for number in range(count):
                        message = [number, padding]
                        if waiting or not channel.send_nowait(message):
                            waiting.append(message)
                            refused += 1
                        if len(waiting) >= 100:
                            await send_some(channel, waiting)
                    while waiting:
                        await send_some(channel, waiting)
                    while len(back) < count:
                        await trio.sleep(0.001)
                    tasks.cancel_scope.cancel()
            assert refused > count / 4, "the socket was never full"
            assert back == list(range(count))
            await ctx.cancel()
