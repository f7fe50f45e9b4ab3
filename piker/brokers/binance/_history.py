"""
Binance spot's history: closed bars by time, trades by id.

Evidence (binance-spot-api-docs, 2026-07-21): the last kline of an answer is still forming and is
left out; trades are numbered without holes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from piker import clock
from piker.brokers.binance._answers import try_again_later
from piker.brokers.binance.api import INTERVALS, ROWS_MAX, Client, get_client
from piker.errors import DataUnavailable, NoData
from piker.model.bars import empty_bars
from piker.model.feed import Trade
from piker.model.market import MktPair

GetHist = Callable[..., Awaitable[tuple[np.ndarray, datetime, datetime]]]


@asynccontextmanager
async def open_history_client(mkt: MktPair) -> AsyncIterator[tuple[GetHist, dict[str, Any]]]:
    """
    Yield `(get_hist, config)` for one market.

    `get_hist(timeframe, end_dt=None, start_dt=None) -> (bars, start_dt, end_dt)`: the newest
    closed bars, at most 1000, that opened in [start_dt, end_dt), ascending, dtype BAR_DTYPE, the
    `index` meaningless; the two times are those of the first and the last bar. Without `end_dt`:
    up to now. It raises `NoData` (nothing here, step back by `config['frame_types'][timeframe]`),
    `DataUnavailable` (nothing earlier, or no such period), `DataThrottle`, `ConnectionLost`.

    `config['get_trades'](first_id, last_id, start_ns)` returns exactly the trades with these ids;
    with `first_id` None, from the first trade at or after `start_ns`.
    """
    async with get_client() as client:
        symbol = mkt.bs_mktid

        async def get_hist(
            timeframe: float, end_dt: datetime | None = None, start_dt: datetime | None = None
        ) -> tuple[np.ndarray, datetime, datetime]:
            with try_again_later():
                return await _get_frame(client, symbol, timeframe, end_dt, start_dt)

        async def get_trades(
            first_id: int | None, last_id: int, start_ns: int | None = None
        ) -> list[Trade]:
            with try_again_later():
                if first_id is None:
                    first_id = await client.first_trade_id(symbol, start_ns or 0)
                if first_id is None or first_id > last_id:
                    return []
                return await client.trades(symbol, first_id, last_id)

        yield (
            get_hist,
            {
                "erlangs": 4,
                "rate": 20,
                "frame_types": {
                    period: timedelta(seconds=period * ROWS_MAX) for period in INTERVALS
                },
                "get_trades": get_trades,
            },
        )


async def _get_frame(
    client: Client,
    symbol: str,
    timeframe: float,
    end_dt: datetime | None,
    start_dt: datetime | None,
) -> tuple[np.ndarray, datetime, datetime]:
    if timeframe not in INTERVALS:
        raise DataUnavailable(
            f"binance: no bars of {timeframe} s, expected 1 or 60", broker="binance"
        )
    period_s = int(timeframe)
    now_s = await client.venue_now_ns() // clock.NS
    end_s = now_s if end_dt is None else min(-(-int(end_dt.timestamp() * 1e6) // 1_000_000), now_s)
    start_s = end_s - period_s * ROWS_MAX
    if start_dt is not None:
        start_s = max(start_s, int(start_dt.timestamp()))
    bars = await client.bars(symbol, period_s, start_s, end_s) if start_s < end_s else empty_bars()
    if len(bars):
        first, last = (datetime.fromtimestamp(int(t), UTC) for t in bars["time"][[0, -1]])
        return bars, first, last
    begins_s = await client.first_bar_s(symbol, period_s)
    if begins_s is None or end_s <= begins_s:
        raise DataUnavailable(
            f"binance: {symbol} has no earlier bars of {period_s} s", broker="binance"
        )
    raise NoData(
        f"binance: {symbol} has no closed bars of {period_s} s in {start_s}..{end_s}",
        broker="binance",
    )
