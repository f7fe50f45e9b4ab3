"""
Quote streams of a feed's client: ring records of some markets as one stream of quote dicts.

Pull all the way: each market's task reads its ring when the consumer has taken the message
before, so a slow or stopped consumer costs one pending message and its ring cursor. What it
missed is said by `resumed` and `lost` on the message it goes on with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import trio

from piker import clock
from piker.data._quotes import TICKS_MAX, QuoteFrame
from piker.data.flume import Flume, TickStream
from piker.model.ticks import GAP, TICK_DTYPE

Quotes = dict[str, dict[str, Any]]
RESUMED_S = 5.0  # real seconds that a record waited for its reader: that reader was stopped


class QuoteStream:
    """`{fqme: quote}` messages of some markets; iterate, or `await receive()`."""

    def __init__(self, flumes: Sequence[Flume], throttle_hz: float | None) -> None:
        self.flumes = tuple(flumes)
        self.throttle_hz = throttle_hz
        self._send, self._receive = trio.open_memory_channel[Quotes](0)
        self._is_running = trio.Event()
        self._is_running.set()

    def __aiter__(self) -> QuoteStream:
        return self

    async def __anext__(self) -> Quotes:
        return await self.receive()

    async def receive(self) -> Quotes:
        """Return the next message."""
        return await self._receive.receive()

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        if self._is_running.is_set():
            self._is_running = trio.Event()

    def resume(self) -> None:
        """Deliver again, from the newest record on."""
        self._is_running.set()

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[QuoteStream]:
        """Yield another stream of the same markets with a place of its own in each ring."""
        async with open_quote_stream(self.flumes, self.throttle_hz) as stream:
            yield stream

    async def run(self) -> None:
        """Read every market, for ever."""
        async with trio.open_nursery() as nursery:
            for flume in self.flumes:
                nursery.start_soon(self._read, flume)

    async def _read(self, flume: Flume) -> None:
        fqme = flume.fqme
        period_s = 1 / self.throttle_hz if self.throttle_hz else None
        frame = QuoteFrame(str(flume.first_quote.get("symbol", "")), fqme, flume.first_quote)
        async with flume.open_ticks(period_s) as ticks:
            await self._send.send({fqme: {"fqme": fqme, **flume.first_quote}})
            async for first in ticks:
                if not self._is_running.is_set():
                    await self._is_running.wait()
                    ticks.skip_to_newest()
                    continue
                records = _gather(first, ticks) if self.throttle_hz else first
                quote = frame.build(
                    records, grouped=self.throttle_hz is not None, resumed=_has_waited(first)
                )
                if quote is not None:
                    await self._send.send({fqme: quote})


def _gather(first: np.ndarray, ticks: TickStream) -> np.ndarray:
    """Return all that waits; of a long backlog only the newest, behind a GAP with the count."""
    batches, count = [first], len(first)
    while len(batch := ticks.read_nowait()):
        batches.append(batch)
        count += len(batch)
    records = np.concatenate(batches)
    if count <= TICKS_MAX:
        return records
    gaps = records[: count - TICKS_MAX + 1]
    is_gap = gaps["type"] == GAP
    lost = int(np.count_nonzero(~is_gap))
    if len(counts := gaps["tid"][is_gap]):
        lost = -1 if bool(np.any(counts < 0)) else lost + int(counts.sum())
    gap = np.zeros(1, TICK_DTYPE)
    gap["type"], gap["tid"] = GAP, lost
    return np.concatenate([gap, records[count - TICKS_MAX + 1 :]])


def _has_waited(records: np.ndarray) -> bool:
    """Whether the oldest record lay there so long that its reader must have been stopped."""
    stamps = records["time_recv_ns"][records["type"] != GAP]
    if not len(stamps):
        return False
    return bool((clock.now_ns() - int(stamps[0])) / clock.NS / clock.speed() > RESUMED_S)


@asynccontextmanager
async def open_quote_stream(
    flumes: Sequence[Flume], throttle_hz: float | None = None
) -> AsyncIterator[QuoteStream]:
    """Yield the quotes of some markets, the first quote of each at once; at most `throttle_hz`."""
    stream = QuoteStream(flumes, throttle_hz)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        yield stream
        nursery.cancel_scope.cancel()
