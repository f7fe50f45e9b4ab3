"""Bars of a venue: sums of trades, flat ones between, and Binance's long periods."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
from msgspec.structs import replace

from piker.venues._flow import DEFAULT_MARKETS, Flow
from piker.venues._market import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    TRADE_DTYPE,
    Rows,
    fill_flat,
    klines_of,
    merge_klines,
)
from piker.venues._synthetic import SyntheticSource
from piker.venues.binance._klines import klines_asked
from piker.venues.binance._wire import Wire

NOW_MS = 1_795_250_000_000
SOL = DEFAULT_MARKETS[2]


def trades(*rows: tuple[int, int, int, int]) -> Rows:
    """Return trades of (time_ms, price, size, taker_sell)."""
    out: Any = np.zeros(len(rows), TRADE_DTYPE)
    for at, (time_ms, price, size, sell) in enumerate(rows):
        out[at] = (100 + at, time_ms, price, size, sell, 0, 0)
    return np.asarray(out)


def test_bar_is_the_sum_of_its_trades() -> None:
    (bar,) = klines_of(trades((1000, 10, 2, 0), (1500, 12, 1, 1), (1999, 11, 4, 0)), 1000)
    assert [int(bar[name]) for name in ("time_ms", "open", "high", "low", "close")] == [
        1000, 10, 12, 10, 11,
    ]  # fmt: skip
    assert [int(bar[name]) for name in ("volume", "quote", "count", "first_tid")] == [7, 76, 3, 100]
    assert (int(bar["buy_volume"]), int(bar["buy_quote"])) == (6, 64)


def test_merged_bars_equal_those_of_the_longer_period() -> None:
    rows = Flow(5, SOL).hour(498_680)
    assert np.array_equal(
        merge_klines(klines_of(rows, MINUTE_MS), 5 * MINUTE_MS), klines_of(rows, 5 * MINUTE_MS)
    )


def test_periods_without_trades_stand_at_the_close_before() -> None:
    rows = klines_of(trades((2000, 10, 1, 0), (4000, 12, 1, 0)), 1000)
    filled = fill_flat(rows, 1000, 1000, 6000, 9)
    assert filled["time_ms"].tolist() == [1000, 2000, 3000, 4000, 5000]
    assert filled["close"].tolist() == [9, 10, 10, 12, 12]
    assert filled["count"].tolist() == [0, 1, 0, 1, 0]
    assert filled["first_tid"].tolist() == [-1, 100, -1, 101, -1]
    unknown = fill_flat(rows, 1000, 1000, 6000, 0)
    assert unknown["time_ms"].tolist() == [2000, 3000, 4000, 5000]


async def test_weeks_open_on_monday_and_months_on_their_first() -> None:
    source = SyntheticSource(Flow(5, SOL), NOW_MS - 2 * DAY_MS)
    (week,) = await klines_asked(source, "1w", 5, NOW_MS * 1_000_000)
    opened = datetime.fromtimestamp(int(week["time_ms"]) / 1000, UTC)
    assert (opened.weekday(), opened.hour) == (0, 0)
    (month,) = await klines_asked(source, "1M", 5, NOW_MS * 1_000_000)
    assert datetime.fromtimestamp(int(month["time_ms"]) / 1000, UTC).day == 1
    assert week["volume"] == month["volume"]


async def test_forming_bar_holds_only_what_is_public() -> None:
    flow = Flow(5, SOL)
    source = SyntheticSource(flow, NOW_MS - HOUR_MS)
    rows = await klines_asked(source, "1m", 2, NOW_MS * 1_000_000)
    open_ms = int(rows["time_ms"][-1])
    own = flow.trades_between(open_ms, NOW_MS + 1)
    assert open_ms == NOW_MS // MINUTE_MS * MINUTE_MS
    assert rows["count"][-1] == len(own)
    assert source.last_tid(NOW_MS * 1_000_000) == own["tid"][-1]


def test_amounts_are_written_with_eight_decimals() -> None:
    market = DEFAULT_MARKETS[0].market
    wire = Wire(market)
    assert wire.price(6_183_763) == "61837.63000000"
    assert wire.price(5) == "0.05000000"
    assert wire.size(2_000) == "0.02000000"
    assert wire.value(6_183_763 * 2_000) == "1236.75260000"
    whole = Wire(replace(market, price_tick=Decimal(1), size_tick=Decimal("1e-8")))
    assert whole.price(61_837) == "61837.00000000"
    assert whole.size(2_000) == "0.00002000"
    assert whole.value(61_837 * 2_000) == "1.23674000"
    fine = Wire(replace(market, price_tick=Decimal("1e-8"), size_tick=Decimal("0.1")))
    assert fine.value(123_456_789 * 15) == "1.85185183"
