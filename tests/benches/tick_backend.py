"""
A backend whose one market ticks 10,000 times a second: half trades, half quotes.

It has the data endpoints only and comes from nowhere: no venue, no socket. What it costs the
machine is what the tree makes of the ticks.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import tractor
import trio

from piker import clock
from piker.data.validate import FeedInit
from piker.errors import DataUnavailable
from piker.model.feed import Book, Event, FeedState, Quote, Trade
from piker.model.market import Asset, MktPair
from piker.model.ticks import FEED_LIVE
from piker.service.rpc import endpoint

TICKS_PER_S = 10_000
PERIOD_S = 0.01
MID = 60_000.0
LEVELS = 20

_datad_mods: list[str] = []
__enable_modules__: list[str] = []
_search_conf = {"pause_period": 0.06}


def market() -> MktPair:
    """Return the one market: `btcusdt.spot` of this backend."""
    return MktPair(
        dst=Asset("btc", "crypto", Decimal("0.00001")),
        src=Asset("usdt", "crypto", Decimal("0.01")),
        price_tick=Decimal("0.01"),
        size_tick=Decimal("0.00001"),
        bs_mktid="BTCUSDT",
        broker="ticks",
        venue="spot",
        _atype="crypto",
    )


@asynccontextmanager
async def get_client(**_: Any) -> AsyncIterator[None]:
    """Yield nothing: nobody is asked."""
    yield None


async def get_mkt_info(fqme: str) -> tuple[MktPair, None]:
    """Return the one market, whatever is asked for."""
    return market(), None


@asynccontextmanager
async def open_history_client(mkt: MktPair) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """Yield a client that has no history."""

    async def get_hist(
        timeframe: float, end_dt: datetime | None = None, start_dt: datetime | None = None
    ) -> tuple[np.ndarray, datetime, datetime]:
        raise DataUnavailable("ticks: there is no history", broker="ticks")

    yield get_hist, {"erlangs": 1, "rate": 1}


@endpoint(only=("datad",))
@tractor.context
async def open_symbol_search(ctx: tractor.Context) -> None:
    """Find nothing."""
    await ctx.started({})
    async with ctx.open_stream() as stream:
        async for request in stream:
            await stream.send({"id": request.get("id"), "results": {}})


async def stream_quotes(
    send_chan: trio.abc.SendChannel[dict[str, list[Event]]],
    symbols: Sequence[str],
    feed_is_live: trio.Event,
    loglevel: str | None = None,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Send ticks in lumps, each as late as the clock asks for, until cancelled."""
    mkt = market()
    task_status.started(([FeedInit(mkt)], {mkt.bs_fqme: {"last": MID, "symbol": mkt.bs_mktid}}))
    await send_chan.send({mkt.bs_fqme: [FeedState(FEED_LIVE)]})
    feed_is_live.set()
    tid, begun = 0, trio.current_time()
    for lump in range(1 << 62):
        now_ns = clock.now_ns()
        tid, events = ticks(tid, now_ns, with_book=lump % 10 == 0)
        await send_chan.send({mkt.bs_fqme: events})
        await trio.sleep_until(begun + lump * PERIOD_S)


def ticks(tid: int, now_ns: int, *, with_book: bool) -> tuple[int, list[Event]]:
    """Return the last trade id and the events of one lump: a price that swings a little."""
    events: list[Event] = []
    mid = round(MID + 20 * math.sin(now_ns / 30e9), 2)
    for _ in range(int(TICKS_PER_S * PERIOD_S) // 2):
        tid += 1
        events.append(Trade(tid, mid, 0.001, tid % 2 == 0, now_ns, now_ns))
        events.append(Quote(mid - 0.01, 1.0, mid + 0.01, 1.0, now_ns, now_ns))
    if with_book:
        bids = [(round(mid - 0.01 * (i + 1), 2), 1.0) for i in range(LEVELS)]
        asks = [(round(mid + 0.01 * (i + 1), 2), 1.0) for i in range(LEVELS)]
        events.append(Book(bids, asks, tid, now_ns, now_ns))
    return tid, events
